// What sweeps release a bitmap word at a time, and how it is gathered again, against the model.
#include <set>
#include <vector>

#include "heap_model.hpp"

namespace nonreuse {
namespace {

class HeapWordsTest : public CoreTest {
 protected:
  // Chunks side by side from a word's first granule on, with one more behind.
  std::vector<Run> row(World& world, std::initializer_list<Granules> lengths) {
    const Run pad = world.keep(world.heap.take_aligned(64, 64));
    std::vector<Run> runs;
    for (const Granules length : lengths) runs.push_back(world.take(length));
    world.take(1);
    EXPECT_EQ(runs[0].start, pad.end());
    for (size_t i = 1; i < runs.size(); ++i) EXPECT_EQ(runs[i].start, runs[i - 1].end());
    return runs;
  }
  // Without `unwanted` only what is long enough.
  std::vector<Run> gather(World& world, Granules least, Granules wanted, size_t most = 64,
                          uint64_t unwanted = bits::kAll) {
    std::vector<Run> runs(most);
    runs.resize(world.heap.gather(least, wanted, unwanted, runs.data(), most));
    for (const Run run : runs) {
      EXPECT_TRUE(run.length >= least || (unwanted >> run.length & 1) == 0) << run.length;
      world.keep(run);
    }
    return runs;
  }
};

TEST_F(HeapWordsTest, NeighboursBecomeOneRunThatIsFoundByBestFit) {
  for (const std::initializer_list<Granules>& lengths : {std::initializer_list<Granules>{30, 30, 30, 30},
                                                         {64, 1, 62, 1},
                                                         {63, 2, 63, 5},
                                                         {10, 200, 3, 7},
                                                         {1, 63, 64, 64}}) {
    World world;
    const std::vector<Run> runs = row(world, lengths);
    const Granules whole = runs.back().end() - runs.front().start;
    world.release_by_words(runs);
    world.check();
    EXPECT_EQ(world.holes().back(), (Run{runs.front().start, whole}));
    EXPECT_EQ(world.take(whole), (Run{runs.front().start, whole}));
    world.check();
  }
}

// Long runs that are indexed already, below, above and on both sides of what is released.
TEST_F(HeapWordsTest, IndexedNeighboursAreTakenIn) {
  for (const Granules between : {1, 5, 63, 64, 65, 127, 200}) {
    for (const Granules below : {64, 70, 127, 300}) {
      for (const Granules above : {64, 90, 128, 500}) {
        for (int sides = 0; sides < 4; ++sides) {
          World world;
          const std::vector<Run> runs = row(world, {below, between, above});
          if (sides & 1) world.release_by_words({runs[0]});
          if (sides & 2) world.release_by_words({runs[2]});
          world.check();
          world.release_by_words({runs[1]});
          world.check();
          const Granule start = sides & 1 ? runs[0].start : runs[1].start;
          const Granule end = sides & 2 ? runs[2].end() : runs[1].end();
          ASSERT_EQ(world.holes().back(), (Run{start, end - start}));
        }
      }
    }
  }
}

// Holes that are too short for the index make a long run where they meet inside a word.
TEST_F(HeapWordsTest, ALongRunOfTwoShortOnesIsIndexed) {
  for (const bool lower_first : {false, true}) {
    World world;
    const std::vector<Run> runs = row(world, {24, 296, 296, 24});
    world.release_by_words({runs[lower_first ? 1 : 2]});
    world.check();
    world.release_by_words({runs[lower_first ? 2 : 1]});
    world.check();
    EXPECT_EQ(world.heap.indexed_runs(), 1u);
    EXPECT_EQ(world.take(560).start, runs[1].start);
  }
}

TEST_F(HeapWordsTest, WhatEndsAtTheTopLowersIt) {
  for (const Granules last : {3, 64, 1000}) {
    World world;
    const Run first = world.take(100), second = world.take(last);
    world.release_by_words({second});
    EXPECT_EQ(world.heap.top(), second.start);
    world.check();
    world.release_by_words({first});
    EXPECT_EQ(world.heap.top(), first.start);
    world.check();
  }
}

TEST_F(HeapWordsTest, TheVictimIsAnOrdinaryRunByThen) {
  World world;
  const std::vector<Run> runs = row(world, {500, 20, 3});
  world.release(runs[0]);
  const Run cut = world.take(10);  // the rest is the victim
  world.release_by_words({runs[1]});
  world.check();
  EXPECT_EQ(world.holes().back(), (Run{cut.end(), 510}));
  EXPECT_EQ(world.take(510).start, cut.end());
}

TEST_F(HeapWordsTest, GatherGivesWhatIsLongEnoughInAddressOrder) {
  World world;
  std::vector<Run> holes, all;
  for (int i = 0; i < 20; ++i) {
    holes.push_back(world.take(6));
    world.take(1);
  }
  const Run large = world.take(300);
  world.take(1);
  all = holes;
  all.push_back(large);
  world.release_by_words(all);
  EXPECT_EQ(gather(world, 7, 100000), (std::vector<Run>{large})) << "the holes are too short";
  EXPECT_EQ(gather(world, 1, 100000), (std::vector<Run>{})) << "all were passed";
  Run passed[2];
  ASSERT_EQ(world.heap.gather_passed(5, 100000, passed, 2), 2u) << "they are there still";
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(passed[i], holes[i]);
    world.keep(passed[i]);
    world.release(passed[i]);
  }
  world.heap.rewind();
  EXPECT_EQ(gather(world, 5, 100000, 12), (std::vector<Run>(holes.begin(), holes.begin() + 12)));
  EXPECT_EQ(gather(world, 6, 30), (std::vector<Run>(holes.begin() + 12, holes.begin() + 17)));
  EXPECT_EQ(gather(world, 1, 100000), (std::vector<Run>(holes.begin() + 17, holes.end())));
  EXPECT_EQ(gather(world, 1, 100000), (std::vector<Run>{}));
  world.check();
}

// The shorter ones are for the caches of their sizes, those that have room.
TEST_F(HeapWordsTest, GatherBringsShorterHolesThatAreWanted) {
  World world;
  std::vector<Run> holes;
  for (int i = 0; i < 10; ++i) {
    for (const Granules length : {3, 5, 9}) {
      holes.push_back(world.take(length));
      world.take(1);
    }
  }
  world.release_by_words(holes);
  const uint64_t all_but_five = bits::kAll & ~(uint64_t{1} << 5);
  const std::vector<Run> first = gather(world, 9, 18, 64, all_but_five);
  EXPECT_EQ(first, (std::vector<Run>{holes[1], holes[2], holes[4], holes[5]})) << "until 18 granules fit";
  EXPECT_EQ(gather(world, 9, 1, 64, 0), (std::vector<Run>{holes[6], holes[7], holes[8]}));
  EXPECT_EQ(gather(world, 9, 100, 2, 0), (std::vector<Run>{holes[9], holes[10]})) << "no more than asked for";
  world.check();
}

// take() finds them too: no bin knows of what sweeps release.
TEST_F(HeapWordsTest, EveryHoleThatASweepLeavesIsUsedBeforeFreshMemory) {
  for (const Granules length : {1, 2, 7, 14, 15, 16, 40, 62, 63}) {
    World world;
    std::vector<Run> holes;
    for (int i = 0; i < 500; ++i) {
      holes.push_back(world.take(length));
      world.take(1);
    }
    const Granule top = world.heap.top();
    world.release_by_words(holes);
    for (size_t i = 0; i < holes.size(); ++i) ASSERT_LT(world.take(length).start, top) << i;
    EXPECT_TRUE(world.holes().empty());
    world.check();
  }
}

// Where most of the heap is short holes, long runs are left to what needs them; else they are used in turn.
TEST_F(HeapWordsTest, AHeapOfShortHolesKeepsItsLongRuns) {
  for (const bool of_holes : {true, false}) {
    World world;
    const Run large = row(world, {600}).front();
    std::vector<Run> freed{large};
    for (int i = 0; i < 1200; ++i) {
      freed.push_back(world.take(of_holes ? 60 : 20));
      world.take(of_holes ? 20 : 60);
    }
    world.release_by_words(freed);
    world.check();
    const std::vector<Run> runs = gather(world, 3, 50, 4);
    ASSERT_FALSE(runs.empty());
    if (of_holes) {
      for (const Run run : runs) EXPECT_LT(run.length, kIndexedMin);
      EXPECT_EQ(world.take(600), large);
    } else {
      EXPECT_EQ(runs.front().start, large.start);
    }
    world.check();
  }
}

TEST_F(HeapWordsTest, AlignedRunsFitIntoHoles) {
  for (const Granules alignment : {2, 4, 16}) {
    World world;
    std::vector<Run> holes;
    for (int i = 0; i < 300; ++i) {
      holes.push_back(world.take(5 + alignment - 1));
      world.take(1);
    }
    const Granule top = world.heap.top();
    world.release_by_words(holes);
    for (size_t i = 0; i < holes.size(); ++i) {
      const Run run = world.keep(world.heap.take_aligned(5, alignment));
      ASSERT_LT(run.start, top) << i;
      ASSERT_EQ((world.space.address(run.start) / kGranule) % alignment, 0u);
    }
    world.check();
  }
}

TEST_F(HeapWordsTest, WhenMemoryIsOutHolesBehindTheCursorServe) {
  World world;
  std::vector<Run> holes;
  for (int i = 0; i < 100; ++i) {
    holes.push_back(world.take(20));
    world.take(1);
  }
  world.release_by_words(holes);
  gather(world, 10, 1 << 20, 50);
  world.memory.refuse(SimulatedMemory::Call::commit, SimulatedMemory::kAlways);
  while (!world.heap.take_any(20, 20).empty()) {
  }
  size_t again = 0;
  world.release_by_words({holes[3], holes[5]});
  world.release(holes[7]);
  while (!world.take(20).empty()) ++again;
  EXPECT_GE(again, 3u);
}

// What is released one by one behind the cursor waits for the next round; what a cursor stands in is whole.
TEST_F(HeapWordsTest, EachRoundPassesEveryRunOnce) {
  World world;
  const std::vector<Run> runs = row(world, {1000, 1, 5, 1});
  world.release_by_words({runs[0], runs[2]});
  const std::vector<Run> first = gather(world, 2, 200);
  ASSERT_EQ(first.size(), 1u);
  EXPECT_LT(first[0].length, 600u);
  world.release(first[0]);  // the cursor now stands inside a longer run
  world.check();
  Granules rest = 0;
  for (std::vector<Run> more; !(more = gather(world, 2, 200)).empty();) {
    for (const Run run : more) rest += run.length;
    world.check();
  }
  EXPECT_EQ(rest, 1005u);
  world.release(world.taken.at(runs[2].start));
  EXPECT_TRUE(gather(world, 2, 200).empty()) << "this round is over";
  world.heap.rewind();
  EXPECT_EQ(gather(world, 2, 200), (std::vector<Run>{runs[2]}));
  world.check();
}

// Everything together, against the model, in every state of fragmentation.
TEST_F(HeapWordsTest, AgreesWithTheModelAtRandom) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    World world(512 * kMiB);
    Random random(seed);
    for (int round = 0; round < 120; ++round) {
      const uint64_t taken = random.between(1, 400);
      for (uint64_t i = 0; i < taken; ++i) {
        if (random.one_in(3))
          gather(world, random.between(1, 62), random.between(1, 600), random.between(1, 64));
        else
          world.take(random.one_in(10) ? random.between(64, 3000) : random.between(1, 80));
      }
      if (random.one_in(4) && !world.taken.empty()) world.release(world.any(random));
      std::vector<Run> gone;
      const uint64_t share = random.between(1, 100);
      for (const auto& [start, run] : world.taken) {
        if (random.below(100) < share) gone.push_back(run);
      }
      world.release_by_words(gone);
      for (const Run run : gone) {
        for (Granule g = run.start; g < run.end() && g < world.heap.top(); ++g)
          ASSERT_TRUE(world.heap.is_free(g)) << "round " << round;
      }
      world.check();
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

// Records for the index are out: long runs are found again through the bitmap.
TEST_F(HeapWordsTest, WithoutRecordsTheBitmapIsEnough) {
  World world;
  const std::vector<Run> runs = row(world, {100, 1, 100, 1, 100, 1});
  world.memory.refuse(SimulatedMemory::Call::commit, SimulatedMemory::kAlways);
  world.release_by_words({runs[0], runs[2], runs[4]});
  world.release_by_words({runs[1], runs[3]});
  EXPECT_EQ(world.holes().back(), (Run{runs[0].start, 303 - 1}));
  world.check();
}

}  // namespace
}  // namespace nonreuse
