// The free pool over simulated memory, against a model that knows of every granule who has it.
#include "heap/heap.hpp"

#include <set>
#include <vector>

#include "heap_model.hpp"

namespace nonreuse {
namespace {

using Page = SimulatedMemory::Page;
using Call = SimulatedMemory::Call;

class HeapTest : public CoreTest {
 protected:
  // `count` chunks side by side, and one more behind, so that none is next to the top.
  std::vector<Run> row(World& world, std::initializer_list<Granules> lengths) {
    std::vector<Run> runs;
    for (const Granules length : lengths) runs.push_back(world.take(length));
    world.take(1);
    for (size_t i = 1; i < runs.size(); ++i) EXPECT_EQ(runs[i].start, runs[i - 1].end());
    return runs;
  }
};

TEST_F(HeapTest, NothingLiesAtTheAddressThatTheLibraryKeeps) {
  World world;
  ASSERT_TRUE(world.ready);
  EXPECT_GT(world.take(1).start, 0u);
  world.check();
}

TEST_F(HeapTest, EmptyAndImpossibleRequestsGetNothing) {
  World world;
  EXPECT_TRUE(world.heap.take(0).empty());
  EXPECT_TRUE(world.heap.take(kMaxChunk + 1).empty());
  EXPECT_TRUE(world.heap.take(world.space.capacity()).empty());
  EXPECT_TRUE(world.heap.take_aligned(kMaxChunk, 2).empty());
  EXPECT_TRUE(world.heap.take_aligned(1, kMaxChunk + 1).empty());
  world.check();
}

// I2: a released run joins what is free on either side, whoever indexes it: bins, tries or the victim.
TEST_F(HeapTest, ReleasedRunsJoinBothNeighbours) {
  for (const Granules left : {1, 5, 62, 63, 64, 65, 1000}) {
    for (const Granules middle : {1, 63, 64, 700}) {
      for (const Granules right : {1, 5, 62, 63, 64, 65, 1000}) {
        for (int order = 0; order < 6; ++order) {
          World world;
          std::vector<Run> runs = row(world, {3, left, middle, right, 3});
          const int orders[6][3] = {{1, 2, 3}, {1, 3, 2}, {2, 1, 3}, {2, 3, 1}, {3, 1, 2}, {3, 2, 1}};
          for (const int i : orders[order]) {
            world.release(runs[i]);
            world.check();
          }
          ASSERT_EQ(world.holes(), (std::vector<Run>{{runs[1].start, left + middle + right}}));
          ASSERT_EQ(world.take(left + middle + right).start, runs[1].start)
              << "the joined run is found again";
        }
      }
    }
  }
}

TEST_F(HeapTest, ReleasedRunsJoinTheTop) {
  World world;
  const Run a = world.take(10), b = world.take(100), c = world.take(10);
  world.release(b);
  world.release(c);
  EXPECT_EQ(world.heap.top(), b.start);
  world.release(a);
  EXPECT_EQ(world.heap.top(), a.start);
  EXPECT_EQ(world.heap.in_use(), 0u);
  world.check();
}

// The heap grows a part at a time, and brings the memory of each at once, but not where a long chunk asks for
// it: not all of that need ever be used.
TEST_F(HeapTest, TheTopIsBroughtAsItGrows) {
  World world;
  const auto brought = [&] { return world.memory.calls(Call::populate); };
  const Run first = world.take(10);
  EXPECT_EQ(brought(), 1u);
  while (world.heap.top_size() >= 10) world.take(10);
  EXPECT_EQ(brought(), 1u);
  world.take(10);
  EXPECT_EQ(brought(), 2u);
  const Run large = world.take(40000);
  EXPECT_EQ(brought(), 2u);
  world.heap.cleanse(large);
  EXPECT_TRUE(world.all_zero(large));
  EXPECT_EQ(brought(), 2u);
  while (world.heap.top_size() > 0) world.take(1);
  const Run next = world.take(300);
  EXPECT_EQ(brought(), 3u);
  world.heap.cleanse(next);
  EXPECT_EQ(brought(), 3u) << "it is there";
  world.release(first);
  world.heap.cleanse(world.take(10));
  EXPECT_EQ(brought(), 3u);
  world.check();
}

// What is longer than a page is asked for whole: whoever clears it can leave out what is not there.
TEST_F(HeapTest, LongRunsAreCleansedInOneCall) {
  World world;
  const Run run = row(world, {100000}).front();
  world.heap.cleanse(run);
  world.scribble(run);
  const uint64_t before = world.memory.calls(Call::make_zero);
  EXPECT_TRUE(world.heap.cleanse(run));
  EXPECT_EQ(world.memory.calls(Call::make_zero), before + 1);
  EXPECT_TRUE(world.all_zero(run));
}

// Runs that are too short for the index and come back behind the cursor are found by the next refill.
TEST_F(HeapTest, WhatAThreadGivesBackIsGatheredAtOnce) {
  World world;
  const std::vector<Run> runs = row(world, {300, 1, 20, 1});
  Run out[4];
  world.release(runs[2]);
  ASSERT_EQ(world.heap.gather(20, 20, bits::kAll, out, 4), 1u);
  world.keep(out[0]);
  world.release(runs[0]);
  ASSERT_EQ(world.heap.gather(20, 20, bits::kAll, out, 4), 1u);
  EXPECT_EQ(out[0].start, runs[0].start);
  world.keep(out[0]);
  world.check();
}

// What was given back is brought again by whoever gets it, all at once, but for long runs.
TEST_F(HeapTest, MemoryThatWasGivenBackIsBroughtAtOnce) {
  World world;
  const std::vector<Run> runs = row(world, {40000, 1, 600, 1});
  world.heap.cleanse(runs[0]);
  world.scribble(runs[0]);
  world.release(runs[0]);
  world.heap.trim(0);
  const uint64_t before = world.memory.calls(Call::populate);
  const Run small = world.take(2000);
  world.heap.cleanse(small);
  EXPECT_TRUE(world.all_zero(small));
  EXPECT_EQ(world.memory.calls(Call::populate), before + 1);
  world.heap.cleanse(small);
  EXPECT_EQ(world.memory.calls(Call::populate), before + 1) << "once";
  const Run longer = world.take(20000);
  world.heap.cleanse(longer);
  EXPECT_TRUE(world.all_zero(longer));
  EXPECT_EQ(world.memory.calls(Call::populate), before + 1);
  world.check();
}

TEST_F(HeapTest, BestFitAndTheLowestOfEqualOnes) {
  World world;
  std::vector<Run> runs = row(world, {2000, 1, 1200, 1, 800, 1, 1200, 1, 600, 1, 800, 1});
  for (const size_t i : {6, 4, 2, 0, 10, 8}) world.release(runs[i]);
  EXPECT_EQ(world.take(700).start, runs[4].start);   // 800, the lower
  EXPECT_EQ(world.take(800).start, runs[10].start);  // 800, the other
  EXPECT_EQ(world.take(1200).start, runs[2].start);
  EXPECT_EQ(world.take(550).start, runs[8].start);
  EXPECT_EQ(world.take(1201).start, runs[0].start);
  world.check();
}

TEST_F(HeapTest, SmallRequestsPreferTheExactHoleThenTheVictim) {
  World world;
  std::vector<Run> runs = row(world, {40, 1, 7, 1, 50, 1});
  world.release(runs[0]);
  const Run first = world.take(10);  // cut from the hole of 40; its rest is the victim now
  EXPECT_EQ(first.start, runs[0].start);
  world.release(runs[2]);
  world.release(runs[4]);
  EXPECT_EQ(world.take(7).start, runs[2].start) << "the exact hole comes before the victim";
  EXPECT_EQ(world.take(8).start, first.end()) << "the victim comes before a larger hole";
  EXPECT_EQ(world.take(8).start, first.end() + 8) << "again";
  EXPECT_EQ(world.take(20).start, runs[4].start) << "too large for what is left of the victim";
  world.check();
}

// A hint in a bin may name, granule by granule, the run that is the victim by now.
TEST_F(HeapTest, AHintThatNamesTheVictimIsNotHandedOutTwice) {
  World world;
  std::vector<Run> runs = row(world, {3, 20, 10, 3});
  world.release(runs[2]);  // the hint: 10 granules
  world.release(runs[1]);  // joined: 30 granules
  world.take(20);          // cut off; the rest, the same 10 granules, is the victim
  world.take(10);
  for (int i = 0; i < 20; ++i) world.take(2);
  world.check();
}

TEST_F(HeapTest, HolesThatABinForgotAreFoundAgain) {
  World world;
  std::vector<Run> runs;
  for (size_t i = 0; i < SmallBins::kCapacity + 3000; ++i) {
    runs.push_back(world.take(2));
    world.take(1);
  }
  const Granule top = world.heap.top();
  for (const Run run : runs) world.release(run);
  for (size_t i = 0; i < runs.size(); ++i) ASSERT_FALSE(world.take(2).empty());
  EXPECT_EQ(world.heap.top(), top) << "every old hole before fresh memory";
  EXPECT_TRUE(world.holes().empty());
  world.check();
}

TEST_F(HeapTest, AlignedRunsAreAlignedAndTheRestIsFree) {
  World world;
  for (Granules alignment = 1; alignment <= 16 * kPage; alignment *= 2) {
    for (const Granules length : {1, 3, 64, 300, 5000}) {
      world.take(3);
      const Run run = world.keep(world.heap.take_aligned(length, alignment));
      ASSERT_EQ(run.length, length);
      ASSERT_EQ(world.space.address(run.start) % (alignment * kGranule), 0u);
      world.check();
    }
  }
}

TEST_F(HeapTest, ExtendTakesWhatIsFreeBehindAndNoMore) {
  for (const Granules behind : {5, 63, 64, 500}) {
    for (const bool victim : {false, true}) {
      World world;
      std::vector<Run> runs = row(world, {100, behind + 10, 5});
      if (victim) {  // the run behind is the rest of a split
        world.release(runs[1]);
        world.cut(world.take(behind + 10), 10);
        world.release({runs[1].start + 10, behind});
        world.release({runs[1].start, 10});
        world.take(10);
        world.release({runs[1].start, 10});
      } else {
        world.release(runs[1]);
      }
      EXPECT_FALSE(world.heap.extend(runs[0], 100 + behind + 11));
      world.check();
      ASSERT_TRUE(world.heap.extend(runs[0], 104));
      world.taken.erase(runs[0].start);
      world.keep({runs[0].start, 104});
      world.check();
      ASSERT_TRUE(world.heap.extend({runs[0].start, 104}, 100 + behind + 10));
      world.taken.erase(runs[0].start);
      world.keep({runs[0].start, 100 + behind + 10});
      world.check();
      EXPECT_FALSE(world.heap.extend({runs[0].start, 100 + behind + 10}, 100 + behind + 11));
    }
  }
  World world;
  const Run last = world.take(100);
  ASSERT_TRUE(world.heap.extend(last, 1000)) << "into the top";
  world.taken.clear();
  world.keep({last.start, 1000});
  world.check();
  EXPECT_FALSE(world.heap.extend({last.start, 1000}, world.heap.top_size() + 1001))
      << "beyond what is committed";
  EXPECT_FALSE(world.heap.extend({last.start, 1000}, kMaxChunk + 1));
}

TEST_F(HeapTest, AnyRunServesBeforeFreshMemory) {
  World world;
  std::vector<Run> runs = row(world, {800, 1, 600, 1});
  world.release(runs[0]);
  world.release(runs[2]);
  EXPECT_EQ(world.keep(world.heap.take_any(10, 700)), runs[2]);
  EXPECT_EQ(world.keep(world.heap.take_any(10, 400)), (Run{runs[0].start, 400}));
  const Granule top = world.heap.top();
  EXPECT_EQ(world.keep(world.heap.take_any(10, 256)), (Run{top, 256}));
  world.check();
}

// ---- memory runs out --------------------------------------------------------------------------------------

// Whatever call is refused: the heap stays whole, and after that it serves as before.
TEST_F(HeapTest, OutOfMemoryAtEveryCommitLosesNothing) {
  constexpr uint64_t kSeed = 8;
  uint64_t refused = 0;
  for (uint64_t nth = 1; nth <= 24; ++nth) {
    World world;
    ASSERT_TRUE(world.ready);
    world.memory.refuse(Call::commit, nth);
    Random random(kSeed);
    uint64_t failures = 0;
    for (int op = 0; op < 300; ++op) {
      if (random.one_in(3) && !world.taken.empty()) {
        world.release(world.any(random));
      } else {
        failures +=
            world.take(random.one_in(20) ? random.between(50000, 200000) : random.between(1, 5000)).empty();
      }
    }
    world.check();
    refused += failures;
    EXPECT_LE(failures, 1u);
    EXPECT_FALSE(world.take(100000).empty());
    while (!world.taken.empty()) world.release(world.taken.begin()->second);
    EXPECT_EQ(world.heap.in_use(), 0u);
    EXPECT_TRUE(world.holes().empty()) << "all of it is top again";
    world.check();
  }
  EXPECT_GT(refused, 0u) << "no request ever met the refused commit";
}

TEST_F(HeapTest, WithNoCommitAtAllRequestsFailAndLaterSucceed) {
  World world;
  const Run kept = world.take(10);
  world.memory.refuse(Call::commit, SimulatedMemory::kAlways);
  std::vector<Run> runs;
  for (;;) {
    const Run run = world.take(1000);
    if (run.empty()) break;
    runs.push_back(run);
  }
  EXPECT_FALSE(runs.empty()) << "what is committed is used up first";
  world.check();
  world.release(runs.front());
  EXPECT_EQ(world.take(1000).start, runs.front().start);
  world.memory.refuse(Call::commit, SimulatedMemory::kNever);
  EXPECT_FALSE(world.take(100000).empty());
  EXPECT_EQ(world.taken.count(kept.start), 1u);
  world.check();
}

TEST_F(HeapTest, InitFailsWhereNotEvenTheBinsFit) {
  SimulatedMemory memory(256 * kMiB);
  Space space(memory);
  ASSERT_TRUE(space.init());
  memory.limit_commits(64 * kKiB);
  TestHeap heap(space);
  EXPECT_FALSE(heap.init());
}

// Without a record a long run waits unindexed: lost to no one, and found again when a neighbour is released.
TEST_F(HeapTest, RunsWithoutARecordAreFoundWhenANeighbourIsReleased) {
  for (const bool right : {false, true}) {
    World world(1024 * kMiB);
    std::vector<Run> many;
    for (int i = 0; i < 40000; ++i) {
      many.push_back(world.take(kIndexedMin));
      world.take(1);
    }
    std::vector<Run> runs = row(world, {5, 1200, 800, 1600, 5});
    world.memory.refuse(Call::commit, SimulatedMemory::kAlways);
    for (const Run run : many) world.release(run);
    const uint64_t indexed = world.heap.indexed_runs();
    ASSERT_LT(indexed, many.size()) << "records never ran out";
    const Run first = right ? runs[1] : runs[3], second = right ? runs[3] : runs[1];
    world.release(first);
    world.release(second);
    ASSERT_EQ(world.heap.indexed_runs(), indexed);
    world.memory.refuse(Call::commit, SimulatedMemory::kNever);
    world.release(runs[2]);
    EXPECT_EQ(world.heap.indexed_runs(), indexed + 1);
    EXPECT_EQ(world.holes().back(), (Run{runs[1].start, 3600}));
    EXPECT_EQ(world.take(3600).start, runs[1].start);
    world.check();
    for (int i = 0; i < 1000; ++i) world.take(kIndexedMin);
    world.check();
  }
}

// ---- somebody else's mappings
// ------------------------------------------------------------------------------

TEST_F(HeapTest, OccupiedRangesAreSkippedAndNeverHandedOut) {
  World world(512 * kMiB);
  world.memory.occupy(8 * kMiB, 64 * kKiB);
  std::vector<Run> runs;
  for (int i = 0; i < 100; ++i) {
    runs.push_back(world.take(16384));  // 256 KiB
    ASSERT_FALSE(runs.back().empty());
  }
  const Granule from = (8 * kMiB) / kGranule, to = from + 64 * kKiB / kGranule;
  for (const Run run : runs) EXPECT_TRUE(run.end() <= from || run.start >= to);
  EXPECT_GT(world.heap.top(), to);
  world.check();
  // The gap that was left behind is used once the other mapping is gone.
  world.memory.vacate_occupied();
  const Granule top = world.heap.top();
  bool in_gap = false;
  for (int i = 0; i < 400 && !in_gap; ++i) in_gap = world.take(16384).start < top;
  EXPECT_TRUE(in_gap);
  world.check();
}

// ---- giving back
// --------------------------------------------------------------------------------------------

constexpr Granules kSegment = 8 * kMiB / kGranule;

TEST_F(HeapTest, SegmentsAreUnmappedEverySoManyConsolidationsAndMappedAgain) {
  World world(512 * kMiB);
  const Run before = world.take(2);
  std::vector<Run> segments = row(world, {kSegment, 1, kSegment, 1, kSegment, 1, kSegment, 1, kSegment, 1,
                                          kSegment, 1, kSegment, 1, kSegment, 1});
  for (size_t i = 1; i < segments.size(); ++i) segments.erase(segments.begin() + static_cast<long>(i));
  ASSERT_EQ(segments.size(), 8u);
  for (const Run run : segments) world.release(run);
  ASSERT_EQ(world.memory.calls(Call::uncommit), 0u);
  // Each of these joins the top: a consolidation. What was free from one look to the next is idle, and an
  // eighth of it goes back at each.
  for (uint64_t i = 0; i < 2 * kMaxReleaseCheckRate; ++i)
    world.release(world.keep(world.heap.take_aligned(kSegment + 1, 1)));
  EXPECT_GT(world.memory.calls(Call::uncommit), 0u);
  world.check();
  const size_t committed = world.memory.committed_bytes();
  EXPECT_GT(world.memory.count(Page::uncommitted, world.space.address(segments[0].start),
                               world.space.address(segments[7].end())),
            (4 * kMiB) / SimulatedMemory::kUsualPage);
  // And mapped again when they are needed: before more is committed at the end.
  const Granule end = world.heap.top() + world.heap.top_size();
  std::vector<Run> again;
  for (int i = 0; i < 9; ++i) again.push_back(world.take(kSegment - 2 * kPage));
  for (const Run run : again) {
    ASSERT_FALSE(run.empty());
    EXPECT_TRUE(world.all_zero({run.start + kPage, 16})) << "fresh pages";
  }
  EXPECT_EQ(world.heap.top() + world.heap.top_size(), end);
  EXPECT_GT(world.memory.committed_bytes(), committed);
  EXPECT_EQ(world.taken.count(before.start), 1u);
  world.check();
}

TEST_F(HeapTest, ConsolidationsAreCountedUpToTheRateExactly) {
  World world(512 * kMiB);
  std::vector<Run> segments;
  for (int i = 0; i < 8; ++i) {
    segments.push_back(world.take(kSegment));
    world.take(1);
  }
  std::vector<Run> pairs;
  for (uint64_t i = 0; i < 2 * kMaxReleaseCheckRate + 10; ++i) {
    pairs.push_back(world.take(2));
    pairs.push_back(world.take(2));
    world.take(1);
  }
  for (const Run run : segments) world.release(run);  // no neighbour is free: no consolidation
  // At the first look nothing has been idle since an earlier one.
  for (uint64_t i = 0; i < 2 * kMaxReleaseCheckRate; ++i) {
    ASSERT_EQ(world.memory.calls(Call::uncommit), 0u) << "after " << i;
    world.release(pairs[2 * i]);
    world.release(pairs[2 * i + 1]);
  }
  EXPECT_GT(world.memory.calls(Call::uncommit), 0u);
  world.check();
}

// What goes back bit by bit lies side by side: it must serve a request as long as all of it.
TEST_F(HeapTest, NeighbouringVacanciesBecomeOne) {
  World world(1024 * kMiB);
  const Granules table = 200 * kMiB / kGranule;
  Granule highest = 0;
  Run old = world.take(table);
  for (int cycle = 0; cycle < 12; ++cycle) {
    const Run fresh = world.take(table);
    ASSERT_FALSE(fresh.empty()) << "cycle " << cycle;
    world.take(1);
    world.release(old);
    old = fresh;
    highest = std::max(highest, world.heap.top());
    std::vector<Run> pairs;
    for (uint64_t i = 0; i < 4 * kMaxReleaseCheckRate; ++i) pairs.push_back(world.take(2));
    for (const Run run : pairs) world.release(run);
    world.check();
  }
  EXPECT_LT(highest, 3 * table + kMiB);
}

// The rest of the longest run is the victim after a small take: it is idle all the same.
TEST_F(HeapTest, TheVictimIsIdleToo) {
  World world(512 * kMiB);
  const Run large = world.take(64 * kMiB / kGranule);
  world.take(1);
  world.release(large);
  for (int look = 0; look < 60; ++look) {
    std::vector<Run> few;
    for (uint64_t i = 0; i < kMaxReleaseCheckRate; ++i) few.push_back(world.take(2));
    for (const Run run : few) world.release(run);
  }
  EXPECT_LT(world.memory.committed_bytes(), 64 * kMiB) << "of 93";
  world.check();
}

// The victim can have grown as long as a segment.
TEST_F(HeapTest, TrimGivesBackTheVictimToo) {
  World world(512 * kMiB);
  const Run large = world.take(kSegment);
  world.take(1);
  world.release(large);
  world.release(world.take(5));  // cuts the long run: its rest was the victim
  EXPECT_TRUE(world.heap.trim(0));
  EXPECT_GT(world.memory.count(Page::uncommitted, world.space.address(large.start),
                               world.space.address(large.end())),
            kSegment / kPage - 3);
  world.check();
  world.scribble(world.take(kSegment - 4 * kPage));
  world.check();
}

TEST_F(HeapTest, TrimKeepsThePadAndGivesBackTheRest) {
  World world;
  world.take(100000);
  const Run last = world.take(200000);
  world.release(last);
  const Granules spare = world.heap.top_size();
  EXPECT_FALSE(world.heap.trim(~size_t{0})) << "a pad larger than all there is keeps all there is";
  EXPECT_EQ(world.heap.top_size(), spare);
  EXPECT_TRUE(world.heap.trim(kMiB));
  EXPECT_GE(world.heap.top_size(), kMiB / kGranule);
  EXPECT_LE(world.heap.top_size(), kMiB / kGranule + kPage);
  EXPECT_TRUE(world.heap.trim(0));
  EXPECT_LT(world.heap.top_size(), kPage);
  EXPECT_FALSE(world.heap.trim(0));
  EXPECT_FALSE(world.take(200000).empty());
  world.check();
}

TEST_F(HeapTest, WhereThePlatformGivesNothingBackTheHeapStaysWhole) {
  World world(512 * kMiB);
  world.memory.refuse(Call::uncommit, SimulatedMemory::kAlways);
  world.memory.refuse(Call::discard, SimulatedMemory::kAlways);
  std::vector<Run> runs;
  for (int i = 0; i < 6; ++i) {
    runs.push_back(world.take(kSegment));
    world.take(1);
  }
  for (const Run run : runs) {
    world.heap.cleanse(run);
    world.scribble(run);
    world.release(run);
  }
  EXPECT_FALSE(world.heap.trim(0));
  world.check();
  for (size_t i = 0; i < runs.size(); ++i) {
    const Run run = world.take(kSegment);
    EXPECT_TRUE(world.heap.cleanse(run));
    EXPECT_TRUE(world.all_zero(run)) << "I5: contents that could not be discarded are cleared";
  }
}

// Growing into an unmapped segment counts as success for the request that needed it.
TEST_F(HeapTest, AVacancyServesTheVeryRequestThatFillsIt) {
  World world;
  const Run large = world.take(kSegment);
  world.take(1);
  world.release(large);
  ASSERT_TRUE(world.heap.trim(0));
  const Granule top = world.heap.top();
  const Run again = world.take(kSegment - 2 * kPage);
  EXPECT_FALSE(again.empty());
  EXPECT_LT(again.start, top);
  world.check();
}

// ---- zeroes
// -------------------------------------------------------------------------------------------------

// I5: whatever was taken, written to, released, discarded, trapped, unmapped, mapped again in whatever order:
// after cleanse() a run reads as zero.
TEST_F(HeapTest, CleansedMemoryIsZeroAlways) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    World world(192 * kMiB);
    Random random(seed);
    for (int op = 0; op < 2500; ++op) {
      const uint64_t what = random.below(20);
      if (what < 9) {
        const Granules length = random.one_in(4) ? random.between(256, 6000) : random.between(1, 600);
        const Run run = random.one_in(3)
                            ? world.keep(world.heap.take_aligned(length, Granules{1} << random.below(9)))
                            : world.take(length);
        if (run.empty()) continue;
        world.heap.cleanse(run);
        ASSERT_TRUE(world.all_zero(run)) << "op " << op;
        if (random.one_in(2)) world.scribble(run);
      } else if (what < 17) {
        if (!world.taken.empty()) world.release(world.any(random));
      } else if (what < 18 && !world.taken.empty()) {
        const Run run = world.any(random);
        const Granules longer = run.length + random.between(1, 300);
        if (!world.heap.extend(run, longer)) continue;
        const Run more{run.end(), longer - run.length};
        world.taken.erase(run.start);
        world.keep({run.start, longer});
        world.heap.cleanse(more);
        ASSERT_TRUE(world.all_zero(more)) << "op " << op;
        world.scribble(more);
      } else if (what < 19 && !world.taken.empty()) {  // as a large chunk's pages at free
        const Run run = world.any(random);
        const Granule first = align_up(run.start, kPage), end = align_down(run.end(), kPage);
        if (first >= end) continue;
        ASSERT_TRUE(world.memory.discard(world.space.address(first), (end - first) * kGranule));
        world.heap.note_zero({first, end - first});
        ASSERT_TRUE(world.all_zero({first, end - first}));
        world.release(run);
      } else if (random.one_in(20)) {
        world.heap.trim(random.size(kMiB));
      }
    }
    world.check();
  }
}

TEST_F(HeapTest, CleanseTouchesNothingThatIsKnownToBeZero) {
  World world;
  const Run fresh = world.take(64 * kPage);
  ASSERT_TRUE(world.memory.discard(world.space.address(fresh.start), 64 * kPage * kGranule));
  EXPECT_FALSE(world.heap.cleanse(fresh));
  EXPECT_EQ(
      world.memory.count(Page::committed, world.space.address(fresh.start), world.space.address(fresh.end())),
      0u)
      << "a page was touched";
  world.heap.cleanse(fresh);
  EXPECT_EQ(
      world.memory.count(Page::discarded, world.space.address(fresh.start), world.space.address(fresh.end())),
      0u)
      << "its owner may have written to it: known no more";
}

TEST_F(HeapTest, CleanseSaysWhetherSomebodyWroteAfterTheRelease) {
  World world;
  const Run run = world.take(1000);
  world.take(1);
  world.heap.cleanse(run);
  world.release(run);
  world.take(1000);
  EXPECT_FALSE(world.heap.cleanse(run));
  world.release(run);
  world.bytes(run)[5000] = 1;
  world.take(1000);
  EXPECT_TRUE(world.heap.cleanse(run));
  EXPECT_TRUE(world.all_zero(run));
}

// A block of which only a part was handed out is nobody's to vouch for any more.
TEST_F(HeapTest, ABlockThatIsSharedIsNotKnownToBeZero) {
  World world;
  const Run chunk = world.keep(world.heap.take_aligned(3 * kPage / 2, kPage / 4));
  world.heap.cleanse(chunk);
  const Run behind = world.take(8 * kPage);  // the same block goes on here
  world.take(1);
  world.heap.cleanse(behind);
  world.scribble(chunk);  // through a dangling pointer, after its content was cleared
  world.release(chunk);
  world.release(behind);
  const Run all = world.take(chunk.length + behind.length);
  world.heap.cleanse(all);
  EXPECT_TRUE(world.all_zero(all));
}

// ---- at random
// ------------------------------------------------------------------------------------------------

void random_operations(World& world, uint64_t seed, int operations, int check_every) {
  Random random(seed);
  for (int op = 0; op < operations; ++op) {
    const bool shrink = world.heap.in_use() > 400000 || (op / 3000) % 2 == 1;
    const uint64_t what = random.below(100);
    if (what < (shrink ? 60u : 35u)) {
      if (world.taken.empty()) continue;
      const Run run = world.any(random);
      if (run.length > 2 && random.one_in(3)) world.cut(run, random.between(1, run.length - 1));
      world.release(world.taken.at(run.start));
    } else if (what < 80) {
      world.take(random.one_in(30)  ? random.between(1, 60000)
                 : random.one_in(4) ? random.between(60, 70)
                                    : random.between(1, 400));
    } else if (what < 88) {
      const Granules alignment = Granules{1} << random.below(11);
      const Run run = world.keep(world.heap.take_aligned(random.between(1, 300), alignment));
      ASSERT_TRUE(run.empty() || world.space.address(run.start) % (alignment * kGranule) == 0);
    } else if (what < 92) {
      Run out[64];
      const Granules least = random.between(1, kSmallMax);
      if (random.one_in(4)) world.heap.rewind();
      const uint64_t unwanted = random.one_in(2) ? bits::kAll : random.word();
      const size_t wanted = random.between(1, 2000), most = random.between(1, 64);
      const size_t count = unwanted == bits::kAll ? world.heap.gather_passed(least, wanted, out, most)
                                                  : world.heap.gather(least, wanted, unwanted, out, most);
      for (size_t i = 0; i < count; ++i) {
        ASSERT_TRUE(out[i].length >= least || (unwanted >> out[i].length & 1) == 0) << out[i].length;
        world.keep(out[i]);
      }
    } else if (what < 96) {
      const Granules least = random.between(1, 62);
      const Run run = world.keep(world.heap.take_any(least, random.between(256, 2000)));
      ASSERT_TRUE(run.empty() || run.length >= least);
    } else if (what < 99) {
      if (world.taken.empty()) continue;
      const Run run = world.any(random);
      const Granules longer = run.length + random.between(1, 100);
      if (!world.heap.extend(run, longer)) continue;
      world.taken.erase(run.start);
      world.keep({run.start, longer});
    } else if (random.one_in(10)) {
      world.heap.trim(random.size(4 * kMiB));
    }
    if (testing::Test::HasFailure()) return;
    if (op % check_every == 0) world.check();
    if (testing::Test::HasFatalFailure()) return;
  }
  world.check();
  while (!world.taken.empty()) world.release(world.any(random));
  world.check();
  EXPECT_EQ(world.heap.in_use(), 0u);
}

// I1, I2 under random use.
TEST_F(HeapTest, AgreesWithTheModelOverManyOperations) {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE(seed);
    World world(512 * kMiB);
    random_operations(world, seed, 30000, 500);
    if (HasFailure()) return;
  }
}

TEST_F(HeapTest, AgreesWithTheModelWhileCommitsFailNowAndThen) {
  World world(512 * kMiB);
  world.memory.limit_commits(24 * kMiB);
  random_operations(world, 7, 30000, 500);
}

TEST_F(HeapTest, AgreesWithTheModelBetweenForeignMappings) {
  World world(1024 * kMiB);
  Random random(9);
  for (size_t offset = 2 * kMiB; offset < 256 * kMiB; offset += random.between(1, 24) * kMiB) {
    world.memory.occupy(offset, SimulatedMemory::kUsualPage);
  }
  random_operations(world, 9, 30000, 500);
}

// Every free granule is one that can be had again.
TEST_F(HeapTest, NoFreeMemoryIsEverLost) {
  World world;
  Random random(10);
  for (int i = 0; i < 5000; ++i) {
    world.take(random.between(1, 200));
    if (random.one_in(2)) world.release(world.any(random));
  }
  world.memory.refuse(Call::commit, SimulatedMemory::kAlways);
  while (!world.take(1000).empty()) {
  }
  for (Granules length = 999; length > 0; --length) {
    while (!world.take(length).empty()) {
    }
  }
  EXPECT_TRUE(world.holes().empty());
  EXPECT_EQ(world.heap.top_size(), 0u);
  world.check();
}

}  // namespace
}  // namespace nonreuse
