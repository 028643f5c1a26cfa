#include "platform/linux_pages.hpp"

#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

#include "platform/linux_maps.hpp"
#include "platform/linux_pagemap_scan.hpp"
#include "platform/linux_syscall.hpp"
#include "platform/linux_test_pages.hpp"

namespace nonreuse {
namespace {

// Bits of an entry of /proc/self/pagemap.
constexpr uint64_t kEntryPresent = uint64_t{1} << 63;
constexpr uint64_t kEntrySwapped = uint64_t{1} << 62;
constexpr uint64_t kEntryFile = uint64_t{1} << 61;
constexpr uint64_t kEntryGuard = uint64_t{1} << 58;  // always 0 before Linux 6.15

enum class Verdict : uint8_t { unknown, good, bad };

// What the tests of this process have shown; one walk at a time, so plain variables.
Verdict verdicts[3];  // by PageSource
Verdict shared_verdict;
bool guard_is_unknown;  // to this kernel's PAGEMAP_SCAN
uint64_t known_shm_device;

// Any swap slot in use in the machine. mincore() calls swapped pages absent, so what it says is worth
// nothing then. Asked after mincore(): a page gets its slot before it leaves memory.
bool swap_in_use() {
  struct sysinfo info;
  if (sys::failed(sys::call(SYS_sysinfo, &info))) return true;
  return info.freeswap != info.totalswap;
}

// Joins neighbours of one kind before the sink sees them.
class Joiner {
 public:
  explicit Joiner(PageSink& sink) : sink_(sink) {}
  ~Joiner() { flush(); }
  Joiner(const Joiner&) = delete;
  Joiner& operator=(const Joiner&) = delete;

  void add(Range range, RootAccess access) {
    if (range_.end == range.begin && access_ == access && !range_.empty()) {
      range_.end = range.end;
      return;
    }
    flush();
    range_ = range;
    access_ = access;
  }

 private:
  void flush() {
    if (!range_.empty()) sink_.pages(range_, access_);
  }

  PageSink& sink_;
  Range range_;
  RootAccess access_ = RootAccess::direct;
};

constexpr size_t kTestPages = 3;

}  // namespace

void PageFinder::open(PageSource best, ProcSelf self, bool shared) {
  if (page_size_ == 0) page_size_ = getauxval(AT_PAGESZ);
  if (best <= PageSource::pagemap) {
    const char* path = self == ProcSelf::process ? "/proc/self/pagemap" : "/proc/thread-self/pagemap";
    const long fd = sys::call(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    pagemap_ = sys::failed(fd) ? -1 : static_cast<int>(fd);
  }
  source_ = best;
  while (source_ != PageSource::all && !usable(source_)) fall();
  shared_by_mincore_ = shared && best != PageSource::all && test_shared();
}

void PageFinder::close() {
  if (pagemap_ >= 0) sys::call(SYS_close, pagemap_);
  pagemap_ = -1;
}

void PageFinder::fall() {
  if (source_ != PageSource::all) source_ = static_cast<PageSource>(static_cast<uint8_t>(source_) + 1);
}

// A verdict is kept only if the test could be made: a full descriptor table is no reason to go without
// pagemap for ever.
bool PageFinder::usable(PageSource source) {
  if (source == PageSource::all) return true;
  if (source <= PageSource::pagemap && pagemap_ < 0) return false;
  Verdict& verdict = verdicts[static_cast<size_t>(source)];
  if (verdict == Verdict::unknown) {
    const uintptr_t pages = map_test_pages(kTestPages * page_size_, MAP_PRIVATE);
    if (pages == 0) return false;
    const bool good = test_pages(source, pages);
    sys::call(SYS_munmap, pages, kTestPages * page_size_);
    // mincore() cannot be tested while swap is in use, and is not believed then either.
    if (source == PageSource::mincore && swap_in_use()) return true;
    verdict = good ? Verdict::good : Verdict::bad;
  }
  return verdict == Verdict::good;
}

// Of three pages the middle one is written: it must be told, the first one must not. An emulator's pagemap is
// that of other addresses; a sandbox's mincore calls everything resident.
bool PageFinder::test_pages(PageSource source, uintptr_t pages) {
  *reinterpret_cast<volatile uintptr_t*>(pages + page_size_) = 1;
  const Range range{pages, pages + kTestPages * page_size_};
  PageMarks marks(pages, page_size_);
  uintptr_t done = range.begin;
  switch (source) {
    case PageSource::pagemap_scan:
      while (done < range.end && scan_once(range, true, done, marks)) {
      }
      break;
    case PageSource::pagemap:
      done = read_pagemap(range, marks);
      break;
    case PageSource::mincore:
      done = ask_mincore(range, RootAccess::direct, marks);
      break;
    case PageSource::all:
      break;
  }
  return done == range.end && marks.bits() == 1u << 1;
}

// mincore() must call a shared page resident that has left our page table, as it does in every kernel but
// some of the beginning of 2019.
bool PageFinder::test_shared() {
  if (shared_verdict == Verdict::unknown) {
    const uintptr_t pages = map_test_pages(kTestPages * page_size_, MAP_SHARED);
    if (pages == 0) return false;
    const Range range{pages, pages + kTestPages * page_size_};
    *reinterpret_cast<volatile uintptr_t*>(pages + page_size_) = 1;
    sys::call(SYS_madvise, range.begin, range.size(), MADV_DONTNEED);
    PageMarks marks(pages, page_size_);
    const bool answered = ask_mincore(range, RootAccess::copied, marks) == range.end;
    sys::call(SYS_munmap, range.begin, range.size());
    if (swap_in_use()) return true;  // untested, and not believed
    shared_verdict = answered && marks.bits() == 1u << 1 ? Verdict::good : Verdict::bad;
  }
  return shared_verdict == Verdict::good;
}

uint64_t PageFinder::shm_device() {
  if (known_shm_device != 0) return known_shm_device;
  const long fd = sys::call(SYS_memfd_create, "", 1u /* MFD_CLOEXEC */);
  if (sys::failed(fd)) return 0;
  struct statx status;
  if (!sys::failed(sys::call(SYS_statx, fd, "", 0x1000 /* AT_EMPTY_PATH */, 0, &status))) {
    known_shm_device = make_device(status.stx_dev_major, status.stx_dev_minor);
  }
  sys::call(SYS_close, fd);
  return known_shm_device;
}

// Asks once from `done` on and moves `done` past what was answered. False if the kernel refuses.
bool PageFinder::scan_once(Range span, bool files, uintptr_t& done, PageSink& sink) {
  constexpr size_t kCapacity = sizeof buffers_.regions / sizeof buffers_.regions[0];
  for (;;) {
    const uint64_t absent = (files ? kPageFile : 0) | kPageZero | (guard_is_unknown ? 0 : kPageGuard);
    ScanArguments arguments{};
    arguments.size = sizeof arguments;
    arguments.start = done;
    arguments.end = span.end;
    arguments.regions = reinterpret_cast<uintptr_t>(buffers_.regions);
    arguments.region_count = kCapacity;
    arguments.inverted = absent;
    arguments.all_of = absent;
    arguments.any_of = kPagePresent | kPageSwapped;
    arguments.returned = kPagePresent;
    const long count = sys::call(SYS_ioctl, pagemap_, kPagemapScan, &arguments);
    if (count == -EINVAL && !guard_is_unknown) {
      guard_is_unknown = true;
      continue;
    }
    if (sys::failed(count) || static_cast<size_t>(count) > kCapacity) return false;
    for (long i = 0; i < count; ++i) {
      const PageRegion& region = buffers_.regions[i];
      const bool present = (region.categories & kPagePresent) != 0;
      sink.pages(Range{region.start, region.end}, present ? RootAccess::direct : RootAccess::copied);
    }
    // walk_end is where the kernel last ran out of room, of ours or of its own smaller buffer, so it may lie
    // before the last region though all of the span was walked. With room left in ours, it was.
    if (static_cast<size_t>(count) < kCapacity) {
      done = span.end;
    } else {
      const uintptr_t told = buffers_.regions[count - 1].end;
      done = arguments.walk_end > told && arguments.walk_end <= span.end ? arguments.walk_end : told;
    }
    return true;
  }
}

uintptr_t PageFinder::scan(Range span, bool files, PageSink& sink) {
  if (source_ != PageSource::pagemap_scan) return span.begin;
  uintptr_t done = span.begin;
  while (done < span.end) {
    if (!scan_once(span, files, done, sink)) {
      do {
        fall();
      } while (!usable(source_));
      break;
    }
  }
  return done;
}

// Returns up to where it could be read.
uintptr_t PageFinder::read_pagemap(Range range, PageSink& sink) {
  constexpr size_t kCapacity = sizeof buffers_.entries / sizeof buffers_.entries[0];
  Joiner joiner(sink);
  uintptr_t at = range.begin;
  while (at < range.end) {
    const size_t left = (range.end - at) / page_size_;
    const size_t wanted = left < kCapacity ? left : kCapacity;
    const long got = sys::call(SYS_pread64, pagemap_, buffers_.entries, wanted * sizeof(uint64_t),
                               at / page_size_ * sizeof(uint64_t));
    if (got == -EINTR) continue;
    if (sys::failed(got) || static_cast<size_t>(got) < sizeof(uint64_t)) return at;
    const size_t count = static_cast<size_t>(got) / sizeof(uint64_t);
    for (size_t i = 0; i < count; ++i, at += page_size_) {
      const uint64_t entry = buffers_.entries[i];
      if ((entry & (kEntryPresent | kEntrySwapped)) == 0 || (entry & (kEntryFile | kEntryGuard)) != 0)
        continue;
      const RootAccess access = (entry & kEntryPresent) != 0 ? RootAccess::direct : RootAccess::copied;
      joiner.add(Range{at, at + page_size_}, access);
    }
  }
  return at;
}

// Returns up to where it answered. Where swap is in use all is told, as `copied`.
uintptr_t PageFinder::ask_mincore(Range range, RootAccess access, PageSink& sink) {
  constexpr size_t kCapacity = sizeof buffers_.resident;
  Joiner joiner(sink);
  uintptr_t at = range.begin;
  unsigned tries_left = 100;  // EAGAIN: the kernel has no page to answer in
  while (at < range.end) {
    const size_t left = (range.end - at) / page_size_;
    const size_t count = left < kCapacity ? left : kCapacity;
    const long result = sys::call(SYS_mincore, at, count * page_size_, buffers_.resident);
    if (result == -EINTR) continue;
    if (result == -EAGAIN && tries_left > 0) {
      --tries_left;
      sys::call(SYS_sched_yield);
      continue;
    }
    if (sys::failed(result)) return at;
    if (swap_in_use()) {
      joiner.add(Range{at, at + count * page_size_}, RootAccess::copied);
      at += count * page_size_;
      continue;
    }
    for (size_t i = 0; i < count; ++i, at += page_size_) {
      if ((buffers_.resident[i] & 1) != 0) joiner.add(Range{at, at + page_size_}, access);
    }
  }
  return at;
}

void PageFinder::private_pages(Range range, bool file, PageSink& sink) {
  uintptr_t at = range.begin;
  while (at < range.end) {
    const Range left{at, range.end};
    switch (source_) {
      case PageSource::pagemap_scan:
        at = scan(left, file, sink);
        continue;
      case PageSource::pagemap:
        at = read_pagemap(left, sink);
        break;
      case PageSource::mincore:
        // A page of the file may be called resident and lie past the file's end.
        at = ask_mincore(left, file ? RootAccess::copied : RootAccess::direct, sink);
        break;
      case PageSource::all:
        sink.pages(left, RootAccess::copied);
        return;
    }
    if (at < range.end) {
      do {
        fall();
      } while (!usable(source_));
    }
  }
}

void PageFinder::shared_pages(Range range, PageSink& sink) {
  uintptr_t at = range.begin;
  if (shared_by_mincore_) at = ask_mincore(range, RootAccess::copied, sink);
  if (at < range.end) sink.pages(Range{at, range.end}, RootAccess::copied);
}

}  // namespace nonreuse
