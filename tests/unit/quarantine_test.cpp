// The quarantine's books: what is sealed is painted once, oldest first; large chunks by their state.
#include "revoke/quarantine.hpp"

#include <vector>

#include "heap_world.hpp"
#include "shadow_tables.hpp"

namespace nonreuse {
namespace {

constexpr Granule kGranules = Granule{1} << 22;

class QuarantineTest : public CoreTest {
 protected:
  QuarantineTest() { EXPECT_TRUE(space.init()); }

  Batch* batch_of(std::initializer_list<Run> chunks) {
    Batch* batch = quarantine.take_batch_locked();
    for (const Run chunk : chunks) EXPECT_TRUE(batch->append(chunk));
    return batch;
  }
  void seal(std::initializer_list<Run> chunks) {
    uint64_t bytes = 0;
    for (const Run chunk : chunks) bytes += chunk.length * kGranule;
    quarantine.seal_locked(batch_of(chunks), bytes);
  }
  Quarantine<SimulatedMemory>::Painted paint(uint64_t most = 0) {
    return quarantine.paint_locked(shadow, most);
  }
  std::vector<Run> release() { return released_runs(shadow, kGranules); }

  SimulatedMemory memory{64 * kMiB};
  Space space{memory};
  Quarantine<SimulatedMemory> quarantine{space};
  ShadowTables tables{kGranules};
  Shadow& shadow = tables.shadow;
};

TEST_F(QuarantineTest, ABatchEntryKeepsStartAndLength) {
  for (const Granule start : {uint64_t{0}, uint64_t{1}, (uint64_t{1} << 36) - 1, (uint64_t{1} << 47)}) {
    for (const Granules length : {Granules{1}, Granules{62}, Granules{63}, kLargeChunk - 1}) {
      EXPECT_EQ(BatchEntry({start, length}).chunk(), (Run{start, length}));
    }
  }
}

TEST_F(QuarantineTest, ABatchTakesAsManyAsItHas) {
  Batch* batch = quarantine.take_batch_locked();
  for (uint32_t i = 0; i < Batch::kCapacity; ++i) ASSERT_TRUE(batch->append(Run{i, 1}));
  EXPECT_FALSE(batch->append(Run{5, 1}));
  EXPECT_EQ(batch->count.load(), Batch::kCapacity);
}

// I7: everything sealed is painted, nothing else.
TEST_F(QuarantineTest, PaintsEverythingThatIsSealed) {
  seal({{100, 5}, {200, 1}});
  seal({{300, 2000}});
  ASSERT_TRUE(quarantine.add_large_locked({10000, 5000}, LargePages::present));
  EXPECT_TRUE(quarantine.anything_locked());
  EXPECT_EQ(quarantine.pending_bytes(), (5 + 1 + 2000 + 5000) * kGranule);
  EXPECT_EQ(quarantine.sealed_chunks(), 4u);
  const auto done = paint();
  EXPECT_EQ(done.chunks, 4u);
  EXPECT_EQ(done.granules, 7006u);
  EXPECT_TRUE(done.twice.empty());
  EXPECT_EQ(quarantine.pending_bytes(), 7006 * kGranule) << "painted is pending still";
  quarantine.settle_large_locked(shadow, [](const LargeChunk&) { return true; });
  EXPECT_EQ(release(), (std::vector<Run>{{100, 5}, {200, 1}, {300, 2000}, {10000, 5000}}));
  quarantine.settle_books(0, 0);
  EXPECT_EQ(quarantine.pending_bytes(), 0u);
  EXPECT_FALSE(quarantine.anything_locked());
  EXPECT_EQ(paint().chunks, 0u);
}

TEST_F(QuarantineTest, OnePassPaintsAboutAsManyAsAskedOldestFirst) {
  seal({{100, 1}, {102, 1}, {104, 1}});
  seal({{200, 1}, {202, 1}, {204, 1}});
  seal({{300, 1}});
  EXPECT_EQ(paint(2).chunks, 3u);
  EXPECT_EQ(release(), (std::vector<Run>{{100, 1}, {102, 1}, {104, 1}}));
  EXPECT_EQ(paint(4).chunks, 4u);
  EXPECT_EQ(paint(4).chunks, 0u);
}

TEST_F(QuarantineTest, LargeChunksCountAgainstTheLimitToo) {
  for (Granule i = 0; i < 5; ++i) quarantine.add_large_locked({i * 4096, 2048}, LargePages::present);
  EXPECT_EQ(paint(2).chunks, 2u);
  EXPECT_EQ(paint(2).chunks, 2u);
  EXPECT_EQ(paint(2).chunks, 1u);
}

TEST_F(QuarantineTest, AChunkThatIsThereTwiceIsFound) {
  seal({{100, 5}, {200, 7}, {100, 5}, {300, 1}});
  EXPECT_EQ(paint().twice, (Run{100, 5}));
}

TEST_F(QuarantineTest, TheSameLargeChunkTwiceIsFound) {
  quarantine.add_large_locked({4096, 2048}, LargePages::present);
  quarantine.add_large_locked({4096, 2048}, LargePages::present);
  EXPECT_EQ(paint().twice, (Run{4096, 2048}));
}

// Chunks that touch the last one share its entry, but not one that a sweep has taken; all are counted.
TEST_F(QuarantineTest, ChunksThatTouchAreOneEntry) {
  Batch* batch = batch_of({{100, 2}});
  EXPECT_TRUE(batch->join({102, 3}));
  EXPECT_TRUE(batch->join({97, 3}));
  EXPECT_FALSE(batch->join({95, 1}));
  EXPECT_FALSE(batch->join({106, 1}));
  EXPECT_EQ(batch->count.load(), 1u);
  EXPECT_EQ(batch->entries[0].chunk(), (Run{97, 8}));
  const auto painted = quarantine.paint_open_locked(shadow, *batch);
  EXPECT_EQ(painted.chunks, 3u);
  EXPECT_EQ(painted.granules, 8u);
  EXPECT_EQ(quarantine.sealed_chunks(), 3u);
  EXPECT_FALSE(batch->join({105, 1})) << "it would not be painted";
  EXPECT_TRUE(batch->append(Run{105, 1}));
  EXPECT_TRUE(batch->join({106, 1}));
  quarantine.seal_locked(batch, 2 * kGranule);
  EXPECT_EQ(quarantine.sealed_chunks(), 5u);
  EXPECT_EQ(paint().chunks, 2u);
  EXPECT_EQ(release(), (std::vector<Run>{{97, 10}}));
}

// An open batch is painted as far as it is filled, and the rest when it is sealed: each entry once.
TEST_F(QuarantineTest, OpenBatchesArePaintedPieceByPiece) {
  Batch* batch = batch_of({{100, 1}, {102, 1}});
  const auto first = quarantine.paint_open_locked(shadow, *batch);
  EXPECT_EQ(first.chunks, 2u);
  batch->bytes += first.granules * kGranule;
  EXPECT_EQ(quarantine.paint_open_locked(shadow, *batch).chunks, 0u);
  batch->append(Run{104, 3});
  EXPECT_EQ(quarantine.sealed_chunks(), 2u);
  quarantine.seal_locked(batch, 5 * kGranule - batch->bytes);
  EXPECT_EQ(quarantine.sealed_chunks(), 3u);
  EXPECT_EQ(quarantine.sealed_bytes(), 5 * kGranule);
  EXPECT_EQ(paint().chunks, 1u);
  EXPECT_EQ(release(), (std::vector<Run>{{100, 1}, {102, 1}, {104, 3}}));
}

TEST_F(QuarantineTest, UsedBatchesAreUsedAgainAndEmpty) {
  Batch* batch = batch_of({{100, 1}});
  quarantine.seal_locked(batch, kGranule);
  paint();
  Batch* again = quarantine.take_batch_locked();
  EXPECT_EQ(again, batch);
  EXPECT_EQ(again->count.load(), 0u);
  EXPECT_EQ(again->taken, 0u);
  EXPECT_EQ(again->bytes, 0u);
  EXPECT_EQ(again->next, nullptr);
  EXPECT_NE(quarantine.take_batch_locked(), again);
}

// Trapped chunks hold no memory: they weigh a thirty-second.
TEST_F(QuarantineTest, TrappedChunksWeighLittle) {
  quarantine.add_large_locked({4096, 65536}, LargePages::trapped);
  EXPECT_EQ(quarantine.pending_bytes(), kMiB / 32);
  EXPECT_EQ(quarantine.trapped_bytes(), kMiB);
  paint();
  quarantine.settle_large_locked(shadow, [](const LargeChunk& large) { return large.trapped(); });
  EXPECT_EQ(quarantine.trapped_bytes(), 0u);
}

TEST_F(QuarantineTest, HeldLargeChunksStayListedUntilTheyAreClear) {
  quarantine.add_large_locked({4096, 2048}, LargePages::trapped);
  quarantine.add_large_locked({8192, 2048}, LargePages::present);
  paint();
  shadow.hit_chunk({4096, 2048});
  std::vector<Granule> left;
  const auto leave = [&](const LargeChunk& large) {
    left.push_back(large.chunk.start);
    return true;
  };
  quarantine.settle_large_locked(shadow, leave);
  EXPECT_EQ(left, std::vector<Granule>{8192});
  EXPECT_EQ(quarantine.trapped_bytes(), 2048 * kGranule);
  EXPECT_EQ(quarantine.held_trapped_bytes(), 2048 * kGranule);
  EXPECT_EQ(quarantine.large_around_locked(4096 + 2047), (Run{4096, 2048}));
  EXPECT_TRUE(quarantine.large_around_locked(8192).empty());
  release();
  EXPECT_EQ(paint().chunks, 0u) << "held is painted already";
  quarantine.settle_large_locked(shadow, leave);
  EXPECT_EQ(left, (std::vector<Granule>{8192, 4096}));
  EXPECT_EQ(quarantine.held_trapped_bytes(), 0u);
  EXPECT_FALSE(quarantine.anything_locked());
}

// What is held in two sweeps may give its pages back; it is asked about once, whatever the answer was.
TEST_F(QuarantineTest, LargeChunksThatAreHeldForLongRest) {
  const Run refused{4096, 2048}, trapped{8192, 2048}, resting{12288, 2048};
  quarantine.add_large_locked(refused, LargePages::present);
  quarantine.add_large_locked(trapped, LargePages::trapped);
  quarantine.add_large_locked(resting, LargePages::present);
  paint();
  std::vector<Granule> asked;
  for (int sweep = 1; sweep <= 5; ++sweep) {
    for (const Run chunk : {resting, refused, trapped}) shadow.hit_chunk(chunk);
    quarantine.settle_large_locked(shadow, [](const LargeChunk&) { return true; });
    size_t at = 0;
    for (Run chunk; !(chunk = quarantine.next_to_rest_locked(at)).empty(); ++at) {
      asked.push_back(chunk.start);
      if (chunk == resting) quarantine.note_given_back_locked(at);
    }
    release();
    ASSERT_EQ(quarantine.pages_of_locked(resting), sweep < 2 ? LargePages::present : LargePages::given_back);
    ASSERT_EQ(quarantine.given_back_bytes(), sweep < 2 ? 0 : 2048 * kGranule);
    ASSERT_EQ(quarantine.pages_of_locked(refused), LargePages::present);
    ASSERT_EQ(quarantine.pages_of_locked(trapped), LargePages::trapped);
  }
  EXPECT_EQ(asked, (std::vector<Granule>{refused.start, resting.start}));
  std::vector<LargePages> left;
  quarantine.settle_large_locked(shadow, [&](const LargeChunk& large) {
    left.push_back(large.pages);
    return true;
  });
  EXPECT_EQ(left,
            (std::vector<LargePages>{LargePages::present, LargePages::trapped, LargePages::given_back}));
  EXPECT_EQ(quarantine.given_back_bytes(), 0u);
}

TEST_F(QuarantineTest, AChunkThatMayNotLeaveStays) {
  quarantine.add_large_locked({4096, 2048}, LargePages::trapped);
  paint();
  quarantine.settle_large_locked(shadow, [&](const LargeChunk& large) {
    shadow.hit_chunk(large.chunk);
    return false;
  });
  EXPECT_TRUE(release().empty());
  EXPECT_TRUE(shadow.is_painted(4096));
  EXPECT_EQ(quarantine.trapped_bytes(), 2048 * kGranule);
  EXPECT_EQ(quarantine.large_around_locked(5000), (Run{4096, 2048}));
}

TEST_F(QuarantineTest, ManyLargeChunksKeepTheirStateAcrossGrowth) {
  constexpr Granule kCount = 1000;
  for (Granule i = 0; i < kCount; ++i) {
    ASSERT_TRUE(quarantine.add_large_locked({i * 4096, 2048}, LargePages::present));
    if (i != kCount / 2) continue;
    EXPECT_EQ(paint().chunks, i + 1);
  }
  EXPECT_EQ(paint().chunks, kCount - kCount / 2 - 1);
  quarantine.settle_large_locked(shadow, [](const LargeChunk&) { return true; });
  EXPECT_EQ(release().size(), kCount);
}

TEST_F(QuarantineTest, WithoutMemoryItSaysSo) {
  memory.refuse(SimulatedMemory::Call::commit, SimulatedMemory::kAlways);
  EXPECT_EQ(quarantine.take_batch_locked(), nullptr);
  EXPECT_FALSE(quarantine.add_large_locked({4096, 2048}, LargePages::trapped));
  EXPECT_EQ(quarantine.trapped_bytes(), 0u);
  EXPECT_EQ(quarantine.pending_bytes(), 0u);
}

}  // namespace
}  // namespace nonreuse
