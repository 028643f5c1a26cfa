// Pages on which the library tries out what the system says about pages, before it relies on it.
#pragma once

#include <sys/mman.h>

#include "platform/linux_syscall.hpp"
#include "platform/roots.hpp"

namespace nonreuse {

// Remembers which of a few pages were told.
class PageMarks final : public PageSink {
 public:
  PageMarks(uintptr_t base, size_t page_size) : base_(base), page_size_(page_size) {}
  void pages(Range range, RootAccess) override {
    for (uintptr_t page = range.begin; page < range.end; page += page_size_) {
      const size_t index = (page - base_) / page_size_;
      if (page < base_ || index >= 32) continue;
      bits_ |= 1u << index;
    }
  }
  unsigned bits() const { return bits_; }

 private:
  uintptr_t base_;
  size_t page_size_;
  unsigned bits_ = 0;
};

// Anonymous pages that hold nothing; 0 if there is no memory. `sharing` is MAP_PRIVATE or MAP_SHARED.
inline uintptr_t map_test_pages(size_t bytes, int sharing) {
  const long base =
      sys::call(SYS_mmap, nullptr, bytes, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);
  if (sys::failed(base)) return 0;
  // A huge page, or one of the sizes between, would make the neighbours present.
  constexpr int kAdviseNoHugePage = 15;
  sys::call(SYS_madvise, base, bytes, kAdviseNoHugePage);
  return static_cast<uintptr_t>(base);
}

}  // namespace nonreuse
