// libnonreuse_stacks.so: what recording stacks needs and the heap's library must not depend on. It is
// preloaded together with that library, which finds it through weak symbols.
//
// The unwinder is libunwind: it reads call frame information, takes its memory from mmap, and remembers for
// each thread how a frame is left, so that a stack costs nanoseconds a frame.
#define UNW_LOCAL_ONLY
#include <libunwind.h>

#include <cstddef>
#include <cstdint>

extern "C" __attribute__((visibility("default"), noinline)) size_t nonreuse_capture_stack(uint64_t* out,
                                                                                         size_t most) {
  constexpr size_t kMost = 64;
  void* frames[kMost + 1];
  const size_t wanted = most < kMost ? most : kMost;
  const int count = unw_backtrace(frames, static_cast<int>(wanted + 1));
  size_t kept = 0;
  for (int i = 1; i < count; ++i) out[kept++] = reinterpret_cast<uintptr_t>(frames[i]);  // 0: this function
  return kept;
}
