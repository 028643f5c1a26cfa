// Histograms of durations as the statistics carry them: bucket i counts those from 2^i to 2^(i+1)
// nanoseconds, the last one all longer ones too.
#pragma once

#include <bit>

#include "base/settings.hpp"

namespace nonreuse {

inline constexpr size_t kHistogramBuckets = NONREUSE_HISTOGRAM_BUCKETS;

constexpr size_t histogram_bucket(uint64_t nanoseconds) {
  const auto bucket = static_cast<size_t>(std::bit_width(nanoseconds | 1)) - 1;
  return bucket < kHistogramBuckets ? bucket : kHistogramBuckets - 1;
}

// Nanoseconds below which `percent` of the counted durations lie, or a little more; 0 where none was counted.
constexpr uint64_t histogram_percentile(const uint64_t (&counts)[kHistogramBuckets], uint64_t percent) {
  uint64_t all = 0, seen = 0;
  for (const uint64_t count : counts) all += count;
  if (all == 0) return 0;
  size_t bucket = 0;
  while ((seen += counts[bucket]) * 100 < all * percent) ++bucket;
  return uint64_t{2} << bucket;
}

}  // namespace nonreuse
