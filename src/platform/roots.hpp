// Root discovery: where in this process a pointer may be kept.
//
// A sweep must read every word of memory that the program could load a pointer from. The walker finds those
// ranges and only them: present (or swapped-out) pages of private mappings that are no longer what the file
// or the zero page says, pages of shared anonymous memory, never device memory, never what cannot be read.
// It allocates nothing, keeps no file descriptor open between two walks, and leaves errno alone.
#pragma once

#include "base/types.hpp"

namespace nonreuse {

enum class RootAccess : uint8_t {
  direct,  // private pages that are present: may be read in place
  copied,  // may vanish or fault while being read (shared memory, swapped pages): read with copy_foreign()
};

// How pages that hold something are told from pages that do not, best first.
enum class PageSource : uint8_t {
  pagemap_scan,  // ioctl PAGEMAP_SCAN (Linux 6.7): skips what is absent without looking at each page
  pagemap,       // reading /proc/self/pagemap: eight bytes a page, so it costs time for reserved memory too
  mincore,       // mincore(2): says nothing about swapped pages, so it counts only while no swap is in use
  all,           // nothing is known: every page of every root mapping is reported as `copied`
};

// Is told about pages.
class PageSink {
 public:
  // Whole pages, in ascending order, no two calls overlapping.
  virtual void pages(Range range, RootAccess access) = 0;

 protected:
  ~PageSink() = default;
};

struct RootRange {
  Range range;  // page-aligned; where an own range was cut out, aligned to 64 bytes
  RootAccess access;
  bool main_stack;      // part of the mapping the kernel names [stack]
  Range mapping;        // the whole mapping that the range is part of
  size_t guard_below;   // bytes of the inaccessible private mapping that ends where this one begins, if this
                        // one is anonymous and has no name; 0 if there is none
  uintptr_t following;  // where the next mapping begins; 0 if that is not known
};

enum class RootStatus : uint8_t {
  complete,     // every root was visited
  no_map_list,  // /proc/self/maps cannot be opened or read: roots are unknown, nothing may be released
  no_copy,      // copy_foreign() was refused by the system while the visitor used it, or is refused now,
                // and `copied` ranges were met: they could not be read, nothing may be released
  try_again,    // descriptors or memory were lacking for one of the two: nothing may be released now
};

class RootVisitor {
 public:
  // Called for each range in ascending address order, no two overlapping. Must not allocate.
  virtual void visit(const RootRange& range) = 0;
  // Asked about each private anonymous mapping, or what own ranges leave of it, before its pages are looked
  // for. True: the walker leaves it to take(), which is called at once, in the same order. Present pages of
  // it may be read in place.
  virtual bool takes(const RootRange&) { return false; }
  virtual void take(const RootRange&) {}
  // True: nothing else is looked for; visit() is not called. Asked once in a walk.
  virtual bool only_takes() { return false; }

 protected:
  ~RootVisitor() = default;
};

class RootWalker {
 public:
  // `own` are ranges that are never reported (the library's tables); at most 32, any order. Ranges that
  // only partly overlap an own range are clipped. The heap itself is reported like any private mapping.
  // The walker's static buffers are left out by itself; the frames of walk() lie on the caller's stack, so a
  // caller that reads its own stack begins at the stack pointer it had before calling.
  // Call with no other thread running, or accept that ranges may be gone by the time they are read.
  // Not thread-safe and not reentrant: one walk at a time in a process, whichever object it is called on.
  // Anything but `complete` may come after some ranges were visited.
  RootStatus walk(const Range* own, size_t own_count, RootVisitor& visitor);

  // After a walk: pages of private anonymous memory in `range` (whole pages, of one mapping or more) that
  // hold something; all of it, as `copied`, where that cannot be found out.
  void present(Range range, PageSink& sink);

  // What the last walk used to find present pages, for the statistics: "pagemap-scan", "pagemap",
  // "mincore" or "all"; "none" before the first.
  const char* page_source() const { return page_source_; }

  // The best source that later walks may use; for tests and for measuring. The default is pagemap_scan.
  void limit_page_source(PageSource best) { best_ = best; }

 private:
  const char* page_source_ = "none";
  PageSource best_ = PageSource::pagemap_scan;
  bool through_thread_ = false;  // the last walk reached this process through the thread's part of /proc
};

// Copies [from, from + size) of this process into `to` without ever faulting. Returns the bytes copied, which
// is less than size where a page cannot be read; the caller skips that page and goes on. Where the system
// refuses process_vm_readv(2) it goes through a pipe, a page at a time. Device memory is never touched by the
// former. Thread-safe, keeps errno.
size_t copy_foreign(void* to, uintptr_t from, size_t size);

// How often copy_foreign() copied less because the system gave it no means (no descriptor for a pipe, a
// system call filtered), not because memory was unreadable. A visitor that puts reading off until walk() has
// returned compares it with its value from before: a change means that roots were not read.
uint32_t copy_foreign_refusals();

}  // namespace nonreuse
