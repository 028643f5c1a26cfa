// When a sweep is due: thresholds from options and figures, and the minimum that adapts.
#include "revoke/policy.hpp"

#include "heap_world.hpp"

namespace nonreuse {
namespace {

constexpr uint64_t kStart = kMiB;    // the first minimum
constexpr uint64_t kCap = 2 * kMiB;  // its cap in small heaps
constexpr uint64_t kSecond = 1'000'000'000;

class PolicyTest : public CoreTest {
 protected:
  uint64_t threshold(uint64_t live = 0) const { return policy.threshold(options, live); }
  void busy_sweep(uint64_t live = 0) { policy.note_sweep(options, kSecond, kSecond, 0, live); }
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
    for (int i = 0; i < 20; ++i) policy.note_cost(percent, 100);
    return static_cast<double>(threshold(100 * kMiB));
  };
  EXPECT_NEAR(dearer(150), 37.5 * kMiB, kMiB);
  EXPECT_NEAR(dearer(40), 25.0 * kMiB, kMiB) << "never more often";
  EXPECT_NEAR(dearer(1000), 75.0 * kMiB, kMiB) << "three times as much at most";
  options.max = 30 * kMiB;
  EXPECT_EQ(threshold(100 * kMiB), 30 * kMiB);
  options.max = 0;
  for (int i = 0; i < 20; ++i) policy.note_cost(kSecond, 0);  // in one stop
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
