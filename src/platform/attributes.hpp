// Compiler attributes that depend on who compiles.
#pragma once

// For functions that read memory they do not own: stacks, other threads' data, redzones.
#if defined(__clang__)
#define NONREUSE_READS_ANY_MEMORY \
  __attribute__((no_sanitize("thread", "address", "undefined"), disable_sanitizer_instrumentation))
#else
#define NONREUSE_READS_ANY_MEMORY __attribute__((no_sanitize("thread", "address", "undefined")))
#endif

#define NONREUSE_NOINLINE __attribute__((noinline))
#define NONREUSE_ALWAYS_INLINE inline __attribute__((always_inline))

// True where the compiler instruments memory accesses: such code needs the runtime's thread around it.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define NONREUSE_SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define NONREUSE_SANITIZED true
#endif
#endif
#ifndef NONREUSE_SANITIZED
#define NONREUSE_SANITIZED false
#endif

// True where ThreadSanitizer's runtime takes part in atomic accesses.
#if defined(__SANITIZE_THREAD__)
#define NONREUSE_THREAD_SANITIZED true
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define NONREUSE_THREAD_SANITIZED true
#endif
#endif
#ifndef NONREUSE_THREAD_SANITIZED
#define NONREUSE_THREAD_SANITIZED false
#endif
