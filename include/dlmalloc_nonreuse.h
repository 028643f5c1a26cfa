/* dlmalloc_nonreuse.h: the public C interface and the compile-time settings.
 *
 * A heap that never hands freed memory out again while anything still points to it. Link the library, or
 * preload it, and the malloc family below is served by it. Built with USE_DL_PREFIX every function of the
 * family carries the prefix `dl` instead (dlmalloc, dlfree, ...), so that it can live beside another heap.
 *
 * Every setting has an #ifndef: override it with -DNAME=VALUE. docs/settings.md explains each and names
 * the test that proves it. Thread-safety: every function may be called from any thread, unless built with
 * USE_LOCKS=0; mallopt only while no other thread uses the heap. None may be called from a signal handler.
 */
#ifndef DLMALLOC_NONREUSE_H
#define DLMALLOC_NONREUSE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* ---- compile-time settings ---------------------------------------------------------------------- */

/* 1: thread-safe. 0: no lock is ever taken; only for programs with one thread. */
#ifndef USE_LOCKS
#define USE_LOCKS 1
#endif

/* 1: spin (with yield) on a contended lock. 0: sleep in the kernel (futex). */
#ifndef USE_SPIN_LOCKS
#define USE_SPIN_LOCKS 0
#endif

/* 1: a thread may take a heap lock that it holds already. */
#ifndef USE_RECURSIVE_LOCKS
#define USE_RECURSIVE_LOCKS 0
#endif

/* 1: grow by mapping address space on demand and give large freed chunks back to the system.
 * 0: one fixed region (NONREUSE_STATIC_HEAP_BYTES) is taken at start, and nothing is given back. */
#ifndef HAVE_MMAP
#define HAVE_MMAP 1
#endif

/* Bytes of the one region of a HAVE_MMAP=0 build; at least 128 MiB. */
#ifndef NONREUSE_STATIC_HEAP_BYTES
#define NONREUSE_STATIC_HEAP_BYTES (256UL << 20)
#endif

/* Consolidating frees between two looks for memory that can be given back to the system. */
#ifndef MAX_RELEASE_CHECK_RATE
#define MAX_RELEASE_CHECK_RATE 4095
#endif

/* 1: freed chunks wait in quarantine (the freebuf) until a sweep clears them. 0: plain dlmalloc. */
#ifndef FREEBUF_MODE
#define FREEBUF_MODE 1
#endif

/* Sweep when quarantine exceeds this percentage of what must be scanned (live heap and roots). */
#ifndef DEFAULT_FREEBUF_PERCENT
#define DEFAULT_FREEBUF_PERCENT 25
#endif

/* At most this many chunks are swept in one pass; 0: all that are sealed. */
#ifndef DEFAULT_SWEEP_SIZE
#define DEFAULT_SWEEP_SIZE 0
#endif

/* 1: print statistics of the quarantine and the sweeps at exit (option `stats=1` does so too). */
#ifndef SWEEP_STATS
#define SWEEP_STATS 0
#endif

/* 1: record every call: with utrace(2) on FreeBSD, elsewhere to the file nonreuse.trace in the working
 * directory, unless the option `trace` names another one. 0: only where that option asks for it. */
#ifndef MALLOC_UTRACE
#define MALLOC_UTRACE 0
#endif

/* 1: check the heap's invariants as it runs. */
#ifndef DEBUG
#define DEBUG 0
#endif

/* 1: every function of the malloc family is named with the prefix `dl`. */
#ifndef USE_DL_PREFIX
#define USE_DL_PREFIX 0
#endif

/* ---- mallopt ----------------------------------------------------------------------------------------- */

/* Codes for mallopt(3). The value is an int: sizes are bytes up to INT_MAX. mallopt returns 1 when the code
 * is known and the value in range, else 0. M_MMAP_THRESHOLD means M_UNMAP_THRESHOLD; glibc's other codes
 * (M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX, ...) are accepted and have no effect. */
#define M_FREEBUF_PERCENT (-101) /* option percent */
#define M_MIN_FREEBUF (-102)     /* option min */
#define M_MAX_FREEBUF (-103)     /* option max */
#define M_UNMAP_THRESHOLD (-104) /* option unmap */
#define M_SWEEP_SIZE (-105)      /* option sweep_size */

/* ---- the malloc family --------------------------------------------------------------------------- */

#ifdef __cplusplus
extern "C" {
#endif

#if USE_DL_PREFIX
#define NONREUSE_NAME(name) dl##name
#else
#define NONREUSE_NAME(name) name
#endif

/* What mallinfo2(3) reports, in bytes and chunk counts. Filled from this heap:
 * arena: bytes taken from the system; ordblks: free runs of at least 1 KiB; fordblks: free bytes;
 * uordblks: bytes in use; hblkhd: bytes of quarantined chunks whose pages were given back; smblks: chunks
 * held by stale pointers; fsmblks: bytes waiting in quarantine or held; keepcost: bytes at the top that could
 * be trimmed; the others are 0. */
#ifndef NONREUSE_HAVE_MALLINFO
struct nonreuse_mallinfo2 {
  size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};
#endif

/* The functions below have the C11, POSIX or glibc meaning; malloc(3), posix_memalign(3). */
#if USE_DL_PREFIX
void* dlmalloc(size_t size);
void* dlcalloc(size_t count, size_t size);
void* dlrealloc(void* old, size_t size);
void* dlreallocarray(void* old, size_t count, size_t size);
void dlfree(void* payload);
int dlposix_memalign(void** out, size_t alignment, size_t size);
void* dlaligned_alloc(size_t alignment, size_t size);
void* dlmemalign(size_t alignment, size_t size);
void* dlvalloc(size_t size);
void* dlpvalloc(size_t size);
size_t dlmalloc_usable_size(void* payload);
int dlmallopt(int parameter, int value);
struct nonreuse_mallinfo2 dlmallinfo2(void);
int dlmalloc_info(int options, FILE* stream);
int dlmalloc_trim(size_t pad);
void dlmalloc_stats(void);
#endif

/* Sweeps now: on return every chunk freed before the call that nothing points to may be reused.
 * Before any free it does nothing. Returns 0, or -1 with errno set where roots cannot be seen
 * (EPERM: not permitted, EAGAIN: threads could not be stopped in time; nothing was released). */
int NONREUSE_NAME(malloc_revoke)(void);

/* 1 while a sweep is under way in this process, else 0. On CheriBSD, as its own heap has it: 1 where
 * revocation is switched on for this process, else 0. */
int NONREUSE_NAME(malloc_is_revoking)(void);

/* ---- statistics ----------------------------------------------------------------------------------- */

/* All sizes in bytes, all times in nanoseconds. Counters grow from the start of the process (a fork's
 * child goes on from its parent's); gauges are as of the last seal or sweep. */
#define NONREUSE_HISTOGRAM_BUCKETS 36
struct nonreuse_statistics {
  uint64_t version;            /* of this structure: 3 */
  uint64_t sweeps;             /* sweeps completed */
  uint64_t sweeps_abandoned;   /* sweeps that released nothing (threads not stopped, roots not seen) */
  uint64_t swept_bytes;        /* bytes painted, over all sweeps */
  uint64_t swept_chunks;       /* chunks painted, over all sweeps */
  uint64_t frees;              /* chunks freed into quarantine */
  uint64_t freed_bytes;        /* their bytes */
  uint64_t released_bytes;     /* bytes that went back to the free pool */
  uint64_t bits_painted;       /* granules painted */
  uint64_t bits_cleared;       /* granules unpainted by release */
  uint64_t held_chunks;        /* gauge: chunks that the last sweep found still referenced */
  uint64_t held_bytes;         /* gauge */
  uint64_t quarantined_bytes;  /* gauge: sealed bytes that wait for a sweep, held bytes not counted */
  uint64_t decommitted_bytes;  /* gauge: bytes of chunks in quarantine that gave their pages back */
  uint64_t scanned_root_bytes; /* bytes of roots read, over all sweeps */
  uint64_t scanned_heap_bytes; /* bytes of heap read, over all sweeps */
  uint64_t concurrent_sweeps;  /* sweeps that read most memory beside the running threads */
  uint64_t reread_bytes;       /* what those read again in the stop, since it had been written to */
  uint64_t stops;              /* times that other threads were stopped */
  uint64_t pause_ns_total, pause_ns_max; /* time from the first thread stopped to all resumed */
  uint64_t sweep_ns_total, sweep_ns_max; /* wall time of sweeps */
  uint64_t sweep_cpu_ns_total;           /* CPU time of sweeps, also of processes that read for this one */
  uint64_t heap_bytes;                   /* gauge: in use or quarantined or cached, below the top */
  uint64_t live_bytes;                   /* gauge: heap_bytes less quarantine and held */
  uint64_t footprint_bytes;              /* gauge: committed for chunks (free, cached, in use, quarantined) */
  uint64_t footprint_max;                /* highest footprint_bytes */
  /* Counters: pauses, and sweeps, that took from 2^i to 2^(i+1) nanoseconds; the last, all longer ones. */
  uint64_t pause_histogram[NONREUSE_HISTOGRAM_BUCKETS], sweep_histogram[NONREUSE_HISTOGRAM_BUCKETS];
};

/* Fills *out. Thread-safe; the counters are read one by one, not as one snapshot. */
void nonreuse_get_statistics(struct nonreuse_statistics* out);

#ifdef __cplusplus
}
#endif
#endif
