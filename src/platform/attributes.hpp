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

#if defined(__has_feature)
#define NONREUSE_HAS_FEATURE(name) __has_feature(name)
#else
#define NONREUSE_HAS_FEATURE(name) 0
#endif

// True where ThreadSanitizer's runtime takes part in atomic accesses.
#if defined(__SANITIZE_THREAD__) || NONREUSE_HAS_FEATURE(thread_sanitizer)
#define NONREUSE_THREAD_SANITIZED true
#else
#define NONREUSE_THREAD_SANITIZED false
#endif

// True where the compiler instruments memory accesses: such code needs the runtime's thread around it.
#if defined(__SANITIZE_ADDRESS__) || NONREUSE_HAS_FEATURE(address_sanitizer)
#define NONREUSE_SANITIZED true
#else
#define NONREUSE_SANITIZED NONREUSE_THREAD_SANITIZED
#endif
