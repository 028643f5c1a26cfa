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
