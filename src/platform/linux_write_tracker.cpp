#include <errno.h>
#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <initializer_list>

#include "platform/linux_pagemap_scan.hpp"
#include "platform/linux_pages.hpp"
#include "platform/linux_syscall.hpp"
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
constexpr unsigned long kApi = _IOWR(0xAA, 0x3F, ApiArguments);
constexpr unsigned long kRegister = _IOWR(0xAA, 0x00, RegisterArguments);
constexpr uint64_t kVersion = 0xAA;
constexpr uint64_t kAsynchronous = uint64_t{1} << 15;
constexpr uint64_t kWriteProtect = 2;
constexpr long kUserModeOnly = 1;

// Remembers which of three pages were told.
class Marks final : public WriteSink {
 public:
  Marks(uintptr_t base, size_t page) : base_(base), page_(page) {}
  void written(Range pages, RootAccess) override {
    for (uintptr_t at = pages.begin; at < pages.end; at += page_) bits_ |= 1u << ((at - base_) / page_ & 31);
  }
  unsigned bits() const { return bits_; }

 private:
  uintptr_t base_;
  size_t page_;
  unsigned bits_ = 0;
};

constexpr size_t kTestPages = 5;

// Of linux/membarrier.h. A barrier in every thread: stores made before pages were armed are visible after.
constexpr long kBarrier = 1 << 3, kBarrierRegister = 1 << 4;  // MEMBARRIER_CMD_(REGISTER_)PRIVATE_EXPEDITED

}  // namespace

bool WriteTracker::begin() {
  // A filter may end the process for calls that it does not know.
  if (verdict_ == Verdict::bad || sys::call(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0, 0) != 0) return false;
  if (!open()) {
    end();
    return false;
  }
  if (verdict_ == Verdict::unknown) verdict_ = test() ? Verdict::good : Verdict::bad;
  if (verdict_ == Verdict::good) return true;
  end();
  return false;
}

bool WriteTracker::open() {
  if (sys::failed(sys::call(SYS_membarrier, kBarrierRegister, 0, 0))) return false;
  // Enough for asynchronous protection, also of writes by the kernel: no fault is ever handed to anybody.
  const long faults = sys::call(SYS_userfaultfd, O_CLOEXEC | kUserModeOnly);
  if (sys::failed(faults)) return false;
  faults_ = static_cast<int>(faults);
  ApiArguments api{kVersion, kAsynchronous, 0};
  if (sys::failed(sys::call(SYS_ioctl, faults_, kApi, &api)) || (api.features & kAsynchronous) == 0)
    return false;
  long pagemap = -1;
  for (const char* path : {"/proc/self/pagemap", "/proc/thread-self/pagemap"}) {
    pagemap = sys::call(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (!sys::failed(pagemap)) break;
  }
  if (sys::failed(pagemap)) return false;
  pagemap_ = static_cast<int>(pagemap);
  return true;
}

void WriteTracker::end() {
  if (faults_ >= 0) sys::call(SYS_close, faults_);
  if (pagemap_ >= 0) sys::call(SYS_close, pagemap_);
  faults_ = pagemap_ = -1;
  lost_ = false;
}

// Fails where somebody else tracks the range.
bool WriteTracker::is_ours(Range range) {
  RegisterArguments mapping{range.begin, range.size(), kWriteProtect, 0};
  return !sys::failed(sys::call(SYS_ioctl, faults_, kRegister, &mapping));
}

void WriteTracker::arm(Range range, WriteSink& sink) {
  if (!is_ours(range)) return;
  if (!ask(range, kScanChecked | kScanProtect, sink)) lost_ = true;
}

void WriteTracker::after_fork_in_child() {
  end();  // they are about the parent's memory
  verdict_ = Verdict::unknown;
}

bool WriteTracker::written(Range range, WriteSink& sink) {
  return knows(range) && ask(range, kScanChecked, sink);
}

// Tells pages that hold something and are not write-protected; protects them first where the flags say so.
// Pages that hold nothing are left alone: to protect them would fill page tables.
bool WriteTracker::ask(Range range, uint64_t flags, WriteSink& sink) {
  constexpr size_t kRegions = 64;  // on the stack of whoever frees
  PageRegion regions[kRegions];
  for (uintptr_t at = range.begin; at < range.end;) {
    ScanArguments scan{};
    scan.size = sizeof scan;
    scan.flags = flags;
    scan.start = at;
    scan.end = range.end;
    scan.regions = reinterpret_cast<uintptr_t>(regions);
    scan.region_count = kRegions;
    scan.all_of = kPageWritten;
    scan.any_of = kPagePresent | kPageSwapped;
    scan.returned = kPageSwapped;
    const long count = sys::call(SYS_ioctl, pagemap_, kPagemapScan, &scan);
    if (sys::failed(count) || static_cast<size_t>(count) > kRegions) return false;
    if ((flags & kScanProtect) != 0 && sys::failed(sys::call(SYS_membarrier, kBarrier, 0, 0))) return false;
    for (long i = 0; i < count; ++i) {
      const bool swapped = (regions[i].categories & kPageSwapped) != 0;
      sink.written({regions[i].start, regions[i].end}, swapped ? RootAccess::copied : RootAccess::direct);
    }
    if (static_cast<size_t>(count) < kRegions) return true;
    at = regions[count - 1].end;
  }
  return true;
}

// Of armed pages one is written by a store and one by the kernel; a third is given back and comes anew; one
// that held nothing at first is written for the first time; one is moved away and back, which must disarm it
// (before Linux 6.13 it looked armed afterwards, and a later write to it was not noted).
bool WriteTracker::test() {
  const size_t page = getauxval(AT_PAGESZ);
  int ends[2];
  if (sys::failed(sys::call(SYS_pipe2, ends, O_CLOEXEC | O_NONBLOCK))) return false;
  const long base = sys::call(SYS_mmap, nullptr, kTestPages * page, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  bool good = false;
  if (!sys::failed(base)) {
    const auto begin = static_cast<uintptr_t>(base);
    good = tested({begin, begin + kTestPages * page}, ends);
    sys::call(SYS_munmap, base, kTestPages * page);
  }
  sys::call(SYS_close, ends[0]);
  sys::call(SYS_close, ends[1]);
  return good;
}

bool WriteTracker::moved_away_and_back(uintptr_t at, size_t size) {
  const long other = sys::call(SYS_mmap, nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (sys::failed(other)) return false;
  constexpr int kThere = MREMAP_MAYMOVE | MREMAP_FIXED;
  const long away = sys::call(SYS_mremap, at, size, size, kThere, other);
  const long back = sys::failed(away) ? away : sys::call(SYS_mremap, other, size, size, kThere, at);
  if (sys::failed(away)) sys::call(SYS_munmap, other, size);
  return !sys::failed(back);
}

bool WriteTracker::tested(Range pages, int ends[2]) {
  const size_t page = pages.size() / kTestPages;
  const auto word = [&](size_t index) {
    return reinterpret_cast<volatile uintptr_t*>(pages.begin + index * page);
  };
  for (size_t i = 0; i + 1 < kTestPages; ++i) *word(i) = 1;
  Marks armed(pages.begin, page);
  arm(pages, armed);
  if (armed.bits() != 0b1111) return false;
  Marks before(pages.begin, page);
  if (!written(pages, before) || before.bits() != 0) return false;
  *word(0) = 2;
  uint64_t message = 3;
  if (sys::call(SYS_write, ends[1], &message, sizeof message) != sizeof message) return false;
  if (sys::call(SYS_read, ends[0], pages.begin + 2 * page, sizeof message) != sizeof message) return false;
  sys::call(SYS_madvise, pages.begin + 3 * page, page, MADV_DONTNEED);
  *word(3) = 4;
  *word(4) = 5;
  if (!moved_away_and_back(pages.begin + page, page)) return false;
  constexpr unsigned kExpected = 0b11111;
  Marks after(pages.begin, page), again(pages.begin, page), none(pages.begin, page);
  if (!written(pages, after) || after.bits() != kExpected) return false;
  arm(pages, again);
  if (again.bits() != kExpected) return false;
  return written(pages, none) && none.bits() == 0 && *word(0) == 2 && *word(2) == 3;
}

}  // namespace nonreuse
