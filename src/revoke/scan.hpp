// Scan kernels: find the words of a piece of memory that point into painted granules.
#pragma once

#include "base/options.hpp"
#include "base/types.hpp"
#include "platform/address_space.hpp"
#include "platform/attributes.hpp"

namespace nonreuse {

// What words are compared against. Heap addresses are [base, base + extent).
struct ScanTarget {
  uintptr_t base;
  size_t extent;            // bytes
  const uint64_t* painted;  // one bit a granule
  uint64_t* hits;           // likewise; set where a word points at a painted granule
  uint64_t* news;           // one bit for 2^kSummaryShift granules; set where one of them was hit
};

// Reads `count` words from `words` (aligned or not, all readable) and records hits. Returns how many hit
// bits were newly set. Reads memory that other threads may own: call with them stopped, or rescan later.
using ScanKernel = uint64_t (*)(const ScanTarget& target, const uint64_t* words, size_t count);

// Heap memory with what the bitmaps say of it: lines (64 bytes) of which every granule is free or painted are
// left out. Both hold nothing: free memory is zero, and what is painted is read if it turns out to be held.
struct LivePart {
  uintptr_t base;           // address of granule 0, at a multiple of 1 KiB
  const uint64_t* free;     // one bit a granule
  const uint64_t* painted;  // likewise; nullptr: what is painted is read, too
  Granule begin, end;       // granules; begin: a multiple of 64
};
// As ScanKernel; adds the bytes that were read to `bytes`.
using LiveKernel = uint64_t (*)(const ScanTarget& target, const LivePart& part, uint64_t& bytes);

uint64_t scan_scalar(const ScanTarget& target, const uint64_t* words, size_t count);
uint64_t scan_avx2(const ScanTarget& target, const uint64_t* words, size_t count);    // x86-64 with AVX2 only
uint64_t scan_avx512(const ScanTarget& target, const uint64_t* words, size_t count);  // with AVX-512 only
uint64_t scan_neon(const ScanTarget& target, const uint64_t* words, size_t count);    // aarch64 only
uint64_t scan_live_scalar(const ScanTarget& target, const LivePart& part, uint64_t& bytes);
uint64_t scan_live_avx2(const ScanTarget& target, const LivePart& part, uint64_t& bytes);
uint64_t scan_live_avx512(const ScanTarget& target, const LivePart& part, uint64_t& bytes);
uint64_t scan_live_neon(const ScanTarget& target, const LivePart& part, uint64_t& bytes);

// A word points at `granule`, which is painted. 1 if that is news. Others may record theirs at the same time.
NONREUSE_ALWAYS_INLINE uint64_t record_hit(const ScanTarget& target, Granule granule) {
  const uint64_t bit = uint64_t{1} << (granule & 63);
  uint64_t* const hits = &target.hits[granule >> 6];
  if ((__atomic_load_n(hits, __ATOMIC_RELAXED) & bit) != 0) return 0;
  const uint64_t block = granule >> kSummaryShift;
  __atomic_fetch_or(&target.news[block >> 6], uint64_t{1} << (block & 63), __ATOMIC_RELAXED);
  const uint64_t before = __atomic_fetch_or(hits, bit, __ATOMIC_RELAXED);
  return (before & bit) == 0 ? 1 : 0;
}

// True where this build and this processor can run the kernel.
bool kernel_available(KernelChoice kernel);
// The chosen kernels, or the best available ones where the choice is automatic or cannot run.
ScanKernel choose_kernel(KernelChoice choice);
LiveKernel choose_live_kernel(KernelChoice choice);
// choose_kernel()'s at every byte offset: finds pointers that are not stored at a multiple of their
// size, too, as far as they lie within the piece.
ScanKernel choose_unaligned_kernel(KernelChoice choice);

}  // namespace nonreuse
