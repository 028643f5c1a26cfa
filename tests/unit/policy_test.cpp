// When a sweep is due: thresholds from options and figures, and the minimum that adapts.
#include "revoke/policy.hpp"

#include "heap_world.hpp"

namespace nonreuse {
namespace {

constexpr uint64_t kStart = kMiB;    // the first minimum
constexpr uint64_t kCap = 2 * kMiB;  // its cap in small heaps
constexpr uint64_t kSmallHeap = 6 * kMiB;
constexpr uint64_t kSecond = 1'000'000'000;

class PolicyTest : public CoreTest {
 protected:
  uint64_t threshold(uint64_t live = 0) const { return policy.threshold(options, live); }
  // Takes more than twice its share, but not several times.
  void busy_sweep(uint64_t live = 0) { policy.note_sweep(options, kSecond / 8, kSecond, 0, live); }
  void idle_sweep(uint64_t live = 0) { policy.note_sweep(options, 1, kSecond, 0, live); }

  Policy policy;
  Options options = [] {
    Options o{};
    o.percent = 25;
    o.cpu = 5;
    return o;
  }();
};

TEST_F(PolicyTest, ThePercentageOfLiveHeapAndRootsBeyondTheMinimum) {
  EXPECT_EQ(threshold(0), kStart);
  EXPECT_EQ(threshold(4 * kMiB), kStart);
  EXPECT_NEAR(static_cast<double>(threshold(100 * kMiB)), 25.0 * kMiB, 100);
  policy.note_sweep(options, 1, kSecond, 60 * kMiB, 100 * kMiB);
  EXPECT_NEAR(static_cast<double>(threshold(100 * kMiB)), 40.0 * kMiB, 100) << "roots count";
  options.percent = 200;
  EXPECT_NEAR(static_cast<double>(threshold(100 * kMiB)), 320.0 * kMiB, 1000);
}

TEST_F(PolicyTest, TheMinimumOfTheOptionsReplacesTheAdaptiveOne) {
  options.min = 64 * kKiB;
  EXPECT_EQ(threshold(0), 64 * kKiB);
  for (int i = 0; i < 20; ++i) busy_sweep();
  EXPECT_EQ(threshold(0), 64 * kKiB);
  options.min = 50 * kMiB;
  EXPECT_EQ(threshold(100 * kMiB), 50 * kMiB);
}

TEST_F(PolicyTest, APercentageThatWasSetIsABound) {
  for (int i = 0; i < 300; ++i) policy.note_sweep(options, kSecond / 2, kSecond, 0, 4 * kMiB);
  for (int i = 0; i < 20; ++i) policy.note_cost(300, 200);
  EXPECT_GT(threshold(4 * kMiB), 4 * kMiB) << "the heap has all reasons to let it grow";
  options.percent_set = true;
  options.percent = 50;
  EXPECT_NEAR(static_cast<double>(threshold(4 * kMiB)), 2.0 * kMiB, 100);
  EXPECT_NEAR(static_cast<double>(threshold(400 * kMiB)), 200.0 * kMiB, 1000);
  options.percent = 5;
  EXPECT_EQ(threshold(4 * kMiB), kStart) << "small heaps cycle in cache";
  options.min = 3 * kMiB;
  EXPECT_EQ(threshold(4 * kMiB), 3 * kMiB);
  options.max = 2 * kMiB;
  EXPECT_EQ(threshold(400 * kMiB), 2 * kMiB);
}

TEST_F(PolicyTest, TheMaximumBoundsEverything) {
  options.max = 10 * kMiB;
  EXPECT_EQ(threshold(1000 * kMiB), 10 * kMiB);
  EXPECT_EQ(threshold(0), kStart);
  options.min = 20 * kMiB;
  EXPECT_EQ(threshold(0), 10 * kMiB);
}

// Sweeps that cost more because they read beside the program come less often, within bounds.
TEST_F(PolicyTest, WhatASweepCostsMoreThanInOneStopIsMadeUpForByQuarantine) {
  const auto dearer = [&](uint64_t percent) {
    for (int i = 0; i < 20; ++i) policy.note_cost(percent, percent - 100);
    return static_cast<double>(threshold(100 * kMiB));
  };
  EXPECT_NEAR(dearer(150), 37.5 * kMiB, kMiB);
  EXPECT_NEAR(dearer(100), 25.0 * kMiB, kMiB);
  EXPECT_NEAR(dearer(1000), 75.0 * kMiB, kMiB) << "three times as much at most";
  options.max = 30 * kMiB;
  EXPECT_EQ(threshold(100 * kMiB), 30 * kMiB);
  options.max = 0;
  for (int i = 0; i < 20; ++i) policy.note_cost(kSecond, 0);  // in one stop, or no dearer
  EXPECT_NEAR(static_cast<double>(threshold(100 * kMiB)), 25.0 * kMiB, 100);
}

TEST_F(PolicyTest, TheMinimumGrowsFasterTheMoreSweepingTakes) {
  policy.note_sweep(options, kSecond / 19, kSecond, 0, 100 * kMiB);  // a little above 5 %
  EXPECT_EQ(threshold(0), kStart + kStart / 18);
  policy.note_sweep(options, kSecond / 9, kSecond, 0, 100 * kMiB);  // above 10 %
  EXPECT_EQ(threshold(0), (kStart + kStart / 18) * 5 / 4);
}

TEST_F(PolicyTest, TheMinimumIsCappedAndFallsBack) {
  for (int i = 0; i < 300; ++i) busy_sweep();
  EXPECT_EQ(threshold(0), kCap);
  idle_sweep();
  EXPECT_LT(threshold(0), kCap);
  for (int i = 0; i < 300; ++i) idle_sweep();
  EXPECT_EQ(threshold(0), kStart);
  for (int i = 0; i < 300; ++i) busy_sweep(100 * kMiB);  // a larger heap has a larger cap
  EXPECT_EQ(threshold(0), 100 * kMiB / 3);
  busy_sweep(0);
  EXPECT_EQ(threshold(0), kCap) << "and a smaller one again when the heap shrinks";
}

// What the minimum's growth does not bring down, more quarantine than the percentage does, four times at
// most.
TEST_F(PolicyTest, WhereSweepingTakesSeveralTimesItsShareThePercentageIsStretched) {
  const auto sweeps = [&](uint64_t share, int count, uint64_t heap = kSmallHeap) {
    for (int i = 0; i < count; ++i) policy.note_sweep(options, kSecond / 100 * share, kSecond, 0, heap);
    return static_cast<double>(threshold(heap)) / kMiB;
  };
  EXPECT_NEAR(sweeps(19, 100), 2, 0.01) << "less than four times its share: only the minimum grew";
  EXPECT_NEAR(sweeps(21, 1), 2.25, 0.02);
  EXPECT_NEAR(sweeps(21, 100), 8, 0.01);
  EXPECT_NEAR(sweeps(16, 100), 8, 0.01) << "kept";
  EXPECT_LT(sweeps(15, 1), 7.6);
  EXPECT_NEAR(sweeps(15, 100), 2, 0.01);
  EXPECT_NEAR(sweeps(50, 100, 600 * kMiB), 208, 1) << "of a large heap 8 MiB at most";
  sweeps(50, 100);
  options.max = 3 * kMiB;
  EXPECT_EQ(threshold(kSmallHeap), 3 * kMiB);
  options.max = 0;
  options.min = kMiB;
  EXPECT_NEAR(static_cast<double>(threshold(kSmallHeap)), 1.5 * kMiB, 100) << "a minimum that was set";
}

TEST_F(PolicyTest, AShareOfTheCpuBetweenTheBoundsChangesNothing) {
  for (int i = 0; i < 2; ++i) busy_sweep();
  const uint64_t before = threshold(0);
  policy.note_sweep(options, kSecond / 33, kSecond, 0, 0);  // 3 %
  EXPECT_EQ(threshold(0), before);
  policy.note_sweep(options, kSecond / 19, kSecond, 0, 0);  // above 5 %
  EXPECT_GT(threshold(0), before);
}

// Else a process in which no sweep succeeds would stand still at every sealed batch.
TEST_F(PolicyTest, AfterAFailureItWaitsTwentyTimesAsLongAsItTook) {
  EXPECT_FALSE(policy.must_wait(0));
  policy.note_failure(kSecond, kSecond);
  EXPECT_TRUE(policy.must_wait(kSecond));
  EXPECT_TRUE(policy.must_wait(21 * kSecond - 1));
  EXPECT_FALSE(policy.must_wait(21 * kSecond));
  policy.note_failure(kSecond, 1);  // however short, at least 10 ms
  EXPECT_TRUE(policy.must_wait(kSecond + kSecond / 100 - 1));
  EXPECT_FALSE(policy.must_wait(kSecond + kSecond / 100));
  policy.note_failure(kSecond, kSecond);
  policy.note_sweep(options, kSecond / 33, kSecond, 0, 0);
  EXPECT_FALSE(policy.must_wait(kSecond)) << "one success, and all is as before";
}

}  // namespace
}  // namespace nonreuse
