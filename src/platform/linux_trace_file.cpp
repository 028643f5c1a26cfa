// trace_file.hpp on Linux.
#include "platform/trace_file.hpp"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "platform/linux_syscall.hpp"
#include "platform/os.hpp"

namespace nonreuse::os {

void kernel_trace(uint64_t, size_t, uint64_t) {}  // Linux has no such thing

const char* trouble_text(FileTrouble trouble) {
  switch (trouble) {
    case FileTrouble::none:
      return "nothing";
    case FileTrouble::foreign:
      return "it holds something else than a trace";
    case FileTrouble::no_file:
      return "it is no regular file";
    case FileTrouble::no_space:
      return "no space is left there";
    case FileTrouble::size_limit:
      return "the limit for file sizes is reached";
    case FileTrouble::denied:
      return "permission denied";
    case FileTrouble::missing:
      return "there is no such folder";
    case FileTrouble::too_many:
      return "too many files are open";
    case FileTrouble::no_memory:
      return "no address space is left";
    case FileTrouble::replaced:
      return "the program closed it, and it cannot be opened again";
    case FileTrouble::other:
      break;
  }
  return "it cannot be written to";
}

namespace {

constexpr int kFileSizeLimit = 1;  // RLIMIT_FSIZE
constexpr int kHighDescriptor = 200;

FileTrouble trouble_of(long result) {
  switch (-result) {
    case ENOSPC:
    case EDQUOT:
      return FileTrouble::no_space;
    case EFBIG:
      return FileTrouble::size_limit;
    case EACCES:
    case EPERM:
    case EROFS:
      return FileTrouble::denied;
    case ENOENT:
    case ENOTDIR:
      return FileTrouble::missing;
    case EMFILE:
    case ENFILE:
      return FileTrouble::too_many;
    case ENOMEM:
      return FileTrouble::no_memory;
    case EISDIR:
    case ENXIO:
      return FileTrouble::no_file;
    default:
      return FileTrouble::other;
  }
}

// Backs [offset, offset + size) with disk space: a store to a page that cannot be had would be SIGBUS, and
// a file beyond the limit SIGXFSZ.
FileTrouble reserve(long descriptor, uint64_t offset, size_t size) {
  uint64_t limit[2] = {0, 0};
  if (!sys::failed(sys::call(SYS_prlimit64, 0, kFileSizeLimit, nullptr, limit)) && limit[0] < offset + size)
    return FileTrouble::size_limit;
  long done;
  do {
    done = sys::call(SYS_fallocate, descriptor, 0, offset, size);
  } while (done == -EINTR);
  if (!sys::failed(done)) return FileTrouble::none;
  if (done != -EOPNOTSUPP) return trouble_of(done);
  // A file system without fallocate: zeroes are written, which reserves as well.
  static constexpr char kZeroes[4096] = {};
  for (size_t at = 0; at < size;) {
    const size_t piece = size - at < sizeof kZeroes ? size - at : sizeof kZeroes;
    const long written = sys::call(SYS_pwrite64, descriptor, kZeroes, piece, offset + at);
    if (written == -EINTR) continue;
    if (written <= 0) return written == 0 ? FileTrouble::no_space : trouble_of(written);
    at += static_cast<size_t>(written);
  }
  return FileTrouble::none;
}

// Out of the way of programs that expect low numbers.
long moved_up(long descriptor) {
  const long high = sys::call(SYS_fcntl, descriptor, F_DUPFD_CLOEXEC, kHighDescriptor);
  if (sys::failed(high)) return descriptor;
  sys::call(SYS_close, descriptor);
  return high;
}

size_t length_of(const char* text, size_t most) {
  size_t length = 0;
  while (length < most && text[length] != '\0') ++length;
  return length;
}

}  // namespace

FileTrouble TraceFile::open(const char* path, const void* header, size_t size, size_t magic_bytes,
                            size_t page_bytes) {
  size_t at = 0;
  if (path[0] != '/') {
    const long got = sys::call(SYS_getcwd, path_, 512);
    if (sys::failed(got)) return FileTrouble::missing;
    at = length_of(path_, 511);
    path_[at++] = '/';
  }
  const size_t length = length_of(path, 512);
  for (size_t i = 0; i < length; ++i) path_[at + i] = path[i];
  path_[at + length] = '\0';

  long descriptor =
      sys::call(SYS_openat, AT_FDCWD, path_, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666);
  if (sys::failed(descriptor)) return trouble_of(descriptor);
  descriptor = moved_up(descriptor);
  struct stat status;
  FileTrouble trouble = FileTrouble::none;
  while (sys::call(SYS_flock, descriptor, LOCK_EX) == -EINTR) {
  }
  const long known = sys::call(SYS_fstat, descriptor, &status);
  if (sys::failed(known) || !S_ISREG(status.st_mode)) {
    trouble = FileTrouble::no_file;
  } else if (status.st_size == 0) {
    trouble = reserve(descriptor, 0, page_bytes);
    if (trouble == FileTrouble::none) {
      const long written = sys::call(SYS_pwrite64, descriptor, header, size, 0);
      if (written != static_cast<long>(size)) trouble = FileTrouble::other;
    }
    // Whoever comes next shall find nothing, or the whole header.
    if (trouble != FileTrouble::none) sys::call(SYS_ftruncate, descriptor, 0);
  } else {
    char found[64] = {};
    const long got = sys::call(SYS_pread64, descriptor, found, magic_bytes, 0);
    const bool same = got == static_cast<long>(magic_bytes) && magic_bytes <= sizeof found &&
                      __builtin_memcmp(found, header, magic_bytes) == 0 &&
                      static_cast<size_t>(status.st_size) >= page_bytes;
    if (!same) trouble = FileTrouble::foreign;
  }
  sys::call(SYS_flock, descriptor, LOCK_UN);
  if (trouble == FileTrouble::none) {
    const long mapped =
        sys::call(SYS_mmap, nullptr, page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (sys::failed(mapped)) {
      trouble = trouble_of(mapped);
    } else {
      header_ = reinterpret_cast<void*>(mapped);
      header_bytes_ = page_bytes;
      device_ = status.st_dev;
      node_ = status.st_ino;
      descriptor_ = static_cast<int>(descriptor);
    }
  }
  if (trouble != FileTrouble::none) sys::call(SYS_close, descriptor);
  return trouble;
}

void TraceFile::close() {
  if (header_ != nullptr) sys::call(SYS_munmap, header_, header_bytes_);
  if (descriptor_ >= 0 && is_ours(descriptor_)) sys::call(SYS_close, descriptor_);
  header_ = nullptr;
  descriptor_ = -1;
}

bool TraceFile::is_ours(long descriptor) const {
  struct stat status;
  return !sys::failed(sys::call(SYS_fstat, descriptor, &status)) && status.st_dev == device_ &&
         status.st_ino == node_;
}

FileTrouble TraceFile::reopen() {
  const long descriptor = sys::call(SYS_openat, AT_FDCWD, path_, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (sys::failed(descriptor)) return descriptor == -EMFILE ? FileTrouble::too_many : FileTrouble::replaced;
  if (!is_ours(descriptor)) {
    sys::call(SYS_close, descriptor);
    return FileTrouble::replaced;
  }
  __atomic_store_n(&descriptor_, static_cast<int>(moved_up(descriptor)), __ATOMIC_RELAXED);
  return FileTrouble::none;
}

FileTrouble TraceFile::map(uint64_t offset, size_t size, void** out) {
  // Threads may do this at once: each keeps the descriptor that it found good. At worst one too many is open.
  int descriptor = __atomic_load_n(&descriptor_, __ATOMIC_RELAXED);
  if (descriptor < 0 || !is_ours(descriptor)) {
    const FileTrouble trouble = reopen();
    if (trouble != FileTrouble::none) return trouble;
    descriptor = __atomic_load_n(&descriptor_, __ATOMIC_RELAXED);
  }
  const FileTrouble trouble = reserve(descriptor, offset, size);
  if (trouble != FileTrouble::none) return trouble;
  const long mapped =
      sys::call(SYS_mmap, nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, offset);
  if (sys::failed(mapped)) return trouble_of(mapped);
  sys::call(SYS_madvise, mapped, size, MADV_DONTFORK);
  // All pages at once: less than half of what a fault for each costs. Kernels before 5.14 do not know it.
  constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE
  sys::call(SYS_madvise, mapped, size, kPopulateWrite);
  *out = reinterpret_cast<void*>(mapped);
  return FileTrouble::none;
}

void TraceFile::unmap(void* address, size_t size) {
  sys::call(SYS_munmap, address, size);
}

uint32_t* map_page_wiped_by_fork() {
  const size_t size = page_size();
  const long mapped =
      sys::call(SYS_mmap, nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (sys::failed(mapped)) return nullptr;
  if (!sys::failed(sys::call(SYS_madvise, mapped, size, MADV_WIPEONFORK)))
    return reinterpret_cast<uint32_t*>(mapped);
  sys::call(SYS_munmap, mapped, size);
  return nullptr;
}

}  // namespace nonreuse::os
