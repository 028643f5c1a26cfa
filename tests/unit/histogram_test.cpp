#include "base/histogram.hpp"

#include <gtest/gtest.h>

namespace nonreuse {
namespace {

TEST(Histogram, BucketsArePowersOfTwo) {
  EXPECT_EQ(histogram_bucket(0), 0u);
  EXPECT_EQ(histogram_bucket(1), 0u);
  for (size_t i = 1; i < kHistogramBuckets - 1; ++i) {
    EXPECT_EQ(histogram_bucket((uint64_t{1} << i) - 1), i - 1);
    EXPECT_EQ(histogram_bucket(uint64_t{1} << i), i);
  }
  EXPECT_EQ(histogram_bucket(~uint64_t{0}), kHistogramBuckets - 1);
}

TEST(Histogram, PercentilesAreBoundsFromAbove) {
  uint64_t counts[kHistogramBuckets] = {};
  EXPECT_EQ(histogram_percentile(counts, 99), 0u);
  counts[10] = 99;
  counts[20] = 1;
  EXPECT_EQ(histogram_percentile(counts, 50), 2048u);
  EXPECT_EQ(histogram_percentile(counts, 99), 2048u);
  EXPECT_EQ(histogram_percentile(counts, 100), uint64_t{2} << 20);
  counts[20] = 2;
  EXPECT_EQ(histogram_percentile(counts, 99), uint64_t{2} << 20);
}

}  // namespace
}  // namespace nonreuse
