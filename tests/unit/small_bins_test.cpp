// The exact bins: hints are believed only as far as the free bitmap agrees, oldest first, none handed out
// twice.
#include "heap/small_bins.hpp"

#include <vector>

#include "heap_world.hpp"

namespace nonreuse {
namespace {

class SmallBinsTest : public CoreTest {
 protected:
  SmallBinsTest() : hints(SmallBins::kBytes / sizeof(uint64_t)), free_bits(1 << 14) {
    bins.attach(hints.data());
  }

  void free_run(Run run) {
    bits::set(free_bits.data(), run.start, run.length);
    bins.push(run);
  }
  Run take(Granules length) {
    const Run run = bins.pop(length, free_bits.data());
    if (!run.empty()) bits::clear(free_bits.data(), run.start, run.length);
    return run;
  }

  std::vector<uint64_t> hints, free_bits;
  SmallBins bins;
};

TEST_F(SmallBinsTest, EmptyBinsHaveNothing) {
  for (Granules length = 1; length < SmallBins::kSizes; ++length) EXPECT_TRUE(take(length).empty());
  EXPECT_EQ(bins.next_nonempty(1), 0u);
}

TEST_F(SmallBinsTest, TheOldestHintComesFirst) {
  for (Granule at = 0; at < SmallBins::kCapacity; ++at) free_run({at * 10 + 1, 5});
  for (Granule at = 0; at < SmallBins::kCapacity; ++at) ASSERT_EQ(take(5), (Run{at * 10 + 1, 5}));
  EXPECT_TRUE(take(5).empty());
}

TEST_F(SmallBinsTest, ARunAtTheVeryStartIsFound) {
  free_run({0, 3});
  EXPECT_EQ(take(3), (Run{0, 3}));
}

// I2: what has coalesced since is no hole of this size any more.
TEST_F(SmallBinsTest, AHintThatNoLongerHoldsIsDropped) {
  free_run({100, 5});
  bits::set(free_bits.data(), 105, 1);  // grew to the right
  EXPECT_TRUE(take(5).empty());
  free_run({200, 5});
  bits::set(free_bits.data(), 199, 1);  // grew to the left
  EXPECT_TRUE(take(5).empty());
  free_run({300, 5});
  bits::clear(free_bits.data(), 302, 1);  // partly taken
  EXPECT_TRUE(take(5).empty());
}

TEST_F(SmallBinsTest, ADoubledHintIsTakenOnce) {
  free_run({100, 5});
  bins.push({100, 5});
  EXPECT_EQ(take(5), (Run{100, 5}));
  EXPECT_TRUE(take(5).empty());
}

TEST_F(SmallBinsTest, NextNonemptyIsTheSmallestSizeThatMayServe) {
  free_run({100, 7});
  free_run({200, 63});
  EXPECT_EQ(bins.next_nonempty(1), 7u);
  EXPECT_EQ(bins.next_nonempty(7), 7u);
  EXPECT_EQ(bins.next_nonempty(8), 63u);
  EXPECT_EQ(bins.next_nonempty(63), 63u);
  EXPECT_EQ(bins.next_nonempty(64), 0u);
  EXPECT_EQ(take(7), (Run{100, 7}));
  EXPECT_EQ(bins.next_nonempty(1), 63u);
  EXPECT_EQ(take(63), (Run{200, 63}));
  EXPECT_EQ(bins.next_nonempty(1), 0u);
}

TEST_F(SmallBinsTest, AFullBinRemembersThatItForgot) {
  for (uint64_t i = 0; i < SmallBins::kCapacity; ++i) free_run({i * 4 + 1, 2});
  EXPECT_EQ(bins.overflowed(), 0u);
  free_run({uint64_t{SmallBins::kCapacity} * 4 + 1, 2});
  EXPECT_EQ(bins.overflowed(), uint64_t{1} << 2);
  bins.forget_overflow(2);
  EXPECT_EQ(bins.overflowed(), 0u);
  for (uint64_t i = 0; i < SmallBins::kCapacity; ++i) ASSERT_EQ(take(2), (Run{i * 4 + 1, 2}));
  EXPECT_TRUE(take(2).empty());
}

// Random pushes and pops of all sizes, the bitmap as the judge: nothing comes out that is not a maximal free
// run of that size, and while no bin overflows every such run comes out.
TEST_F(SmallBinsTest, EveryHoleComesOutOnce) {
  Random random(4);
  for (int round = 0; round < 300; ++round) {
    std::vector<uint64_t> expected(SmallBins::kSizes);
    for (Granule at = 1; at < 60000;) {
      const Granules length = random.between(1, SmallBins::kSizes - 1);
      if (random.one_in(2)) {
        free_run({at, length});
        ++expected[length];
      }
      at += length + 1;
    }
    for (Granules length = 1; length < SmallBins::kSizes; ++length) {
      for (uint64_t i = 0; i < expected[length]; ++i) {
        const Run run = bins.pop(length, free_bits.data());
        ASSERT_EQ(run.length, length);
        ASSERT_TRUE(bits::all(free_bits.data(), run.start, run.length));
        bits::clear(free_bits.data(), run.start, run.length);
      }
      ASSERT_TRUE(take(length).empty());
    }
  }
}

}  // namespace
}  // namespace nonreuse
