// The out-of-line boundary tags. I3: by its tag a chunk is in one state; a double claim is decided by the
// tag.
#include "heap/tag_map.hpp"

#include <atomic>
#include <thread>
#include <vector>

#include "heap_world.hpp"

namespace nonreuse {
namespace {

class TagMapTest : public CoreTest {
 protected:
  TagMapTest() : bytes(1 << 20) { tags.attach(bytes.data()); }

  // True for what malloc hands out and free accepts; the reference for is_live().
  static bool live_by_the_book(uint8_t tag) { return tag >= 1 && tag <= 63; }

  std::vector<uint8_t> bytes;
  TagMap tags;
};

const std::vector<Granules> kSizes{1,  2,   3,   31,   61,   62,    63,    64,
                                   65, 127, 128, 4095, 4096, 65535, 65536, 700000};

TEST_F(TagMapTest, LengthsOfEverySizeComeBack) {
  for (const Granules size : kSizes) {
    std::fill(bytes.begin(), bytes.end(), 0);
    tags.set_live(100, size);
    EXPECT_EQ(tags.length(100), size);
    EXPECT_TRUE(TagMap::is_live(tags.load(100)));
    EXPECT_EQ(TagMap::is_live_small(tags.load(100)), size <= kSmallMax);
    EXPECT_FALSE(TagMap::is_freed(tags.load(100)));
    tags.set_freed(100, size);
    EXPECT_EQ(tags.length(100), size);
    EXPECT_TRUE(TagMap::is_freed(tags.load(100)));
    EXPECT_FALSE(TagMap::is_live(tags.load(100)));
  }
  for (const Granules size : {kMaxChunk, kMaxChunk - 1, (Granules{1} << 35) + 12345}) {
    tags.set_live(100, size);
    EXPECT_EQ(tags.length(100), size);
    tags.set_freed(100, size);
    EXPECT_EQ(tags.length(100), size);
  }
  tags.set_live_small(7, kSmallMax);
  EXPECT_EQ(tags.length(7), kSmallMax);
}

TEST_F(TagMapTest, TheStatesOfATagExcludeEachOther) {
  for (unsigned value = 0; value < 256; ++value) {
    const auto tag = static_cast<uint8_t>(value);
    EXPECT_EQ(TagMap::is_live(tag), live_by_the_book(tag)) << value;
    EXPECT_EQ(TagMap::is_live_small(tag), tag >= 1 && tag <= 62) << value;
    EXPECT_EQ(TagMap::is_freed(tag), tag >= 128 && tag < 192) << value;
    EXPECT_FALSE(TagMap::is_live(tag) && TagMap::is_freed(tag)) << value;
  }
}

// Whatever number the digits spell, no byte but the head looks like a chunk's start.
TEST_F(TagMapTest, MarksAndDigitsNeverLookLikeChunks) {
  constexpr Granule kSeen = 16 + kIndexedMin + 136;
  Random random(3);
  for (int round = 0; round < 8000; ++round) {
    std::fill_n(bytes.begin(), kSeen, 0);
    const uint64_t number = random.size(kMaxChunk);
    if (random.one_in(2)) {
      tags.set_live(16, number > kSmallMax ? number : kSmallMax + 1);
      for (Granule at = 17; at < kSeen; ++at) {
        ASSERT_FALSE(TagMap::is_live(tags.load(at)) || TagMap::is_freed(tags.load(at)));
      }
    } else {
      const Run run{16, random.between(kIndexedMin, kIndexedMin + 135)};
      tags.mark_run(run, static_cast<uint32_t>(number));
      for (Granule at = 0; at < kSeen; ++at) {
        ASSERT_FALSE(TagMap::is_live(tags.load(at)) || TagMap::is_freed(tags.load(at)));
        ASSERT_EQ(tags.is_run_head(at), at == run.start);
        ASSERT_EQ(tags.is_run_tail(at), at == run.end() - 1);
      }
      ASSERT_EQ(tags.record_at_head(run.start), static_cast<uint32_t>(number));
      ASSERT_EQ(tags.record_at_tail(run.end() - 1), static_cast<uint32_t>(number));
      tags.unmark_run(run);
      ASSERT_TRUE(tags.all_clear({0, kSeen}));
    }
  }
}

// Chunks of all kinds side by side: from each granule of each, covering() finds that chunk; between, none.
TEST_F(TagMapTest, CoveringFindsTheChunkFromEveryInterior) {
  Random random(5);
  for (int round = 0; round < 200; ++round) {
    std::fill(bytes.begin(), bytes.end(), 0);
    std::vector<Run> owner(4096);
    for (Granule at = 0; at < 3400;) {
      const Run run{at, random.one_in(20)  ? random.between(kIndexedMin, kIndexedMin + 100)
                        : random.one_in(4) ? random.between(63, 250)
                                           : random.between(1, 62)};
      at = run.end();
      if (random.one_in(4)) {  // a hole; the longer ones carry marks
        if (run.length >= kIndexedMin) tags.mark_run(run, static_cast<uint32_t>(random.word()));
        continue;
      }
      if (random.one_in(2))
        tags.set_live(run.start, run.length);
      else
        tags.set_freed(run.start, run.length);
      for (Granule g = run.start; g < run.end(); ++g) owner[g] = run;
    }
    for (Granule at = 0; at < 4096; ++at) ASSERT_EQ(tags.covering(at, at), owner[at]) << at;
  }
}

TEST_F(TagMapTest, CoveringLooksBackNoFurtherThanAsked) {
  tags.set_live(1000, 5000);
  EXPECT_EQ(tags.covering(1000 + 2048, 2048), (Run{1000, 5000}));
  EXPECT_EQ(tags.covering(1000 + 2049, 2048), Run{});
  EXPECT_EQ(tags.covering(5, 2048), Run{});
}

TEST_F(TagMapTest, ClearForgetsTheRunAndNothingElse) {
  tags.set_live(10, 10);
  tags.set_live(20, 100);
  tags.set_live(120, 3);
  tags.clear({20, 100});
  EXPECT_TRUE(tags.all_clear({20, 100}));
  EXPECT_EQ(tags.length(10), 10u);
  EXPECT_EQ(tags.length(120), 3u);
  EXPECT_FALSE(tags.all_clear({20, 101}));
}

TEST_F(TagMapTest, AClaimSucceedsOnce) {
  for (const bool alone : {false, true}) {
    tags.set_live(10, 5);
    const uint8_t seen = tags.load(10);
    EXPECT_TRUE(tags.claim(10, seen, alone));
    EXPECT_TRUE(TagMap::is_freed(tags.load(10)));
    EXPECT_EQ(tags.length(10), 5u);
    EXPECT_FALSE(tags.claim(10, seen, false));
    EXPECT_EQ(tags.length(10), 5u);
  }
}

// Two threads free the same chunks: each chunk is claimed by exactly one of them.
TEST_F(TagMapTest, TwoThreadsClaimEachChunkExactlyOnce) {
  constexpr Granules kChunks = 100000;
  for (int round = 0; round < 5; ++round) {
    for (Granule g = 0; g < kChunks; ++g) tags.set_live(g * 8, g % 2 == 0 ? 8 : kSmallMax);
    std::vector<std::atomic<int>> claims(kChunks);
    std::atomic<int> ready{0};
    const auto claim_all = [&] {
      ++ready;
      while (ready < 2) {
      }
      for (Granule g = 0; g < kChunks; ++g) {
        const uint8_t seen = tags.load(g * 8);
        if (TagMap::is_live(seen) && tags.claim(g * 8, seen, false)) ++claims[g];
      }
    };
    std::thread other(claim_all);
    claim_all();
    other.join();
    for (Granule g = 0; g < kChunks; ++g) ASSERT_EQ(claims[g], 1) << g;
  }
}

}  // namespace
}  // namespace nonreuse
