// Whether a sweep reads beside the threads: the target, how far a stop may exceed it, and trying again.
#include "revoke/beside_choice.hpp"

#include <gtest/gtest.h>

namespace nonreuse {
namespace {

constexpr uint64_t kMib = uint64_t{1} << 20;
constexpr uint64_t kBytes = 64 * kMib;

class BesideChoiceTest : public testing::Test {
 protected:
  BesideChoiceTest() {
    options.pause = 1000;
    options.cpu = 5;
    choice.note_whole(kBytes, 64 * 100'000);  // 100 us a MiB: 10 MiB in the target's millisecond
  }
  void note_dearness(uint64_t times, int sweeps) {
    for (int i = 0; i < sweeps; ++i) choice.note_beside(kBytes, times * choice.whole_ns(kBytes));
  }

  Options options{};
  BesideChoice choice;
};

TEST_F(BesideChoiceTest, SpeedIsWhatOneStopTook) {
  EXPECT_NEAR(static_cast<double>(choice.whole_ns(10 * kMib)), 1e6, 1e3);
  EXPECT_NEAR(static_cast<double>(choice.bytes_read_in(1'000'000)), 10.0 * kMib, 0.01 * kMib);
  choice.note_whole(kMib, 50'000'000);  // too small to tell
  choice.note_reader(kMib, 50'000'000);
  EXPECT_NEAR(static_cast<double>(choice.whole_ns(10 * kMib)), 1e6, 1e3);
}

// Its time may be counted in ticks of 4 ms: all or nothing of a reading of one.
TEST_F(BesideChoiceTest, ReadersTellOnAverage) {
  double sum = 0;
  for (int i = 0; i < 200; ++i) {
    choice.note_reader(kBytes, i % 4 == 0 ? 64 * 800'000 : 0);  // 200 us a MiB
    if (i >= 100) sum += static_cast<double>(choice.whole_ns(10 * kMib));
  }
  EXPECT_NEAR(sum / 100, 2e6, 1e5);
}

// Reading beside is five times as dear; the first stop of all would be beyond the target, or the first that
// told was ten times too slow: what a stop takes is found out, and stops are what is chosen.
TEST_F(BesideChoiceTest, WhatAStopTakesIsFoundOut) {
  for (const uint64_t misled : {0, 4, 10}) {
    for (const uint64_t size : {30 * kMib, 55 * kMib}) {
      BesideChoice fresh;
      if (misled != 0) fresh.note_whole(4 * kMib, misled * 4 * 100'000);
      int beside = 0, late = 0;
      for (int i = 0; i < 2000; ++i) {
        if (!fresh.worth(options, size)) {
          fresh.note_whole(size, size / kMib * 100'000);
          continue;
        }
        ++beside;
        late += i >= 1000;
        fresh.note_reader(size, size / kMib * 100'000);
        fresh.note_beside(size, size / kMib * 500'000);
      }
      EXPECT_GT(beside, 0);
      EXPECT_LT(beside, 1000) << size / kMib;
      EXPECT_LT(late, 500) << size / kMib;
    }
  }
}

TEST_F(BesideChoiceTest, StopsWithinTheTargetAreNotReplaced) {
  EXPECT_FALSE(choice.worth(options, 9 * kMib));
  EXPECT_TRUE(choice.worth(options, 11 * kMib));
  options.pause = 0;
  EXPECT_FALSE(choice.worth(options, 1000 * kMib));
  options.pause = 1000;
  options.unaligned = true;
  EXPECT_FALSE(choice.worth(options, 1000 * kMib));
}

TEST_F(BesideChoiceTest, TwiceAsDearIsNoReasonToMissTheTarget) {
  note_dearness(2, 20);
  EXPECT_EQ(choice.tolerance(), 100u);
  EXPECT_TRUE(choice.worth(options, 11 * kMib));
}

TEST_F(BesideChoiceTest, TheDearerTheLongerAStopMayBe) {
  note_dearness(6, 20);
  EXPECT_NEAR(static_cast<double>(choice.tolerance()), 2700, 90);
  EXPECT_FALSE(choice.worth(options, 260 * kMib));
  EXPECT_TRUE(choice.worth(options, 280 * kMib));
}

// What faults and arming cost is known before the first sweep has read beside the threads; sweeps know
// better.
TEST_F(BesideChoiceTest, TheTrackerTellsWhatIsToBeExpected) {
  choice.note_tracking(1'400, 200, 4096);
  EXPECT_EQ(choice.tolerance(), 100u);
  for (const bool faults : {false, true}) {
    BesideChoice dear;
    dear.note_whole(100 * kMib, uint64_t{100} * 300'000);
    dear.note_tracking(faults ? 75'000 : 0, faults ? 0 : 4'700, 4096);  // five times as dear either way
    EXPECT_NEAR(static_cast<double>(dear.tolerance()), 1560, 100);
    const uint64_t before = dear.tolerance();
    dear.note_tracking(1'400, 200, 4096);  // told once
    EXPECT_EQ(dear.tolerance(), before);
  }
}

TEST_F(BesideChoiceTest, TheWholeCpuIsForTheTarget) {
  note_dearness(20, 20);
  options.cpu = 100;
  EXPECT_TRUE(choice.worth(options, 11 * kMib));
}

TEST_F(BesideChoiceTest, ToleranceHasABound) {
  note_dearness(100'000, 40);
  EXPECT_LE(choice.tolerance(), 3200u);
  EXPECT_TRUE(choice.worth(options, 400 * kMib));
}

TEST_F(BesideChoiceTest, WhatIsNotTriedIsTriedAgain) {
  note_dearness(20, 20);
  int sweeps = 0;
  while (!choice.worth(options, 20 * kMib)) ASSERT_LT(++sweeps, 2000);
  EXPECT_GT(sweeps, 100);
  note_dearness(20, 1);  // as dear as ever: once is enough to leave it
  EXPECT_FALSE(choice.worth(options, 20 * kMib));
}

// Sweeps that never come near the target say nothing about it.
TEST_F(BesideChoiceTest, SmallSweepsDoNotLetTheMeasureFade) {
  note_dearness(20, 20);
  const uint64_t before = choice.tolerance();
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(choice.worth(options, kMib));
  EXPECT_EQ(choice.tolerance(), before);
}

}  // namespace
}  // namespace nonreuse
