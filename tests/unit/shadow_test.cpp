// The shadow bitmap against a model that keeps sets of chunks and granules.
#include <map>
#include <set>
#include <vector>

#include "heap_world.hpp"
#include "shadow_tables.hpp"

namespace nonreuse {
namespace {

constexpr Granule kGranules = Granule{1} << 18;  // 64 blocks of the summary

class ShadowTest : public CoreTest {
 protected:
  // Chunks side by side or apart, of all sizes, in random order.
  std::vector<Run> random_chunks(Random& random, size_t most) {
    std::vector<Run> found;
    for (Granule at = random.below(200); found.size() < most;) {
      const Run run{at, random.one_in(20) ? random.between(63, 9000) : random.between(1, 70)};
      if (run.end() >= kGranules) break;
      found.push_back(run);
      at = run.end() + (random.one_in(2) ? 0 : random.size(3000));
    }
    for (size_t i = found.size(); i > 1; --i) std::swap(found[i - 1], found[random.below(i)]);
    return found;
  }
  void paint(Run chunk) {
    ASSERT_TRUE(shadow.paint(chunk));
    chunks.emplace(chunk.start, chunk);
  }
  Run chunk_at(Granule granule) const {
    auto it = chunks.upper_bound(granule);
    if (it == chunks.begin()) return {};
    --it;
    return granule < it->second.end() ? it->second : Run{};
  }
  Shadow::Held expand() {
    return shadow.expand(
        kGranules, [&](Granule granule) { return chunk_at(granule); }, [](Run) { return false; });
  }
  std::vector<Run> release(Granules* total) { return released_runs(shadow, kGranules, total); }
  bool nothing_left() const { return tables.all_clear(); }

  ShadowTables tables{kGranules};
  Shadow& shadow = tables.shadow;
  std::map<Granule, Run> chunks;
};

// I7: exactly the granules of the painted chunks are painted.
TEST_F(ShadowTest, PaintingMarksTheWholeChunkAndNothingElse) {
  Random random(1);
  for (const Run chunk : random_chunks(random, 500)) paint(chunk);
  for (Granule granule = 0; granule < kGranules; ++granule) {
    ASSERT_EQ(shadow.is_painted(granule), !chunk_at(granule).empty()) << granule;
  }
}

TEST_F(ShadowTest, PaintingTwiceIsNoticedWhateverOverlaps) {
  paint({1000, 200});
  EXPECT_FALSE(shadow.paint({1000, 200}));
  EXPECT_FALSE(shadow.paint({1000, 1}));
  EXPECT_FALSE(shadow.paint({1199, 1}));
  EXPECT_FALSE(shadow.paint({900, 101}));
  EXPECT_TRUE(shadow.paint({800, 100}));
  EXPECT_TRUE(shadow.paint({1200, 100}));
}

TEST_F(ShadowTest, OnlyPaintedGranulesAreHitAndEachOnce) {
  paint({100, 3});
  EXPECT_FALSE(shadow.hit(99));
  EXPECT_TRUE(shadow.hit(100));
  EXPECT_FALSE(shadow.hit(100)) << "no news";
  EXPECT_TRUE(shadow.hit(102));
  EXPECT_FALSE(shadow.hit(103));
  EXPECT_TRUE(shadow.any_hit({102, 1}));
  EXPECT_FALSE(shadow.any_hit({101, 1}));
}

TEST_F(ShadowTest, WhatIsPaintedIsWalkedInOrderWordByWord) {
  for (const Granule at : {200000u, 3u, 64u, 70u, 131072u, 4095u}) paint({at, 1});
  std::vector<uint64_t> words;
  shadow.for_each_painted_word(kGranules, [&](uint64_t word) { words.push_back(word); });
  EXPECT_EQ(words, (std::vector<uint64_t>{0, 1, 63, 2048, 3125}));
  words.clear();
  shadow.for_each_painted_word(131072, [&](uint64_t word) { words.push_back(word); });
  EXPECT_EQ(words, (std::vector<uint64_t>{0, 1, 63})) << "nothing at or above the limit's block";
}

// A hit anywhere in a chunk, its first and its last granule included, holds all of it and no neighbour.
TEST_F(ShadowTest, AHitIsWidenedToItsChunk) {
  for (const Granule where : {300u, 301u, 349u, 350u, 399u}) {
    shadow.forget_hits(kGranules);
    chunks.clear();
    std::fill(tables.painted.begin(), tables.painted.end(), 0);
    paint({200, 100});
    paint({300, 100});
    paint({400, 100});
    ASSERT_TRUE(shadow.hit(where));
    const Shadow::Held held = expand();
    EXPECT_EQ(held.chunks, 1u);
    EXPECT_EQ(held.granules, 100u);
    for (Granule granule = 200; granule < 500; ++granule) {
      ASSERT_EQ(bits::test(tables.hits.data(), granule), granule >= 300 && granule < 400) << granule;
    }
  }
}

// A program that writes pointers through a dangling one: what held chunks point at is held as well, in
// whatever order the chunks lie.
TEST_F(ShadowTest, WhatHeldChunksPointAtIsHeldToo) {
  for (const bool upwards : {false, true}) {
    chunks.clear();
    std::fill(tables.painted.begin(), tables.painted.end(), 0);
    std::fill(tables.hits.begin(), tables.hits.end(), 0);
    constexpr Granule kChain = 50;
    for (Granule i = 0; i < kChain; ++i) paint({1000 + i * 100, 40});
    paint({90000, 40});
    shadow.hit(1000 + (upwards ? 0 : kChain - 1) * 100 + 7);
    const Shadow::Held held = shadow.expand(
        kGranules, [&](Granule granule) { return chunk_at(granule); },
        [&](Run chunk) {  // each points into the middle of the next
          const Granule next = upwards ? chunk.start + 100 : chunk.start - 100;
          return next >= 1000 && next < 1000 + kChain * 100 && shadow.hit(next + 20);
        });
    EXPECT_EQ(held.chunks, kChain);
    EXPECT_EQ(held.granules, kChain * 40);
    Granules total = 0;
    EXPECT_EQ(release(&total), (std::vector<Run>{{90000, 40}}));
  }
}

TEST_F(ShadowTest, ABrushPaintsWhatPaintDoes) {
  Random random(11);
  ShadowTables other{kGranules};
  for (int round = 0; round < 200; ++round) {
    std::vector<Run> some;
    Granule at = random.below(64);
    while (some.size() < 50 && at < kGranules - 400) {
      some.push_back({at, 1 + random.below(random.one_in(8) ? 300 : 9)});
      at = some.back().end() + random.below(random.one_in(3) ? 200 : 2);
    }
    for (size_t i = some.size(); i > 1; --i) std::swap(some[i - 1], some[random.below(i)]);
    {
      Shadow::Brush brush(shadow);
      for (const Run run : some) ASSERT_TRUE(brush.paint(run));
      // Freed twice: in the word at hand, across words, and in a word left long ago.
      const Run twice = some[random.below(some.size())];
      ASSERT_FALSE(brush.paint({twice.end() - 1, 1}));
      ASSERT_FALSE(brush.paint(twice));
    }
    for (const Run run : some) ASSERT_TRUE(other.shadow.paint(run));
    ASSERT_EQ(tables.painted, other.painted);
    ASSERT_EQ(tables.summary, other.summary);
    for (Shadow* one : {&shadow, &other.shadow}) one->release(kGranules, [](uint64_t, uint64_t) {});
  }
}

// Beside running threads most is widened early; in the stop only what was hit since is looked at, and what
// could not be named before.
TEST_F(ShadowTest, WideningAgainLooksOnlyWhereSomethingWasHit) {
  constexpr Granule kBlock = Granule{1} << kSummaryShift;
  for (Granule i = 0; i < 4; ++i) paint({i * kBlock + 10, 30});
  std::vector<Granule> asked;
  bool known = false;
  const auto widen = [&] {
    asked.clear();
    return shadow.expand(
        kGranules,
        [&](Granule granule) {
          asked.push_back(granule);
          return granule < 3 * kBlock || known ? chunk_at(granule) : Run{};
        },
        [](Run) { return false; });
  };
  for (const Granule i : {0u, 1u, 3u}) shadow.hit(i * kBlock + 15);
  EXPECT_EQ(widen().chunks, 2u);
  EXPECT_EQ(asked, (std::vector<Granule>{15, kBlock + 15, 3 * kBlock + 15}));
  shadow.hit(2 * kBlock + 10);
  EXPECT_EQ(widen().chunks, 3u);
  EXPECT_EQ(asked, (std::vector<Granule>{2 * kBlock + 10, 3 * kBlock + 15}));
  known = true;
  EXPECT_EQ(widen().chunks, 4u);
  EXPECT_EQ(asked, (std::vector<Granule>{3 * kBlock + 15}));
  EXPECT_EQ(widen().chunks, 4u);
  EXPECT_TRUE(asked.empty());
  Granules total = 0;
  EXPECT_TRUE(release(&total).empty());
  known = false;
  shadow.hit(3 * kBlock + 110);  // what is hit is not released, widened or not
  EXPECT_EQ(widen().chunks, 0u);
  for (const Run& run : release(&total))
    EXPECT_FALSE(run.start <= 3 * kBlock + 110 && run.end() > 3 * kBlock + 110);
  known = true;
  chunks.clear();
  std::fill(tables.painted.begin(), tables.painted.end(), 0);
  for (Granule i = 0; i < 4; ++i) paint({i * kBlock + 100, 40});
  shadow.hit(110);
  for (const bool all : {false, true}) {
    shadow.hit(2 * kBlock + 110);
    all ? shadow.forget_all_hits(kGranules) : shadow.forget_hits(kGranules);
    for (const auto* table : {&tables.hits, &tables.hit_summary, &tables.news, &tables.expanded})
      EXPECT_TRUE(std::all_of(table->begin(), table->end(), [](uint64_t word) { return word == 0; }));
  }
  EXPECT_EQ(widen().chunks, 0u);
  EXPECT_EQ(release(&total).size(), 4u);
  EXPECT_TRUE(nothing_left());
}

// Beside the threads large chunks are left to the stop: one question each, however many words point at them.
TEST_F(ShadowTest, WhatIsLeftForLaterIsAskedOnceAndKept) {
  constexpr Run kLarge{100, 3000}, kSmall{3200, 5};
  for (const Run chunk : {kLarge, kSmall}) paint(chunk);
  for (Granule at = kLarge.start; at < kLarge.end(); at += 3) shadow.hit(at);
  shadow.hit(kSmall.start + 2);
  size_t asked = 0;
  const auto expand_leaving = [&](bool leave) {
    asked = 0;
    return shadow.expand(
        kGranules,
        [&](Granule granule) {
          ++asked;
          return chunk_at(granule);
        },
        [](Run) { return false; }, [&](Run chunk) { return leave && chunk == kLarge; });
  };
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(expand_leaving(true).chunks, 1u);
    EXPECT_EQ(asked, round == 0 ? 2u : 1u);
    EXPECT_FALSE(shadow.any_hit({kLarge.end() - 2, 1})) << "not widened";
  }
  EXPECT_EQ(expand_leaving(false).chunks, 2u);
  EXPECT_TRUE(bits::all(tables.hits.data(), kLarge.start, kLarge.length));
  std::vector<Granule> released;
  shadow.release(kGranules, [&](uint64_t word, uint64_t) { released.push_back(word); });
  EXPECT_TRUE(released.empty()) << "both are held";
}

TEST_F(ShadowTest, NeighboursAreReleasedAsOneRunInAddressOrder) {
  for (const Run chunk : {Run{128, 64}, Run{0, 128}, Run{192, 1}, Run{300, 5}, Run{4090, 20}, Run{193, 7}})
    paint(chunk);
  Granules total = 0;
  EXPECT_EQ(release(&total), (std::vector<Run>{{0, 200}, {300, 5}, {4090, 20}}));
  EXPECT_EQ(total, 225u);
  EXPECT_TRUE(nothing_left());
}

// Hit chunks stay painted, for the next sweep; their neighbours go.
TEST_F(ShadowTest, HeldChunksStayPaintedUntilTheyAreNotHit) {
  for (const Run chunk : {Run{60, 10}, Run{70, 100}, Run{170, 10}}) paint(chunk);
  shadow.hit(100);
  expand();
  Granules total = 0;
  EXPECT_EQ(release(&total), (std::vector<Run>{{60, 10}, {170, 10}}));
  EXPECT_EQ(total, 20u);
  for (Granule granule = 0; granule < 300; ++granule) {
    ASSERT_EQ(shadow.is_painted(granule), granule >= 70 && granule < 170);
    ASSERT_FALSE(bits::test(tables.hits.data(), granule)) << "hits are of one sweep";
  }
  EXPECT_EQ(release(&total), (std::vector<Run>{{70, 100}}));
  EXPECT_TRUE(nothing_left());
}

TEST_F(ShadowTest, ASweepThatFailedLeavesEverythingPaintedAndNothingHit) {
  paint({60, 10});
  paint({50000, 100});
  shadow.hit(65);
  shadow.hit(50099);
  shadow.forget_hits(kGranules);
  EXPECT_FALSE(shadow.any_hit({0, kGranules}));
  Granules total = 0;
  EXPECT_EQ(release(&total), (std::vector<Run>{{60, 10}, {50000, 100}}));
}

// I7 over many sweeps: what is released is exactly what was painted and not pointed at, as maximal runs.
TEST_F(ShadowTest, AgreesWithTheModelOverManySweeps) {
  Random random(2);
  for (int sweep = 0; sweep < 400; ++sweep) {
    for (const Run chunk : random_chunks(random, random.between(1, 300))) {
      bool overlaps = false;
      for (auto it = chunks.lower_bound(chunk.start); it != chunks.end() && it->first < chunk.end(); ++it)
        overlaps = true;
      if (!overlaps && chunk_at(chunk.start).empty()) paint(chunk);
    }
    std::set<Granule> held;
    const uint64_t pointers = random.size(200);
    for (uint64_t i = 0; i < pointers; ++i) {
      const Granule granule = random.below(kGranules);
      const Run chunk = chunk_at(granule);
      const bool news = shadow.hit(granule);
      ASSERT_TRUE(!news || !chunk.empty());
      if (!chunk.empty()) held.insert(chunk.start);
    }
    Granules held_granules = 0, expected_total = 0;
    std::vector<Run> expected;
    for (auto it = chunks.begin(); it != chunks.end();) {
      const Run chunk = it->second;
      if (held.count(chunk.start) != 0) {
        held_granules += chunk.length;
        ++it;
        continue;
      }
      expected_total += chunk.length;
      if (!expected.empty() && expected.back().end() == chunk.start)
        expected.back().length += chunk.length;
      else
        expected.push_back(chunk);
      it = chunks.erase(it);
    }
    const Shadow::Held counted = expand();
    ASSERT_EQ(counted.chunks, held.size());
    ASSERT_EQ(counted.granules, held_granules);
    Granules total = 0;
    ASSERT_EQ(release(&total), expected);
    ASSERT_EQ(total, expected_total);
  }
}

}  // namespace
}  // namespace nonreuse
