// System calls that leave errno alone. They return what the kernel returns: a value, or -errno.
#pragma once

#include <errno.h>

#include <cstdint>
#include <type_traits>

#if !defined(__linux__)
#error "linux_syscall.hpp is for Linux"
#endif
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "platform/attributes.hpp"

// Everything here is always inlined, also into functions that opt out of sanitizers: a helper process that
// shares another thread's TLS must not run a sanitizer's bookkeeping.
namespace nonreuse::sys {

NONREUSE_ALWAYS_INLINE constexpr bool failed(long result) {
  return static_cast<unsigned long>(result) >= -4095UL;
}

#if defined(__x86_64__)
NONREUSE_ALWAYS_INLINE long raw(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                                long f = 0) {
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}
#elif defined(__aarch64__)
NONREUSE_ALWAYS_INLINE long raw(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                                long f = 0) {
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  return x0;
}
#elif defined(__riscv) && __riscv_xlen == 64
NONREUSE_ALWAYS_INLINE long raw(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                                long f = 0) {
  register long a7 __asm__("a7") = number;
  register long a0 __asm__("a0") = a;
  register long a1 __asm__("a1") = b;
  register long a2 __asm__("a2") = c;
  register long a3 __asm__("a3") = d;
  register long a4 __asm__("a4") = e;
  register long a5 __asm__("a5") = f;
  __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5) : "memory");
  return a0;
}
#else
#error "unsupported architecture: x86-64, aarch64 and riscv64 are known"
#endif

namespace detail {
template <class T>
NONREUSE_ALWAYS_INLINE long word(T value) {
  if constexpr (std::is_pointer_v<T>) {
    return static_cast<long>(reinterpret_cast<uintptr_t>(value));
  } else {
    return static_cast<long>(value);
  }
}
NONREUSE_ALWAYS_INLINE long word(decltype(nullptr)) {
  return 0;
}
}  // namespace detail

// call(SYS_xxx, args...): integers and pointers, at most six.
template <class... Args>
NONREUSE_ALWAYS_INLINE long call(long number, Args... args) {
  static_assert(sizeof...(Args) <= 6);
  return raw(number, detail::word(args)...);
}

// The signal by which the C library makes every thread change its user (setuid(2) and its like), nptl(7). Not
// SIGRTMIN - 1: programs can have more signals set aside.
#if defined(__GLIBC__)
constexpr int kChangeOfUser = 33;
#else
constexpr int kChangeOfUser = 34;  // musl
#endif

// True for a failure that may pass: descriptors, memory or processes are lacking now. A full table of
// descriptors does not count where the limit leaves room for the standard streams at most: that is a sandbox.
NONREUSE_READS_ANY_MEMORY NONREUSE_ALWAYS_INLINE bool may_pass(long result) {
  if (result != -EMFILE) {
    return result == -EAGAIN || result == -ENOMEM || result == -ENFILE || result == -EINTR;
  }
  constexpr int kDescriptorLimit = 7;  // RLIMIT_NOFILE
  constexpr uint64_t kStandardStreams = 3;
  uint64_t limit[2];
  limit[0] = 0;
  call(SYS_prlimit64, 0, kDescriptorLimit, nullptr, limit);
  return limit[0] > kStandardStreams;
}

// A filter for system calls is set (seccomp(2)): it may stop the process for calls that it does not know.
NONREUSE_ALWAYS_INLINE bool filtered() {
  return call(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0, 0) != 0;
}

}  // namespace nonreuse::sys
