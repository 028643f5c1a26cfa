#include <errno.h>
#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include <atomic>
#include <initializer_list>

#include "platform/linux_pagemap_scan.hpp"
#include "platform/linux_pages.hpp"
#include "platform/linux_syscall.hpp"
#include "platform/linux_test_pages.hpp"
#include "platform/os.hpp"
#include "platform/write_tracker.hpp"

namespace nonreuse {
namespace {

// Of linux/userfaultfd.h, whose older versions lack the asynchronous mode.
struct ApiArguments {
  uint64_t version;
  uint64_t features;
  uint64_t calls;
};
struct RegisterArguments {
  uint64_t start;
  uint64_t bytes;
  uint64_t mode;
  uint64_t calls;
};
struct ProtectArguments {
  uint64_t start;
  uint64_t bytes;
  uint64_t mode;  // 0: no longer
};
constexpr unsigned long kProtect = _IOWR(0xAA, 0x06, ProtectArguments);
constexpr unsigned long kApi = _IOWR(0xAA, 0x3F, ApiArguments);
constexpr unsigned long kRegister = _IOWR(0xAA, 0x00, RegisterArguments);
constexpr uint64_t kVersion = 0xAA;
constexpr uint64_t kAsynchronous = uint64_t{1} << 15;
constexpr uint64_t kWriteProtect = 2;
constexpr long kUserModeOnly = 1;

constexpr size_t kTestPages = 6;

// Where the processors give up their old translations of armed pages, the stores that were made through them
// are complete: by the interrupt and the order of stores on x86-64, by TLBI and DSB on aarch64. Nobody
// promises that elsewhere.
#if defined(__x86_64__) || defined(__aarch64__)
constexpr bool kArmingOrdersStores = true;
#else
constexpr bool kArmingOrdersStores = false;
#endif

// Of linux/membarrier.h. A barrier in every thread: stores made before pages were armed are visible after.
constexpr long kBarrier = 1 << 3, kBarrierRegister = 1 << 4;  // MEMBARRIER_CMD_(REGISTER_)PRIVATE_EXPEDITED

}  // namespace

bool WriteTracker::begin() {
  // A filter may end the process for calls that it does not know.
  if (verdict_ == Verdict::bad || sys::filtered()) return false;
  if (!open()) {
    end();
    return false;
  }
  if (verdict_ == Verdict::unknown) verdict_ = test();
  if (verdict_ == Verdict::good) return true;
  end();
  return false;
}

// Programs count on the lowest free descriptors; ours go far up. A descriptor is closed only if it is still
// what it was: the program may have closed it, and opened something else of that number.
bool WriteTracker::Handle::take(long opened) {
  if (sys::failed(opened)) return false;
  struct {
    uint64_t soft, hard;
  } limit{};
  sys::call(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &limit);
  constexpr uint64_t kHigh = 1000, kRoom = 16;
  const uint64_t least = limit.soft > kHigh + kRoom ? kHigh : limit.soft > 2 * kRoom ? limit.soft - kRoom : 0;
  const long high = sys::call(SYS_fcntl, opened, F_DUPFD_CLOEXEC, least);
  sys::call(SYS_close, opened);
  if (sys::failed(high)) return false;
  fd_ = static_cast<int>(high);
  return identify(&device_, &inode_);
}

bool WriteTracker::Handle::identify(uint64_t* device, uint64_t* inode) const {
  struct stat status {};
  if (sys::failed(sys::call(SYS_fstat, fd_, &status))) return false;
  *device = status.st_dev;
  *inode = status.st_ino;
  return true;
}

void WriteTracker::Handle::drop() {
  uint64_t device = 0, inode = 0;
  if (fd_ >= 0 && identify(&device, &inode) && device == device_ && inode == inode_) {
    sys::call(SYS_close, fd_);
  }
  fd_ = -1;
}

bool WriteTracker::open() {
  if (sys::failed(sys::call(SYS_membarrier, kBarrierRegister, 0, 0))) return false;
  // Enough for asynchronous protection, also of writes by the kernel: no fault is ever handed to anybody.
  if (!faults_.take(sys::call(SYS_userfaultfd, O_CLOEXEC | kUserModeOnly))) return false;
  ApiArguments api{kVersion, kAsynchronous, 0};
  if (sys::failed(sys::call(SYS_ioctl, faults_.fd(), kApi, &api)) || (api.features & kAsynchronous) == 0)
    return false;
  for (const char* path : {"/proc/self/pagemap", "/proc/thread-self/pagemap"}) {
    if (pagemap_.take(sys::call(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOCTTY))) return true;
  }
  return false;
}

void WriteTracker::end() {
  faults_.drop();
  pagemap_.drop();
  lost_ = false;
}

bool WriteTracker::claim(Range mapping, uintptr_t following) {
  // There may be something in the hole by now that cannot be tracked.
  return (following > mapping.end && enlist({mapping.begin, following})) || enlist(mapping);
}

bool WriteTracker::enlist(Range range) {
  RegisterArguments mapping{range.begin, range.size(), kWriteProtect, 0};
  return !sys::failed(sys::call(SYS_ioctl, faults_.fd(), kRegister, &mapping));
}

void WriteTracker::arm(Range range, bool fenced, PageSink& sink, Answers& answers) {
  const bool fence = fenced || !kArmingOrdersStores;
  if (!ask(range, fence ? Question::protect_fenced : Question::protect, sink, answers)) lose();
}

void WriteTracker::disarm(Range range) {
  constexpr size_t kPart = size_t{4} << 20;
  for (uintptr_t at = range.begin; at < range.end; at += kPart) {
    const uintptr_t end = range.end - at < kPart ? range.end : at + kPart;
    ProtectArguments part{at, end - at, 0};
    sys::call(SYS_ioctl, faults_.fd(), kProtect, &part);
  }
}

void WriteTracker::after_fork_in_child() {
  end();  // they are about the parent's memory
  verdict_ = Verdict::unknown;
}

bool WriteTracker::written(Range range, PageSink& sink, Answers& answers) {
  return !lost() && ask_roughly(range, sink, answers);
}

// The system has a short way, twice as fast, for who wants to know nothing but what was written, pages that
// hold nothing among it: the full question is asked only about what that finds.
bool WriteTracker::ask_roughly(Range range, PageSink& sink, Answers& answers) {
  constexpr size_t kRegions = Answers::kCount;
  // To ask about so much costs less than to ask twice.
  constexpr uintptr_t kGap = 512 * 1024;
  static_assert(sizeof answers.rough[0] == sizeof(PageRegion));
  auto* const regions = reinterpret_cast<PageRegion*>(answers.rough);
  for (uintptr_t at = range.begin; at < range.end;) {
    ScanArguments scan{};
    scan.size = sizeof scan;
    scan.flags = kScanChecked;
    scan.start = at;
    scan.end = range.end;
    scan.regions = reinterpret_cast<uintptr_t>(regions);
    scan.region_count = kRegions;
    scan.all_of = kPageWritten;
    scan.returned = kPageWritten;
    const long count = sys::call(SYS_ioctl, pagemap_.fd(), kPagemapScan, &scan);
    if (sys::failed(count) || static_cast<size_t>(count) > kRegions) return false;
    for (long i = 0; i < count;) {
      Range span{regions[i].start, regions[i].end};
      for (++i; i < count && regions[i].start - span.end < kGap; ++i) span.end = regions[i].end;
      if (!ask(span, Question::written, sink, answers)) return false;
    }
    if (static_cast<size_t>(count) < kRegions) return true;
    at = regions[count - 1].end;
  }
  return true;
}

// Tells pages that hold something and are not write-protected; protects them first where that is asked.
// Pages that hold nothing are left alone: to protect them would fill page tables.
bool WriteTracker::ask(Range range, Question question, PageSink& sink, Answers& answers) {
  static_assert(sizeof answers.regions[0] == sizeof(PageRegion));
  auto* const regions = reinterpret_cast<PageRegion*>(answers.regions);
  constexpr size_t kRegions = Answers::kCount;
  // Guard pages cannot be read. Before Linux 6.15 they cannot be told from swapped ones.
  static constinit std::atomic<bool> guards_known{true};
  bool guards_are_known = guards_known.load(std::memory_order_relaxed);
  for (uintptr_t at = range.begin; at < range.end;) {
    ScanArguments scan{};
    scan.size = sizeof scan;
    scan.flags = question == Question::written ? kScanChecked : kScanChecked | kScanProtect;
    scan.start = at;
    scan.end = range.end;
    scan.regions = reinterpret_cast<uintptr_t>(regions);
    scan.region_count = kRegions;
    scan.inverted = guards_are_known ? kPageGuard : 0;
    scan.all_of = kPageWritten | scan.inverted;
    scan.any_of = kPagePresent | kPageSwapped;
    scan.returned = kPageSwapped;
    const long count = sys::call(SYS_ioctl, pagemap_.fd(), kPagemapScan, &scan);
    if (count == -EINVAL && guards_are_known) {
      guards_are_known = false;
      guards_known.store(false, std::memory_order_relaxed);
      continue;
    }
    if (sys::failed(count) || static_cast<size_t>(count) > kRegions) return false;
    const bool fence = question == Question::protect_fenced;
    if (fence && sys::failed(sys::call(SYS_membarrier, kBarrier, 0, 0))) return false;
    for (long i = 0; i < count; ++i) {
      const bool swapped = (regions[i].categories & kPageSwapped) != 0;
      sink.pages({regions[i].start, regions[i].end}, swapped ? RootAccess::copied : RootAccess::direct);
    }
    if (static_cast<size_t>(count) < kRegions) return true;
    at = regions[count - 1].end;
  }
  return true;
}

// Makes a mapping of its own and asks about it. A mapping that cannot be had says nothing about the system.
WriteTracker::Verdict WriteTracker::test() {
  const size_t page = getauxval(AT_PAGESZ);
  const uintptr_t base = map_test_pages(kTestPages * page, MAP_PRIVATE);
  const uintptr_t moved = map_test_pages(page, MAP_PRIVATE);
  Verdict verdict = Verdict::unknown;
  if (base != 0 && moved != 0) {
    const uintptr_t last = base + (kTestPages - 1) * page;
    const bool good = notes_writes({base, last}) && notes_moves({moved, moved + page}, last);
    verdict = good ? Verdict::good : Verdict::bad;
  }
  if (base != 0) sys::call(SYS_munmap, base, kTestPages * page);
  return verdict;
}

// Of armed pages one is written by a store and one by the kernel; a third is given back and comes anew; one
// that held nothing at first is written for the first time; one is left alone.
bool WriteTracker::notes_writes(Range pages) {
  const size_t page = getauxval(AT_PAGESZ);
  const auto word = [&](size_t index) {
    return reinterpret_cast<volatile uintptr_t*>(pages.begin + index * page);
  };
  for (size_t i = 0; i < 4; ++i) *word(i) = 1;
  Answers answers;
  PageMarks armed(pages.begin, page), before(pages.begin, page);
  if (!claim(pages)) return false;
  arm(pages, true, armed, answers);
  if (armed.bits() != 0b1111 || !written(pages, before, answers) || before.bits() != 0) return false;
  *word(0) = 2;
  if (sys::failed(sys::call(SYS_clock_gettime, CLOCK_MONOTONIC, pages.begin + 2 * page))) return false;
  sys::call(SYS_madvise, pages.begin + 3 * page, page, MADV_DONTNEED);
  *word(3) = 4;
  *word(4) = 5;
  constexpr unsigned kExpected = 0b11101;
  PageMarks after(pages.begin, page), again(pages.begin, page), none(pages.begin, page);
  if (!written(pages, after, answers) || after.bits() != kExpected) return false;
  arm(pages, true, again, answers);
  if (again.bits() != kExpected) return false;
  if (!written(pages, none, answers) || none.bits() != 0 || *word(0) != 2) return false;
  uint64_t least = ~uint64_t{0};
  for (size_t i : {0, 2, 3, 4}) {
    const uint64_t begin = os::now_ns();
    *word(i) = 6;
    const uint64_t took = os::now_ns() - begin;
    if (took < least) least = took;
  }
  fault_ns_ = least;
  arming_ns_ = time_arming(pages, answers);
  return !lost();
}

// Nanoseconds that each further page costs, disarming included: what a call costs beside is paid for many.
uint64_t WriteTracker::time_arming(Range pages, Answers& answers) {
  const size_t page = getauxval(AT_PAGESZ);
  const auto shortest = [&](Range range) {
    uint64_t least = ~uint64_t{0};
    for (int i = 0; i < 6; ++i) {
      PageMarks armed(range.begin, page);
      const uint64_t begin = os::now_ns();
      arm(range, false, armed, answers);
      disarm(range);
      const uint64_t took = os::now_ns() - begin;
      if (took < least) least = took;
    }
    return least;
  };
  disarm(pages);
  const uint64_t one = shortest({pages.begin, pages.begin + page}), all = shortest(pages);
  return all > one ? (all - one) / (pages.size() / page - 1) : 0;
}

// A page that is moved must not look armed where it arrives: before Linux 6.13 it did, and later writes to it
// were not noted. It is moved into the mapping made for the test; where it came from is left to whoever maps
// something there next.
bool WriteTracker::notes_moves(Range from, uintptr_t to) {
  *reinterpret_cast<volatile uintptr_t*>(from.begin) = 1;
  Answers answers;
  PageMarks armed(from.begin, from.size()), after(to, from.size());
  if (!claim(from)) return false;
  arm(from, true, armed, answers);
  const long moved =
      sys::call(SYS_mremap, from.begin, from.size(), from.size(), MREMAP_MAYMOVE | MREMAP_FIXED, to);
  if (sys::failed(moved)) return false;
  return armed.bits() == 1 && claim({to, to + from.size()}) &&
         written({to, to + from.size()}, after, answers) && after.bits() == 1;
}

}  // namespace nonreuse
