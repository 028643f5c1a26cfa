// libnonreuse_stacks.so: what recording stacks needs and the heap's library must not depend on. It is
// preloaded together with that library, which finds it through weak symbols.
//
// The unwinder is libunwind: it reads call frame information, takes its memory from mmap, and remembers for
// each thread how a frame is left, so that a stack costs nanoseconds a frame.
#include "companion/stacks.hpp"

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

namespace nonreuse::companion {

size_t capture_from(void* context, uint64_t* out, size_t most) {
  unw_cursor_t cursor;
  if (unw_init_local2(&cursor, static_cast<unw_context_t*>(context), UNW_INIT_SIGNAL_FRAME) != 0) return 0;
  size_t count = 0;
  do {
    unw_word_t counter = 0;
    if (count == most || unw_get_reg(&cursor, UNW_REG_IP, &counter) != 0 || counter == 0) break;
    out[count++] = counter;
  } while (unw_step(&cursor) > 0);
  return count;
}

}  // namespace nonreuse::companion
