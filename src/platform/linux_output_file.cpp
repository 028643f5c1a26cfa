// output_file.hpp on Linux.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/report.hpp"
#include "platform/linux_syscall.hpp"
#include "platform/os.hpp"
#include "platform/output_file.hpp"

namespace nonreuse {
namespace {

constexpr int kFileSizeLimit = 1;              // RLIMIT_FSIZE
constexpr uint64_t kPatience = 1'000'000'000;  // nanoseconds that a pipe may be full
constexpr int kWrite = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY;

// S_IFMT bits of what is at `path` itself; 0: nothing.
unsigned kind_of(const char* path) {
  struct stat found {};  // as the kernel has it, on all 64-bit machines
  if (sys::failed(sys::call(SYS_newfstatat, AT_FDCWD, path, &found, AT_SYMLINK_NOFOLLOW))) return 0;
  return found.st_mode & S_IFMT;
}

}  // namespace

bool OutputFile::fail(long error) {
  if (error_ == 0) error_ = error;
  return false;
}

bool OutputFile::open_directly() {
  fresh_[0] = '\0';
  const bool append = strncmp(path_, "/dev/", 5) == 0 || strncmp(path_, "/proc/", 6) == 0;
  // A pipe that nobody reads must not keep the process from ending.
  fd_ = sys::call(SYS_openat, AT_FDCWD, path_, kWrite | O_NONBLOCK | (append ? O_APPEND : O_TRUNC), 0666);
  return sys::failed(fd_) ? fail(-fd_) : true;
}

bool OutputFile::open(const char* path) {
  const size_t length = strlen(path);
  if (length >= kLongest) return fail(ENAMETOOLONG);
  memcpy(path_, path, length + 1);
  uint64_t limit[2] = {0, 0};
  sys::call(SYS_prlimit64, 0, kFileSizeLimit, nullptr, limit);
  room_ = limit[0];
  const unsigned kind = kind_of(path_);
  if (kind != 0 && kind != S_IFREG) return open_directly();
  Line end;
  end.text(".new.").number(static_cast<uint64_t>(os::process_id()));
  memcpy(fresh_, path_, length);
  memcpy(fresh_ + length, end.c_str(), end.size() + 1);
  sys::call(SYS_unlinkat, AT_FDCWD, fresh_, 0);  // of a process that had the same number and was killed
  fd_ = sys::call(SYS_openat, AT_FDCWD, fresh_, kWrite | O_EXCL | O_NOFOLLOW, 0666);
  return sys::failed(fd_) ? open_directly() : true;
}

// Room in a pipe, or nothing that has to be waited for. A write to one that has no reader would be a SIGPIPE.
bool OutputFile::await_room() {
  pollfd wait{static_cast<int>(fd_), POLLOUT, 0};
  const timespec limit{kPatience / 1'000'000'000, kPatience % 1'000'000'000};
  const long ready = sys::call(SYS_ppoll, &wait, 1, &limit, nullptr, 0);
  if (ready == 0) return fail(EAGAIN);
  return (wait.revents & POLLERR) == 0 || fail(EPIPE);
}

bool OutputFile::write(const char* text, size_t size) {
  while (size > 0 && error_ == 0) {
    if (size > room_) return fail(EFBIG);
    if (fresh_[0] == '\0' && !await_room()) return false;
    const long written = sys::call(SYS_write, fd_, text, size);
    if (written == -EINTR || written == -EAGAIN) continue;
    if (written <= 0) return fail(written == 0 ? ENOSPC : -written);
    text += written;
    size -= static_cast<size_t>(written);
    room_ -= static_cast<uint64_t>(written);
  }
  return error_ == 0;
}

bool OutputFile::close() {
  const long closed = sys::call(SYS_close, fd_);
  if (sys::failed(closed)) fail(-closed);
  if (fresh_[0] == '\0') return error_ == 0;
  if (error_ == 0) {
    const long renamed = sys::call(SYS_renameat2, AT_FDCWD, fresh_, AT_FDCWD, path_, 0);
    if (sys::failed(renamed)) fail(-renamed);
  }
  if (error_ != 0) sys::call(SYS_unlinkat, AT_FDCWD, fresh_, 0);
  return error_ == 0;
}

bool make_absolute(char* path, size_t capacity) {
  if (path[0] == '/') return true;
  char folder[4096];
  const long got = sys::call(SYS_getcwd, folder, sizeof folder);  // bytes with the NUL
  if (sys::failed(got) || folder[0] != '/') return false;
  const size_t length = strlen(path), before = static_cast<size_t>(got);
  if (before + length + 1 > capacity) return false;
  memmove(path + before, path, length + 1);
  memcpy(path, folder, before - 1);
  path[before - 1] = '/';
  return true;
}

}  // namespace nonreuse
