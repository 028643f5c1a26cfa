// Making the calling thread's registers visible to a scan of its stack, and cleaning up behind one.
#pragma once

#include "platform/attributes.hpp"

#include "base/types.hpp"

namespace nonreuse {

// Calls body(stack_pointer) with every register that calls preserve stored on the stack at or above
// stack_pointer. Registers that calls do not preserve cannot hold a value of the caller's across this call.
template <class Body>
NONREUSE_NOINLINE void with_registers_spilled(Body& body) {
#if defined(__x86_64__)
  uintptr_t saved[6];
  __asm__ volatile(
      "movq %%rbx, 0(%0)\n\tmovq %%rbp, 8(%0)\n\tmovq %%r12, 16(%0)\n\t"
      "movq %%r13, 24(%0)\n\tmovq %%r14, 32(%0)\n\tmovq %%r15, 40(%0)"
      :
      : "r"(saved)
      : "memory");
#elif defined(__aarch64__)
  uintptr_t saved[20];
  __asm__ volatile(
      "stp x19, x20, [%0, #0]\n\tstp x21, x22, [%0, #16]\n\tstp x23, x24, [%0, #32]\n\t"
      "stp x25, x26, [%0, #48]\n\tstp x27, x28, [%0, #64]\n\tstp x29, x30, [%0, #80]\n\t"
      "stp d8, d9, [%0, #96]\n\tstp d10, d11, [%0, #112]\n\tstp d12, d13, [%0, #128]\n\tstp d14, d15, [%0, "
      "#144]"
      :
      : "r"(saved)
      : "memory");
#else
  uintptr_t saved[64];
  __builtin_unwind_init();
  saved[0] = 0;
#endif
  uintptr_t start = reinterpret_cast<uintptr_t>(saved);
  const uintptr_t frame = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  if (frame < start) start = frame;
  body(start);
  __asm__ volatile("" : : "r"(saved) : "memory");  // keeps the stores, and makes this no tail call
}

// Clears what calls that have returned left below the caller's frame. A sweep handles addresses of
// quarantined chunks; left on the stack of a thread that ends they would hold these chunks for as long as the
// C library keeps the stack.
NONREUSE_NOINLINE inline void wipe_dead_frames() {
  constexpr size_t kDepth = 6 * 1024;  // what a sweep uses; it must fit every stack that a sweep fits
  char frames[kDepth];
  __builtin_memset(frames, 0, sizeof frames);
  __asm__ volatile("" : : "m"(frames) : "memory");
}

}  // namespace nonreuse
