// The second half of the vector kernels: offsets that are in range, packed into a buffer, against the bitmap.
#pragma once

#include "platform/attributes.hpp"
#include "revoke/scan.hpp"

namespace nonreuse {

inline constexpr size_t kScanBuffer = 128;  // words; small: a sweep runs on the stack of whoever frees
inline constexpr size_t kScanBlock = 16;    // words that are compared before the buffer is looked at

// Overwrites `offsets`. Always inlined: a copy of its own would be compiled with the flags of one kernel and
// run by all.
NONREUSE_READS_ANY_MEMORY NONREUSE_ALWAYS_INLINE uint64_t test_offsets(const ScanTarget& target,
                                                                       uint64_t* offsets, size_t count) {
  // Most words point where nothing near is painted. The summary says so, which is small enough for the first
  // cache where the bitmap is not; without a branch, for where words point is not to be foretold.
  size_t near = 0;
  for (size_t i = 0; i < count; ++i) {
    const Granule granule = offsets[i] >> kGranuleShift;
    const uint64_t block = granule >> kSummaryShift;
    offsets[near] = granule;
    near += target.summary[block >> 6] >> (block & 63) & 1;
  }
  uint64_t news = 0;
  for (size_t i = 0; i < near; ++i) {
    const Granule granule = offsets[i];
    const uint64_t bit = uint64_t{1} << (granule & 63);
    if ((target.painted[granule >> 6] & bit) == 0) [[likely]]
      continue;
    news += record_hit(target, granule);
  }
  return news;
}

}  // namespace nonreuse
