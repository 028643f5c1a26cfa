#include "platform/linux_memory.hpp"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "base/settings.hpp"
#include "platform/linux_syscall.hpp"
#include "platform/linux_test_pages.hpp"
#include "platform/os.hpp"
#include "platform/zeroing.hpp"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

namespace nonreuse {
namespace {

constexpr int kReadWrite = PROT_READ | PROT_WRITE;
constexpr int kAnonymous = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

long map_fresh(uintptr_t at, size_t bytes, int protection, int flags) {
  return sys::call(SYS_mmap, at, bytes, protection, flags, -1, 0);
}

// Whether memory that is given back really reads as zeroes. Emulators accept the advice, and some do nothing.
// Asked once; a page that cannot be had says nothing.
bool giving_back_clears(size_t page) {
  enum : uint8_t { kUnknown, kYes, kNo };
  static constinit std::atomic<uint8_t> known{kUnknown};
  uint8_t answer = known.load(std::memory_order_relaxed);
  if (answer == kUnknown) {
    const uintptr_t at = map_test_pages(page, MAP_PRIVATE);
    if (at == 0) return false;
    auto* const word = reinterpret_cast<volatile uint64_t*>(at);
    *word = 1;
    const bool done = !sys::failed(sys::call(SYS_madvise, at, page, MADV_DONTNEED)) && *word == 0;
    answer = done ? kYes : kNo;
    sys::call(SYS_munmap, at, page);
    known.store(answer, std::memory_order_relaxed);
  }
  return answer == kYes;
}

constexpr int kDontUnmap = 4;  // MREMAP_DONTUNMAP, since Linux 5.7
constexpr int kMoveAndKeep = MREMAP_MAYMOVE | MREMAP_FIXED | kDontUnmap;
constexpr size_t kMostMappings = 8000;    // of 65530 that the kernel allows (vm.max_map_count)
constexpr int kAdviseCold = 20;           // MADV_COLD, since Linux 5.4
constexpr int kAdvisePopulateWrite = 23;  // MADV_POPULATE_WRITE, since Linux 5.14

// linux/fs.h, since Linux 6.11: what /proc/self/maps says of one address.
struct MappingQuery {
  uint64_t size = sizeof(MappingQuery), query_flags = 0, address = 0;
  uint64_t begin = 0, end = 0, flags = 0, page_size = 0, offset = 0, inode = 0;
  uint32_t device_major = 0, device_minor = 0, name_size = 0, build_id_size = 0;
  uint64_t name = 0, build_id = 0;
};
static_assert(sizeof(MappingQuery) == 104);
constexpr unsigned long kQueryMapping = _IOWR('f', 17, MappingQuery);
constexpr uint64_t kReadableAndWritable = 3, kPlainFlags = 15;  // of these, neither executable nor shared

// The bytes of one mapping, which the program has left as it was. From Linux 6.17 on a move of several moves
// some of them and fails then; and what was done to a mapping would travel with the pages. Kernels that
// cannot tell count as no.
size_t plain_bytes(uintptr_t at, size_t bytes, size_t page) {
  const long file = sys::call(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_NOCTTY | O_CLOEXEC);
  if (sys::failed(file)) return 0;
  MappingQuery query;
  query.address = at;
  const bool told = !sys::failed(sys::call(SYS_ioctl, file, kQueryMapping, &query));
  sys::call(SYS_close, file);
  if (!told || query.begin > at || query.end <= at || query.inode != 0) return 0;
  if ((query.flags & kPlainFlags) != kReadableAndWritable) return 0;
  // A move unlocks the whole mapping (mlock(2)). A locked one refuses this advice, which concerns a page that
  // is about to be left.
  if (sys::failed(sys::call(SYS_madvise, at, page, kAdviseCold))) return 0;
  return query.end - at < bytes ? query.end - at : bytes;
}

// Whether pages can be moved so that their old place stays mapped. Older kernels refuse; emulators may do
// something else. Asked once.
bool moving_works(size_t page) {
  enum : uint8_t { kUnknown, kYes, kNo };
  static constinit std::atomic<uint8_t> known{kUnknown};
  uint8_t answer = known.load(std::memory_order_relaxed);
  if (answer == kUnknown) {
    const uintptr_t at = map_test_pages(2 * page, MAP_PRIVATE);
    if (at == 0) return false;
    auto* const from = reinterpret_cast<volatile uint64_t*>(at);
    auto* const to = reinterpret_cast<volatile uint64_t*>(at + page);
    *from = 1;
    unsigned char resident = 0;
    const bool done =
        sys::call(SYS_mremap, at, page, page, kMoveAndKeep, at + page) == static_cast<long>(at + page) &&
        !sys::failed(sys::call(SYS_mincore, at, page, &resident)) && *to == 1 && *from == 0;
    answer = done ? kYes : kNo;
    sys::call(SYS_munmap, at, 2 * page);
    known.store(answer, std::memory_order_relaxed);
  }
  return answer == kYes;
}

// 0: they cannot be seen.
size_t count_mappings() {
  const long file = sys::call(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_NOCTTY | O_CLOEXEC);
  if (sys::failed(file)) return 0;
  size_t lines = 0;
  char text[4096];
  for (long got; (got = sys::call(SYS_read, file, text, sizeof text)) > 0;) {
    for (long i = 0; i < got; ++i) lines += text[i] == '\n';
  }
  sys::call(SYS_close, file);
  return lines;
}

// The one region of a build without HAVE_MMAP: uninitialised static data, backed when touched.
constexpr size_t kStaticRegion = kHaveMmap ? 16 : kStaticHeapBytes;
[[maybe_unused]] alignas(65536) char static_region[kStaticRegion];

}  // namespace

AddressClaim LinuxMemory::claim(size_t bytes) {
  page_size_ = os::page_size();
  if constexpr (!kHaveMmap)
    return {reinterpret_cast<uintptr_t>(static_region), align_down(kStaticRegion, page_size_)};
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  return claim_reserved(bytes);
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
  return claim_reserved(bytes);
#endif
#endif
  const AddressClaim claimed = claim_unreserved(bytes);
  return claimed.size != 0 ? claimed : claim_reserved(bytes);
}

// 47-bit user space: somewhere in [16 TiB, 40 TiB), below where programs, libraries and stacks are put.
// 39-bit user space (some arm64 kernels): smaller, in [64 GiB, 256 GiB).
AddressClaim LinuxMemory::claim_unreserved(size_t bytes) {
  struct Zone {
    uintptr_t low, high;
    size_t most;
  };
  constexpr Zone kZones[] = {{uintptr_t{16} << 40, uintptr_t{40} << 40, size_t{4} << 40},
                             {uintptr_t{64} << 30, uintptr_t{256} << 30, size_t{64} << 30}};
  constexpr uintptr_t kStep = uintptr_t{1} << 30;
  for (const Zone& zone : kZones) {
    const size_t size = bytes < zone.most ? bytes : zone.most;
    for (int attempt = 0; attempt < 8; ++attempt) {
      const uintptr_t places = (zone.high - zone.low - size) / kStep;
      const uintptr_t base = zone.low + os::random_word() % places * kStep;
      // A probe at either end: the whole claim must lie in user space and look empty.
      bool usable = true;
      for (const uintptr_t at : {base, base + size - page_size_}) {
        const long got = map_fresh(at, page_size_, PROT_NONE, kAnonymous | MAP_FIXED_NOREPLACE);
        if (!sys::failed(got)) sys::call(SYS_munmap, got, page_size_);
        usable = usable && static_cast<uintptr_t>(got) == at;
      }
      if (usable) return {base, size};
    }
  }
  return {};
}

AddressClaim LinuxMemory::claim_reserved(size_t bytes) {
  if (bytes > (size_t{64} << 30)) bytes = size_t{64} << 30;
  for (; bytes >= (size_t{64} << 20); bytes /= 2) {
    const long got = map_fresh(0, bytes, PROT_NONE, kAnonymous);
    if (sys::failed(got)) continue;
    reserved_ = true;
    return {static_cast<uintptr_t>(got), bytes};
  }
  return {};
}

CommitResult LinuxMemory::commit(uintptr_t address, size_t bytes) {
  if constexpr (!kHaveMmap) {
    const uintptr_t region = reinterpret_cast<uintptr_t>(static_region);
    return address + bytes <= region + kStaticRegion ? CommitResult::done : CommitResult::no_memory;
  }
  if (reserved_) {
    return sys::failed(sys::call(SYS_mprotect, address, bytes, kReadWrite)) ? CommitResult::no_memory
                                                                            : CommitResult::done;
  }
  const long got = map_fresh(address, bytes, kReadWrite, kAnonymous | MAP_FIXED_NOREPLACE);
  if (got == -EEXIST) return CommitResult::occupied;
  if (sys::failed(got)) return CommitResult::no_memory;
  if (static_cast<uintptr_t>(got) != address) {  // before Linux 4.17 the flag is only a hint
    sys::call(SYS_munmap, got, bytes);
    return CommitResult::occupied;
  }
  return CommitResult::done;
}

bool LinuxMemory::uncommit(uintptr_t address, size_t bytes) {
  if constexpr (!kHaveMmap) return false;
  if (!reserved_) return !sys::failed(sys::call(SYS_munmap, address, bytes));
  return !sys::failed(map_fresh(address, bytes, PROT_NONE, kAnonymous | MAP_FIXED));
}

bool LinuxMemory::discard(uintptr_t address, size_t bytes) {
  if constexpr (!kHaveMmap) return false;
  return giving_back_clears(page_size_) &&
         !sys::failed(sys::call(SYS_madvise, address, bytes, MADV_DONTNEED));
}

// A fault of each page by itself costs twice as much and more.
// Source: madvise(2). A filter may stop a process for an advice that it does not know.
void LinuxMemory::populate(uintptr_t address, size_t bytes) {
  if (!populates_.load(std::memory_order_relaxed)) return;
  // What is lacking (memory, a mapping that the program has changed) is met by whoever touches the page.
  if (sys::filtered() || sys::call(SYS_madvise, address, bytes, kAdvisePopulateWrite) == -EINVAL)
    populates_.store(false, std::memory_order_relaxed);
}

bool LinuxMemory::trap(uintptr_t address, size_t bytes) {
  if constexpr (!kHaveMmap) return false;
  if (traps_left_.fetch_sub(1, std::memory_order_relaxed) > 0) {
    if (!sys::failed(sys::call(SYS_mprotect, address, bytes, PROT_NONE))) {
      if (discard(address, bytes)) return true;
      sys::call(SYS_mprotect, address, bytes, kReadWrite);
    }
  }
  traps_left_.fetch_add(1, std::memory_order_relaxed);
  return false;
}

bool LinuxMemory::untrap(uintptr_t address, size_t bytes) {
  if (sys::failed(sys::call(SYS_mprotect, address, bytes, kReadWrite))) return false;
  traps_left_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

size_t LinuxMemory::movable(uintptr_t from, size_t bytes) {
  // A filter may stop a process for calls that it does not know.
  if (!kHaveMmap || reserved_ || sys::filtered()) return 0;
  return moving_works(page_size_) && may_move() ? plain_bytes(from, bytes, page_size_) : 0;
}

bool LinuxMemory::may_move() {
  const int left = moves_left_.fetch_sub(1, std::memory_order_relaxed);
  if (left > 0) return true;
  // Where there are too many mappings, or they cannot be counted, that many moves are refused before the next
  // look.
  if (left > -kMovesBetweenCounts && left != 0) return false;
  const size_t mappings = count_mappings();
  const bool few = mappings != 0 && mappings < kMostMappings;
  moves_left_.store(few ? kMovesBetweenCounts : -1, std::memory_order_relaxed);
  return few;
}

// mremap(2) clears the way first, and may fail then.
MoveResult LinuxMemory::move(uintptr_t from, uintptr_t to, size_t bytes) {
  const long got = sys::call(SYS_mremap, from, bytes, bytes, kMoveAndKeep, to);
  if (!sys::failed(got)) return MoveResult::moved;
  const long again = map_fresh(to, bytes, kReadWrite, kAnonymous | MAP_FIXED_NOREPLACE);
  return !sys::failed(again) || again == -EEXIST ? MoveResult::refused : MoveResult::lost;
}

void LinuxMemory::zero(uintptr_t address, size_t bytes) {
  if (bytes < kSparse) {
    memset(pointer(address), 0, bytes);
  } else {
    for_present(address, bytes, [](uintptr_t at, size_t size) { memset(pointer(at), 0, size); });
  }
}

bool LinuxMemory::make_zero(uintptr_t address, size_t bytes) {
  if (bytes < kSparse) return zero_where_dirty(pointer(address), bytes, page_size_);
  bool dirty = false;
  for_present(address, bytes,
              [&](uintptr_t at, size_t size) { dirty |= zero_where_dirty(pointer(at), size, page_size_); });
  return dirty;
}

// Calls f(address, bytes) for what is in memory; the rest, which nobody has touched or the system has swapped
// out, is given back. To clear it would bring it in: a fault a page, and memory that the program never used.
// What is said to be there, and is not, is cleared all the same.
template <class F>
void LinuxMemory::for_present(uintptr_t address, size_t bytes, F&& f) {
  constexpr size_t kAsked = 1024;  // pages at once
  unsigned char present[kAsked];
  const uintptr_t first = align_up(address, page_size_), last = align_down(address + bytes, page_size_);
  if (first > address) f(address, first - address);
  for (uintptr_t at = first; at < last;) {
    const size_t pages = (last - at) / page_size_ < kAsked ? (last - at) / page_size_ : kAsked;
    if (!may_ask_for_present() || sys::failed(sys::call(SYS_mincore, at, pages * page_size_, present))) {
      f(at, last - at);
      break;
    }
    for (size_t i = 0, alike; i < pages; i = alike) {
      const bool there = (present[i] & 1) != 0;
      for (alike = i + 1; alike < pages && ((present[alike] & 1) != 0) == there;) ++alike;
      const size_t size = (alike - i) * page_size_;
      if (there || sys::failed(sys::call(SYS_madvise, at, size, MADV_DONTNEED))) f(at, size);
      at += size;
    }
  }
  if (address + bytes > last) f(last, address + bytes - last);
}

// A filter may stop a process for calls that it does not know.
bool LinuxMemory::may_ask_for_present() {
  return kHaveMmap && giving_back_clears(page_size_) && !sys::filtered();
}

}  // namespace nonreuse
