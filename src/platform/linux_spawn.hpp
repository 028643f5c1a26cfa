// A process of its own that shares our memory: what a thread may not do (trace its siblings, take faults
// without the program's handlers, be no thread when the program counts its threads), it may.
#pragma once

#include <fcntl.h>
#include <sched.h>

#include "platform/attributes.hpp"
#include "platform/linux_syscall.hpp"

namespace nonreuse::sys {

// The new process borrows its creator's thread pointer: then it may use nothing that lies behind it.
inline constexpr uintptr_t kCallersThread = 0;

struct SpawnPlace {
  uintptr_t stack_top;       // aligned to 16
  uintptr_t thread_pointer;  // or kCallersThread
  uint32_t* ended;  // the kernel writes 0 there when the process ends, and wakes it as a shared futex
};

// False where the next child would be the first process of another process-id namespace, which ends with it
// (unshare(2) or setns(2) with CLONE_NEWPID), or where that cannot be told. The program's own first child
// must be that.
NONREUSE_READS_ANY_MEMORY inline bool children_stay_in_namespace() {
  char ours[64], childrens[64];
  const long length = call(SYS_readlinkat, AT_FDCWD, "/proc/thread-self/ns/pid", ours, sizeof ours);
  const long other =
      call(SYS_readlinkat, AT_FDCWD, "/proc/thread-self/ns/pid_for_children", childrens, sizeof childrens);
  if (failed(length) || length != other) return false;
  for (long i = 0; i < length; ++i) {
    if (ours[i] != childrens[i]) return false;
  }
  return true;
}

// Runs `function(argument)` in the new process, which exits with what that returns. Its process id, or
// -errno. It has no exit signal: no wait(2) but one with __WALL or __WCLONE sees it. Its table of descriptors
// is the program's until it makes its own. clone(2).
NONREUSE_READS_ANY_MEMORY NONREUSE_NOINLINE inline long spawn_sharing_memory(long (*function)(void*),
                                                                             void* argument,
                                                                             const SpawnPlace& place) {
  const long flags = CLONE_VM | CLONE_FILES | CLONE_UNTRACED | CLONE_CHILD_CLEARTID |
                     (place.thread_pointer != kCallersThread ? CLONE_SETTLS : 0);
#if defined(__x86_64__)
  long result;
  register long ended __asm__("r10") = reinterpret_cast<long>(place.ended);
  register long tls __asm__("r8") = static_cast<long>(place.thread_pointer);
  register long entry __asm__("r12") = reinterpret_cast<long>(function);
  register long given __asm__("r13") = reinterpret_cast<long>(argument);
  __asm__ volatile(
      "syscall\n\t"
      "test %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xor %%ebp, %%ebp\n\t"
      "mov %%r13, %%rdi\n\t"
      "call *%%r12\n\t"
      "mov %%eax, %%edi\n\t"
      "mov %[exit], %%eax\n\t"
      "syscall\n\t"
      "ud2\n"
      "1:"
      : "=a"(result)
      : "a"(SYS_clone), "D"(flags), "S"(place.stack_top), "d"(0L), "r"(ended), "r"(tls), "r"(entry),
        "r"(given), [exit] "i"(SYS_exit)
      : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long number __asm__("x8") = SYS_clone;
  register long x0 __asm__("x0") = flags;
  register long stack __asm__("x1") = static_cast<long>(place.stack_top);
  register long parent_tid __asm__("x2") = 0;
  register long tls __asm__("x3") = static_cast<long>(place.thread_pointer);
  register long ended __asm__("x4") = reinterpret_cast<long>(place.ended);
  register long entry __asm__("x9") = reinterpret_cast<long>(function);
  register long given __asm__("x10") = reinterpret_cast<long>(argument);
  __asm__ volatile(
      "svc 0\n\t"
      "cbnz x0, 1f\n\t"
      "mov x29, xzr\n\t"
      "mov x30, xzr\n\t"
      "mov x0, x10\n\t"
      "blr x9\n\t"
      "mov x8, %[exit]\n\t"
      "svc 0\n\t"
      "brk 1\n"
      "1:"
      : "+r"(x0)
      : "r"(number), "r"(stack), "r"(parent_tid), "r"(tls), "r"(ended), "r"(entry),
        "r"(given), [exit] "i"(SYS_exit)
      : "memory");
  return x0;
#else
  register long number __asm__("a7") = SYS_clone;
  register long a0 __asm__("a0") = flags;
  register long stack __asm__("a1") = static_cast<long>(place.stack_top);
  register long parent_tid __asm__("a2") = 0;
  register long tls __asm__("a3") = static_cast<long>(place.thread_pointer);
  register long ended __asm__("a4") = reinterpret_cast<long>(place.ended);
  register long entry __asm__("a5") = reinterpret_cast<long>(function);
  register long given __asm__("a6") = reinterpret_cast<long>(argument);
  __asm__ volatile(
      "ecall\n\t"
      "bnez a0, 1f\n\t"
      "li s0, 0\n\t"
      "mv a0, a6\n\t"
      "jalr a5\n\t"
      "li a7, %[exit]\n\t"
      "ecall\n\t"
      "ebreak\n"
      "1:"
      : "+r"(a0)
      : "r"(number), "r"(stack), "r"(parent_tid), "r"(tls), "r"(ended), "r"(entry),
        "r"(given), [exit] "i"(SYS_exit)
      : "memory");
  return a0;
#endif
}

}  // namespace nonreuse::sys
