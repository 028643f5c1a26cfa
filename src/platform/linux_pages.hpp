// Which pages of a mapping hold something: asked of the kernel without touching them.
// Sources: linux Documentation/admin-guide/mm/pagemap.rst (PAGEMAP_SCAN, bits of pagemap), mincore(2).
#pragma once

#include "base/types.hpp"
#include "platform/roots.hpp"

namespace nonreuse {

// One answer of PAGEMAP_SCAN (struct page_region).
struct PageRegion {
  uint64_t start;
  uint64_t end;
  uint64_t categories;
};

// What the kernel writes its answers into. They are full of addresses, so the owner keeps this out of the
// roots.
union PageBuffers {
  PageRegion regions[160];  // the kernel allocates as much in each call: keep it within a small page
  uint64_t entries[2048];
  unsigned char resident[16384];
};

// Through which directory of /proc this process is reached: /proc/self is empty once the main thread has
// ended.
enum class ProcSelf : uint8_t { process, thread };

// Not thread-safe. Between open() and close() it may hold one file descriptor.
class PageFinder {
 public:
  explicit PageFinder(PageBuffers& buffers) : buffers_(buffers) {}

  // Takes the best source that is not better than `best`, can be had now, and has told the truth about pages
  // of its own (asked once in a process). `shared`: shared_pages() will be called.
  void open(PageSource best, ProcSelf self, bool shared = true);
  void close();
  PageSource source() const { return source_; }  // can fall from one call to the next, never rise
  size_t page_size() const { return page_size_; }

  // The device of the kernel's own tmpfs, as classify() wants it; 0 if it cannot be known.
  uint64_t shm_device();

  // Pages of private memory anywhere in `span`, which may hold several mappings and gaps, that are not the
  // file's and not the zero page. `files`: mappings of files are among them; without, the kernel need not
  // look at each page's description, which takes it two thirds of the time. Asks PAGEMAP_SCAN alone and
  // returns up to where it has answered: `span.end`, or less if it failed; then source() has fallen. Also
  // tells about mappings that are not private.
  uintptr_t scan(Range span, bool files, PageSink& sink);

  // The same for one private mapping, by whichever source is left. Also pages of the file (`file`: there is
  // one) are told where the source cannot tell them apart, then as `copied`.
  void private_pages(Range range, bool file, PageSink& sink);

  // Pages of memory shared under tmpfs that hold something, be they in our page table or not; all `copied`.
  void shared_pages(Range range, PageSink& sink);

 private:
  bool usable(PageSource source);
  bool test_shared();
  bool test_pages(PageSource source, uintptr_t pages);
  void fall();
  uintptr_t read_pagemap(Range range, PageSink& sink);
  uintptr_t ask_mincore(Range range, RootAccess access, PageSink& sink);
  bool scan_once(Range span, bool files, uintptr_t& done, PageSink& sink);

  PageBuffers& buffers_;
  int pagemap_ = -1;
  PageSource source_ = PageSource::all;
  bool shared_by_mincore_ = false;
  size_t page_size_ = 0;
};

}  // namespace nonreuse
