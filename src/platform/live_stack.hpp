// Which part of a thread's stack is live: for sweeps, and for who looks at a process from outside.
#pragma once

#include "base/types.hpp"

namespace nonreuse {

// A stack is live from its thread's stack pointer up; what is below is dead and full of old pointers. This
// may be said only of a mapping that is a stack and nothing else: the kernel's [stack], or what the C library
// maps for a thread by default (as large as the stack limit says, with or without the guard below it, and the
// thread's descriptor at its upper end). Elsewhere, in stacks that programs make themselves too, everything
// counts.
struct StackMapping {
  Range range;
  size_t guard_below;  // bytes of the inaccessible private mapping that ends where this one begins, if this
                       // one is anonymous and has no name; 0 if there is none
  bool main_stack;     // the kernel names it [stack]

  // `default_bytes`: of the stacks that the C library makes by default, a guard perhaps included.
  constexpr bool may_be_stack(size_t default_bytes) const {
    const size_t size = range.size();
    return main_stack || (guard_below != 0 && (size == default_bytes || guard_below + size == default_bytes));
  }

  // Of a mapping that may be a stack: where what is live begins while a thread is there. 0 if everything
  // counts, or the thread is elsewhere.
  constexpr Address live_from(Address stack_pointer, Address thread_pointer) const {
    // Bytes below the stack pointer that a function may use without moving it (System V ABI for x86-64: 128).
    constexpr Address kRedZone = 256;
    // glibc puts the thread descriptor at the upper end of the stack it maps for a thread.
    constexpr Address kDescriptorRoom = 16384;
    if (!range.contains(stack_pointer)) return 0;
    const bool whole_stack =
        main_stack || (range.contains(thread_pointer) && thread_pointer > stack_pointer &&
                       range.end - thread_pointer <= kDescriptorRoom);
    return whole_stack ? align_down(stack_pointer - kRedZone, sizeof(uint64_t)) : 0;
  }
};

}  // namespace nonreuse
