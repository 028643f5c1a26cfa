// Static tracing probes (USDT) for bpftrace, perf, SystemTap and gdb; docs/statistics.md lists them.
//
// A probe is a no-op instruction and an ELF note that says where it is and where its arguments are
// (sys/sdt.h, Debian: systemtap-sdt-dev). Each has a semaphore, a word that a tracer counts up while it is
// attached: malloc and free look at theirs first, so that they need not have the arguments at hand for
// nobody. Where the header is missing, or NONREUSE_PROBES is 0, nothing is left of all this.
#pragma once

#include "base/types.hpp"
#include "platform/attributes.hpp"

#ifndef NONREUSE_PROBES
#define NONREUSE_PROBES 1
#endif
#if NONREUSE_PROBES && defined(__linux__) && __has_include(<sys/sdt.h>)
#define _SDT_HAS_SEMAPHORES 1
#include <sys/sdt.h>
#define NONREUSE_HAS_PROBES 1
#else
#define NONREUSE_HAS_PROBES 0
#endif

#if NONREUSE_HAS_PROBES
extern "C" {
// Written by the kernel or a debugger.
extern unsigned short nonreuse_malloc_semaphore, nonreuse_free_semaphore, nonreuse_realloc_semaphore,
    nonreuse_sweep_begin_semaphore, nonreuse_sweep_end_semaphore, nonreuse_stop_begin_semaphore,
    nonreuse_stop_end_semaphore, nonreuse_release_semaphore;
}
#define NONREUSE_PROBE_WANTED(name) \
  (__builtin_expect(nonreuse_##name##_semaphore, 0) != 0) /* read anew by every call of malloc */
#define NONREUSE_PROBE(kind, ...) STAP_PROBE##kind(nonreuse, __VA_ARGS__)
#else
#define NONREUSE_PROBE_WANTED(name) false
#define NONREUSE_PROBE(kind, ...) nonreuse::probes::detail::ignore(__VA_ARGS__)
#endif

namespace nonreuse::probes {

#if !NONREUSE_HAS_PROBES
namespace detail {
enum Name { malloc, free, realloc, sweep_begin, sweep_end, stop_begin, stop_end, release };
template <class... Arguments>
NONREUSE_ALWAYS_INLINE void ignore(const Arguments&...) {}
}  // namespace detail
using namespace detail;
#endif

NONREUSE_ALWAYS_INLINE bool malloc_wanted() {
  return NONREUSE_PROBE_WANTED(malloc);
}
NONREUSE_ALWAYS_INLINE bool free_wanted() {
  return NONREUSE_PROBE_WANTED(free);
}
NONREUSE_ALWAYS_INLINE bool realloc_wanted() {
  return NONREUSE_PROBE_WANTED(realloc);
}

// Bytes asked for, the address (0: no memory). Also calloc, new and the aligned ones.
inline void note_malloc(uint64_t size, uint64_t address) {
  NONREUSE_PROBE(2, malloc, size, address);
}
// Before the chunk is freed.
inline void note_free(uint64_t address) {
  NONREUSE_PROBE(1, free, address);
}
inline void note_realloc(uint64_t old, uint64_t size, uint64_t address) {
  NONREUSE_PROBE(3, realloc, old, size, address);
}
// Bytes in quarantine, bytes live.
inline void note_sweep_begin(uint64_t quarantined, uint64_t live) {
  NONREUSE_PROBE(2, sweep_begin, quarantined, live);
}
// 1 done or 0 abandoned, chunks held, bytes held, nanoseconds since sweep_begin.
inline void note_sweep_end(uint64_t done, uint64_t chunks, uint64_t bytes, uint64_t took) {
  NONREUSE_PROBE(4, sweep_end, done, chunks, bytes, took);
}
// Before the other threads are stopped.
inline void note_stop_begin() {
  NONREUSE_PROBE(, stop_begin);
}
// They run again; nanoseconds that this took. Also where not all of them could be stopped.
inline void note_stop_end(uint64_t took) {
  NONREUSE_PROBE(1, stop_end, took);
}
// Bytes that went back to the free pool.
inline void note_release(uint64_t bytes) {
  NONREUSE_PROBE(1, release, bytes);
}

}  // namespace nonreuse::probes
