// The allocator: the way of a chunk through its states, over simulated memory and a revoker that a test
// scripts. Both seams, the memory platform and the revoker, carry the allocator unchanged.
#include <algorithm>
#include <cerrno>
#include <set>
#include <thread>

#include "allocator_world.hpp"

namespace nonreuse {
namespace {

using Page = SimulatedMemory::Page;
using Call = SimulatedMemory::Call;

const std::vector<size_t> kSizes{0,    1,    24,    32,    100,   976,   991,    992,
                                 1000, 5000, 32000, 40000, 65000, 70000, 300000, 5000000};

// ---- the way of a chunk
// ---------------------------------------------------------------------------------------

// I3: in use, then batched, then clear, then free; never two of them.
TEST_F(AllocatorTest, AChunkGoesThroughItsStatesOneAtATime) {
  for (const size_t size : kSizes) {
    char* p = get(size);
    ASSERT_NE(p, nullptr);
    EXPECT_TRUE(TagMap::is_live(tag(p)));
    EXPECT_FALSE(in_pool(p));
    EXPECT_GT(chunk_bytes(p), size) << "one byte more, for one-past-the-end pointers";
    EXPECT_TRUE(zero(p, size));
    get(16);
    put(p);
    EXPECT_TRUE(TagMap::is_freed(tag(p)));
    EXPECT_FALSE(in_pool(p)) << "I4: quarantined, and in the free pool";
    ASSERT_EQ(sweep(), SweepResult::done);
    EXPECT_FALSE(TagMap::is_freed(tag(p)));
    EXPECT_TRUE(in_pool(p));
  }
}

TEST_F(AllocatorTest, NothingToSweepIsSaidSo) {
  EXPECT_EQ(sweep(), SweepResult::nothing);
  char* p = get(10);
  EXPECT_EQ(sweep(), SweepResult::nothing);
  EXPECT_EQ(revoker.calls, 0u);
  put(p);
  EXPECT_EQ(sweep(), SweepResult::done);
  EXPECT_EQ(sweep(), SweepResult::nothing);
  EXPECT_EQ(revoker.calls, 1u);
}

// I4, and guarantee 1: while a pointer to a freed chunk is seen, nothing overlaps it; then it is reused.
TEST_F(AllocatorTest, HeldChunksAreNotReusedAndThenAre) {
  for (const size_t size : kSizes) {
    for (const int where : {0, 1, 2, 3}) {
      char* before = get(size);
      char* p = get(size);
      char* after = get(size);
      const size_t bytes = chunk_bytes(p);
      const char* places[] = {p, p + size / 2, p + bytes - 1, p + size};
      put(before);
      put(p);
      put(after);
      revoker.pointers.clear();
      point_at(places[where]);
      for (int round = 0; round < 3; ++round) {
        ASSERT_EQ(sweep(), SweepResult::done);
        ASSERT_TRUE(TagMap::is_freed(tag(p)));
        ASSERT_EQ(figures().held_chunks, 1u);
        ASSERT_EQ(figures().held_bytes, bytes);
        ASSERT_FALSE(comes_back(p, bytes, size, size > 100000 ? 5 : 300))
            << size << " at " << places[where] - p;
        free_all();
      }
      revoker.pointers.clear();
      ASSERT_EQ(sweep(), SweepResult::done);
      ASSERT_EQ(figures().held_chunks, 0u);
      ASSERT_TRUE(in_pool(p));
      ASSERT_TRUE(comes_back(p, bytes, size, size > 100000 ? 60 : 20000)) << size << " is never reused";
      free_all();
      ASSERT_EQ(sweep(), SweepResult::done);
    }
  }
}

// What a program writes through a dangling pointer is found: the chunk it points to is held as well.
TEST_F(AllocatorTest, WhatAHeldChunkPointsAtIsHeldToo) {
  char* a = get(100);
  char* b = get(3000);
  char* c = get(50000);
  put(a);
  put(b);
  put(c);
  point_at(b + 5);
  revoker.stored = {{reinterpret_cast<uintptr_t>(b + 8), reinterpret_cast<uintptr_t>(c + 40000)},
                    {reinterpret_cast<uintptr_t>(c + 16), reinterpret_cast<uintptr_t>(a)}};
  sweep();
  EXPECT_EQ(figures().held_chunks, 3u);
  for (char* p : {a, b, c}) EXPECT_TRUE(TagMap::is_freed(tag(p)));
  revoker.stored.clear();
  sweep();
  EXPECT_FALSE(in_pool(b));
  EXPECT_TRUE(in_pool(a));
  EXPECT_TRUE(in_pool(c));
}

// I7: at each revocation exactly the chunks freed and not yet released are painted, whoever freed them and
// however few they are; and I8: all of them were sealed before.
TEST_F(AllocatorTest, PaintedIsExactlyWhatIsQuarantined) {
  ThreadFront* other = allocator.make_front();
  Random random(1);
  std::vector<std::pair<char*, size_t>> live;
  std::vector<std::pair<char*, size_t>> quarantined;
  revoker.during = [&](const RevokeRequest& request) {
    Granules expected = 0, painted = 0;
    for (const auto& [p, bytes] : quarantined) {
      expected += bytes / kGranule;
      for (size_t i = 0; i < bytes; i += kGranule) ASSERT_TRUE(request.shadow->is_painted(granule(p + i)));
    }
    request.shadow->for_each_painted_word(request.top, [&](uint64_t word) {
      painted += static_cast<Granules>(std::popcount(request.shadow->painted()[word]));
    });
    ASSERT_EQ(painted, expected);
    for (const auto& [p, bytes] : live) ASSERT_FALSE(request.shadow->is_painted(granule(p)));
  };
  for (int round = 0; round < 60; ++round) {
    for (int i = 0; i < 200; ++i) {
      const size_t size = random.one_in(30) ? random.size(200000) : random.size(2000);
      char* p = static_cast<char*>(allocator.allocate(random.one_in(2) ? *front : *other, size).get());
      live.emplace_back(p, chunk_bytes(p));
    }
    while (live.size() > 300) {
      const size_t at = random.below(live.size());
      quarantined.push_back(live[at]);
      allocator.free(random.one_in(2) ? *front : *other, Wild(live[at].first));
      live.erase(live.begin() + static_cast<long>(at));
    }
    revoker.pointers.clear();
    std::vector<std::pair<char*, size_t>> held;
    for (const auto& [p, bytes] : quarantined) {
      if (!random.one_in(10)) continue;
      point_at(p + random.below(bytes));
      held.emplace_back(p, bytes);
    }
    ASSERT_EQ(sweep(), quarantined.empty() ? SweepResult::nothing : SweepResult::done);
    ASSERT_EQ(figures().held_chunks, held.size());
    quarantined = held;
    if (HasFailure()) return;
  }
}

// I6: the library's own objects hold no address of a chunk.
TEST_F(AllocatorTest, TheAllocatorsOwnObjectsNameNoChunk) {
  std::vector<char*> chunks;
  for (const size_t size : kSizes) chunks.push_back(get(size));
  for (char* p : chunks) put(p);
  sweep();
  for (const size_t size : kSizes) get(size);
  const auto none_in = [&](const void* object, size_t bytes, const char* name) {
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
      uintptr_t word;
      memcpy(&word, static_cast<const char*>(object) + i, sizeof word);
      const Granule at = allocator.space().granule(word);
      if (word >= allocator.space().heap().begin && at < allocator.heap().top()) {
        const Run around = allocator.heap().tags().covering(at, at);
        EXPECT_TRUE(around.empty()) << name << " holds an address inside a chunk, at offset " << i;
      }
    }
  };
  none_in(&allocator, sizeof allocator, "the allocator");
  none_in(front, sizeof *front, "a front");
  none_in(front->batch, sizeof *front->batch, "a batch");
}

// ---- when a revocation does not succeed
// ------------------------------------------------------------------------

TEST_F(AllocatorTest, RetryReleasesNothingAndTheNextSweepDoes) {
  std::vector<char*> chunks;
  for (const size_t size : kSizes) chunks.push_back(get(size));
  get(1);
  for (char* p : chunks) put(p);
  const uint64_t pending = figures().quarantined_bytes;
  revoker.outcomes = {RevokeOutcome::retry, RevokeOutcome::retry};
  testing::internal::CaptureStderr();
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(sweep(), SweepResult::retry);
    for (char* p : chunks) EXPECT_TRUE(TagMap::is_freed(tag(p)));
  }
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  EXPECT_EQ(said.rfind("nonreuse: ", 0), 0u) << said;
  EXPECT_GE(figures().quarantined_bytes, pending);
  EXPECT_EQ(figures().sweeps_abandoned, 2u);
  EXPECT_EQ(figures().released_bytes, 0u);
  EXPECT_EQ(sweep(), SweepResult::done);
  for (char* p : chunks) EXPECT_TRUE(in_pool(p));
  EXPECT_EQ(figures().quarantined_bytes, 0u);
}

TEST_F(AllocatorTest, BlindReleasesNothingAndGivesThePagesBack) {
  std::vector<char*> chunks;
  for (int i = 0; i < 64; ++i) chunks.push_back(get(4000));
  get(1);
  for (char* p : chunks) put(p);
  revoker.outcomes = {RevokeOutcome::blind, RevokeOutcome::blind};
  testing::internal::CaptureStderr();
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(sweep(), SweepResult::blind);
    for (char* p : chunks) EXPECT_TRUE(TagMap::is_freed(tag(p)));
  }
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  EXPECT_GT(memory.count(Page::discarded, reinterpret_cast<uintptr_t>(chunks.front()) / 4096 * 4096,
                         reinterpret_cast<uintptr_t>(chunks.back())),
            50u);
  EXPECT_EQ(memory.calls(Call::discard), 1u) << "pages given back once are not given back again";
  EXPECT_EQ(figures().released_bytes, 0u);
  // Not what the contract promises, but it must be safe: a later sweep sees everything again. By then a
  // program has written through a dangling pointer to a page that was given back.
  memset(chunks[10], 0x77, 4000);
  EXPECT_EQ(sweep(), SweepResult::done);
  for (char* p : chunks) EXPECT_TRUE(in_pool(p));
  char* all = get(200000);
  EXPECT_TRUE(zero(all, 200000)) << "I5";
  for (int i = 0; i < 300; ++i) EXPECT_TRUE(zero(get(900), 900)) << "I5";
}

TEST_F(AllocatorTest, TheOptionNotToSweepAsksNobody) {
  allocator.options().sweep = false;
  char* p = get(100000);
  char* q = get(100);
  put(p);
  put(q);
  testing::internal::CaptureStderr();
  EXPECT_EQ(sweep(), SweepResult::blind);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "") << "it was asked for";
  EXPECT_EQ(revoker.calls, 0u);
  EXPECT_TRUE(TagMap::is_freed(tag(p)));
  EXPECT_TRUE(TagMap::is_freed(tag(q)));
}

// ---- when a sweep is due
// ---------------------------------------------------------------------------------------

TEST_F(AllocatorTest, FreeingSweepsAtTheThresholdAndNotBefore) {
  allocator.options().min = 2 * kMiB;
  std::vector<char*> chunks;
  for (int i = 0; i < 4000; ++i) chunks.push_back(get(1000));  // 4 MiB: the percentage is below the minimum
  for (char*& p : chunks) {
    put(p);
    const uint64_t freed = static_cast<uint64_t>(&p - chunks.data() + 1) * 1008;
    ASSERT_TRUE(freed >= 2 * kMiB || revoker.calls == 0) << freed;
    ASSERT_TRUE(freed <= 2 * kMiB + 128 * kKiB || revoker.calls != 0) << freed;
  }
  EXPECT_LE(revoker.calls, 2u);
}

TEST_F(AllocatorTest, LargeChunksSweepAtTheThresholdByTheirWeight) {
  allocator.options().min = 2 * kMiB;
  allocator.options().unmap = kMiB;
  for (int i = 0; i < 100; ++i) put(get(40000));  // 4 MiB, kept in memory
  EXPECT_GE(revoker.calls, 1u);
  EXPECT_LE(revoker.calls, 2u);
  sweep();
  revoker.calls = 0;
  for (int i = 0; i < 20; ++i) put(get(2 * kMiB));  // 40 MiB, but trapped: a thirty-second counts
  EXPECT_EQ(revoker.calls, 0u);
  for (int i = 0; i < 20; ++i) put(get(2 * kMiB));
  EXPECT_EQ(revoker.calls, 1u);
}

TEST_F(AllocatorTest, HeldBytesDoNotMakeTheNextSweepDue) {
  allocator.options().min = kMiB;
  std::vector<char*> chunks;
  for (int i = 0; i < 2000; ++i) chunks.push_back(get(1000));
  for (char* p : chunks) point_at(p);
  for (char* p : chunks) put(p);
  sweep();
  const uint64_t calls = revoker.calls;
  EXPECT_EQ(figures().held_chunks, 2000u);
  EXPECT_EQ(figures().quarantined_bytes, 0u);
  for (int i = 0; i < 500; ++i) put(get(1000));
  EXPECT_EQ(revoker.calls, calls);
}

// A held trapped chunk is one chunk: it must not be taken off what is live twice.
TEST_F(AllocatorTest, LiveBytesAreWhatIsNeitherFreeNorQuarantined) {
  char* live = get(10 * kMiB);
  const uint64_t before = figures().live_bytes;
  EXPECT_GE(before, 10 * kMiB);
  char* p = get(8 * kMiB);
  put(p);
  point_at(p);
  sweep();
  EXPECT_EQ(figures().held_bytes, figures().decommitted_bytes);
  EXPECT_EQ(figures().live_bytes, before);
  revoker.pointers.clear();
  sweep();
  EXPECT_EQ(figures().live_bytes, before);
  put(live);
}

TEST_F(AllocatorTest, SweepSizeLimitsThePassButNotTheRevocation) {
  allocator.options().sweep_size = 100;
  allocator.options().min = 64 * kKiB;
  std::vector<uint64_t> painted;
  revoker.during = [&](const RevokeRequest& request) {
    uint64_t granules = 0;
    request.shadow->for_each_painted_word(request.top, [&](uint64_t word) {
      granules += static_cast<unsigned>(std::popcount(request.shadow->painted()[word]));
    });
    painted.push_back(granules / (2016 / kGranule));
  };
  std::vector<char*> chunks;
  for (int i = 0; i < 3000; ++i) chunks.push_back(get(2000));
  get(1);
  for (char* p : chunks) put(p);
  ASSERT_GT(painted.size(), 5u);
  for (const uint64_t count : painted)
    EXPECT_LE(count, 100u + 64 * kKiB / 2016 + 1) << "a batch more at most";
  while (sweep() == SweepResult::done) {
  }
  for (char* p : chunks) EXPECT_TRUE(in_pool(p));
}

// ---- realloc
// ---------------------------------------------------------------------------------------------------------

TEST_F(AllocatorTest, ReallocKeepsContentsWhateverTheWay) {
  for (const size_t from : kSizes) {
    for (const size_t to : kSizes) {
      char* p = get(from);
      fill(p, from, 3);
      char* q = resize(p, to);
      ASSERT_NE(q, nullptr);
      ASSERT_TRUE(filled(q, std::min(from, to), 3)) << from << " to " << to;
      ASSERT_GT(chunk_bytes(q), to);
      ASSERT_TRUE(TagMap::is_live(tag(q)));
      ASSERT_TRUE(q == p || TagMap::is_freed(tag(p))) << "moved: the old chunk waits";
      put(q);
    }
    sweep();
    allocator.check();
  }
}

TEST_F(AllocatorTest, ShrinkingInPlaceQuarantinesTheTail) {
  for (const size_t from : {1000u, 5000u, 100000u, 1000000u}) {
    for (const size_t to : {0u, 10u, 90u, 200u, 900u, 4000u}) {
      if (to * 2 > from) continue;
      char* p = get(from);
      fill(p, from, 5);
      const size_t bytes = chunk_bytes(p);
      ASSERT_EQ(resize(p, to), p);
      const size_t now = chunk_bytes(p);
      ASSERT_LT(now, bytes);
      ASSERT_TRUE(filled(p, to, 5));
      ASSERT_TRUE(TagMap::is_freed(tag(p + now)));
      ASSERT_EQ(allocator.heap().tags().length(granule(p + now)) * kGranule, bytes - now);
      point_at(p + bytes - 1);
      sweep();
      ASSERT_TRUE(TagMap::is_freed(tag(p + now))) << "a pointer into the tail holds the tail";
      revoker.pointers.clear();
      sweep();
      ASSERT_TRUE(in_pool(p + now));
      ASSERT_TRUE(filled(p, to, 5));
      put(p);
      sweep();
      ASSERT_TRUE(in_pool(p));
      allocator.check();
    }
  }
}

TEST_F(AllocatorTest, GrowingInPlaceTakesWhatIsFreeBehindZeroed) {
  char* p = get(5000);
  char* behind = get(20000);
  get(10);
  ASSERT_EQ(behind, p + chunk_bytes(p));
  fill(p, 5000, 9);
  fill(behind, 20000, 1);
  put(behind);
  char* moved = resize(p, 12000);
  EXPECT_NE(moved, p) << "what is quarantined behind it is not free";
  EXPECT_TRUE(filled(moved, 5000, 9));
  sweep();
  char* q = get(5000);
  ASSERT_EQ(q, p);
  fill(q, 5000, 9);
  behind[100] = 'x';  // through a dangling pointer that the sweep was not told of
  const size_t old_bytes = chunk_bytes(q);
  ASSERT_EQ(resize(q, 12000), q);
  EXPECT_TRUE(filled(q, 5000, 9));
  EXPECT_TRUE(zero(q + old_bytes, chunk_bytes(q) - old_bytes)) << "I5";
}

// A large chunk whose place is too short: its pages move.
class MovingTest : public AllocatorTest {
 protected:
  void SetUp() override {
    AllocatorTest::SetUp();
    if (!kFreebufMode) return;
    p = get(kFrom);
    behind = get(2 * kMiB);
    fill(p, kFrom, 4);
  }
  static constexpr size_t kFrom = 3 * kMiB + 100, kTo = 5 * kMiB;
  char *p = nullptr, *behind = nullptr;
};

TEST_F(MovingTest, PagesMoveAndTheOldChunkIsTrapped) {
  const uint64_t moves = memory.calls(Call::move);
  const size_t old_bytes = chunk_bytes(p);
  char* q = resize(p, kTo);
  ASSERT_NE(q, p);
  EXPECT_EQ(memory.calls(Call::move), moves + 1);
  EXPECT_TRUE(filled(q, kFrom, 4));
  EXPECT_TRUE(zero(q + old_bytes, chunk_bytes(q) - old_bytes)) << "I5";
  EXPECT_TRUE(TagMap::is_freed(tag(p)));
  EXPECT_EQ(page(p), SimulatedMemory::Page::trapped);
  point_at(p + 100);
  sweep();
  EXPECT_TRUE(TagMap::is_freed(tag(p))) << "a pointer to where it was holds its addresses";
  revoker.pointers.clear();
  sweep();
  EXPECT_TRUE(in_pool(p));
  char* again = get(kFrom);
  EXPECT_TRUE(zero(again, chunk_bytes(again)));
  EXPECT_TRUE(filled(q, kFrom, 4));
}

TEST_F(MovingTest, IntoMemoryThatSomebodyWroteTo) {
  constexpr size_t kRoom = kTo + 64 * kKiB;
  memory.refuse(Call::trap, SimulatedMemory::kAlways);
  memory.refuse(Call::discard, SimulatedMemory::kAlways);
  char* dirty = get(kRoom);
  fill(dirty, kRoom, 1);
  get(2 * kMiB);
  put(dirty);
  sweep();
  ASSERT_TRUE(in_pool(dirty));
  memset(dirty, 'x', kRoom);  // through a dangling pointer that the sweep was not told of
  char* q = resize(p, kTo);
  ASSERT_GE(q, dirty);
  ASSERT_LT(q, dirty + kRoom);
  EXPECT_TRUE(filled(q, kFrom, 4));
  EXPECT_TRUE(zero(q + align_up(kFrom + 1, 4096), kTo - align_up(kFrom + 1, 4096)));
}

TEST_F(MovingTest, WhereTheSystemRefusesContentsAreCopied) {
  memory.refuse(Call::move, SimulatedMemory::kAlways);
  char* q = resize(p, kTo);
  ASSERT_NE(q, p);
  EXPECT_TRUE(filled(q, kFrom, 4));
  EXPECT_TRUE(TagMap::is_freed(tag(p)));
}

// Borders of mappings within a chunk; and a part that is refused in the middle.
TEST_F(MovingTest, PartByPart) {
  memory.limit_moves(64 * kKiB);
  const uint64_t moves = memory.calls(Call::move);
  memory.refuse(Call::move, 5);
  char* q = resize(p, kTo);
  EXPECT_EQ(memory.calls(Call::move) - moves, (kFrom + 64 * kKiB) / (64 * kKiB));
  EXPECT_TRUE(filled(q, kFrom, 4));
  EXPECT_TRUE(zero(q + align_up(kFrom + 1, 4096), kTo - align_up(kFrom + 1, 4096)));
  EXPECT_TRUE(TagMap::is_freed(tag(p)));
}

TEST_F(MovingTest, WhatIsLostAfterAPartHasMovedComesBack) {
  memory.limit_moves(64 * kKiB);
  memory.lose_move(7);
  char* q = resize(p, kTo);
  ASSERT_NE(q, nullptr);
  EXPECT_TRUE(filled(q, kFrom, 4));
  EXPECT_TRUE(TagMap::is_freed(tag(p)));
}

TEST_F(MovingTest, WhatTheSystemLosesIsNeverUsed) {
  memory.lose_move(1);
  const size_t committed = memory.committed_bytes();
  char* q = resize(p, kTo);
  ASSERT_NE(q, nullptr);
  EXPECT_GE(memory.committed_bytes(), committed);
  EXPECT_TRUE(filled(q, kFrom, 4));
  for (int i = 0; i < 3; ++i) {
    for (const size_t size : {kFrom, kTo, kTo + kMiB}) put(resize(get(size), size + 2 * kMiB));
    sweep();
  }
  allocator.trim(0);
  EXPECT_TRUE(filled(q, kFrom, 4));
}

TEST_F(MovingTest, OutOfMemoryForTheNewPlaceLeavesTheOldChunk) {
  memory.refuse(Call::commit, SimulatedMemory::kAlways);
  EXPECT_EQ(resize(p, 300 * kMiB), nullptr);
  EXPECT_TRUE(TagMap::is_live(tag(p)));
  EXPECT_TRUE(filled(p, kFrom, 4));
}

TEST_F(AllocatorTest, AReallocThatFailsLeavesTheOldChunk) {
  char* p = get(5000);
  fill(p, 5000, 2);
  EXPECT_EQ(resize(p, allocator.space().heap().size()), nullptr);
  EXPECT_EQ(resize(p, SIZE_MAX), nullptr);
  memory.refuse(Call::commit, SimulatedMemory::kAlways);
  EXPECT_EQ(resize(p, 300 * kMiB), nullptr);
  EXPECT_TRUE(TagMap::is_live(tag(p)));
  EXPECT_TRUE(filled(p, 5000, 2));
  EXPECT_NE(resize(p, 100), nullptr);
}

// ---- aligned
// ---------------------------------------------------------------------------------------------------------

TEST_F(AllocatorTest, AlignedChunksAreAlignedZeroAndWhole) {
  Random random(4);
  std::vector<char*> live;
  for (int i = 0; i < 4000; ++i) {
    const size_t alignment = size_t{1} << random.below(random.one_in(50) ? 21 : 13);
    const size_t size = random.size(random.one_in(20) ? 200000 : 1500);
    char* p = get_aligned(alignment, size);
    ASSERT_NE(p, nullptr);
    ASSERT_EQ(reinterpret_cast<uintptr_t>(p) % alignment, 0u);
    ASSERT_TRUE(zero(p, chunk_bytes(p)));
    ASSERT_GT(chunk_bytes(p), size);
    memset(p, 0xaa, size);
    live.push_back(p);
    if (random.one_in(3)) {
      const size_t at = random.below(live.size());
      put(live[at]);
      live.erase(live.begin() + static_cast<long>(at));
    }
    if (i % 500 == 0) {
      sweep();
      allocator.check();
    }
  }
  EXPECT_EQ(get_aligned(size_t{1} << 62, 1), nullptr);
  EXPECT_EQ(get_aligned(size_t{1} << 40, 1), nullptr);
  EXPECT_EQ(get_aligned(64, SIZE_MAX), nullptr);
}

// ---- out of memory
// -----------------------------------------------------------------------------------------------------

TEST_F(AllocatorTest, OutOfMemoryFirstTakesBackWhatIsQuarantined) {
  for (const size_t size : {24u, 900u, 5000u, 40000u}) {
    memory.limit_commits(memory.committed_bytes() + 8 * kMiB);
    std::vector<char*> chunks;
    for (char* p; (p = get(size)) != nullptr;) chunks.push_back(p);
    ASSERT_GT(chunks.size(), 10u);
    const uint64_t calls = revoker.calls;
    for (char* p : chunks) put(p);
    std::vector<char*> again;
    for (size_t i = 0; i < chunks.size() * 9 / 10; ++i) {
      again.push_back(get(size));
      ASSERT_NE(again.back(), nullptr) << i << " of " << chunks.size() << " of " << size;
      ASSERT_TRUE(zero(again.back(), size));
    }
    EXPECT_GT(revoker.calls, calls);
    for (char* p : again) put(p);
    sweep();
    memory.limit_commits(~size_t{0});
  }
}

TEST_F(AllocatorTest, AtEveryRefusedCommitNothingIsLost) {
  for (uint64_t nth = 1; nth <= 12; ++nth) {
    SimulatedMemory small(512 * kMiB);
    ScriptedRevoker script;
    TestAllocator heap(small, script);
    small.refuse(Call::commit, nth);
    if (!heap.init(quiet_options())) continue;
    ThreadFront* own = heap.make_front();
    if (own == nullptr) own = heap.make_front();
    ASSERT_NE(own, nullptr);
    Random random(nth);
    std::vector<void*> live;
    for (int op = 0; op < 3000; ++op) {
      if (random.one_in(3) && !live.empty()) {
        const size_t at = random.below(live.size());
        heap.free(*own, Wild(live[at]));
        live[at] = live.back();
        live.pop_back();
      } else if (void* p = heap.allocate(*own, random.one_in(40) ? random.size(2 * kMiB) : random.size(2000))
                               .get()) {
        live.push_back(p);
      }
    }
    heap.check();
    for (void* p : live) heap.free(*own, Wild(p));
    heap.revoke(*own);
    heap.give_up_front(own);
    heap.check();
    EXPECT_EQ(heap.heap().in_use(), 0u);
    expect_no_breach(small);
  }
}

// Without memory for a batch the freed chunks wait all the same, or are spent; none is reused unswept.
TEST_F(AllocatorTest, FreeingWithoutMemoryForBatchesIsSafe) {
  std::vector<char*> chunks;
  for (int i = 0; i < 20000; ++i) chunks.push_back(get(40));
  memory.refuse(Call::commit, SimulatedMemory::kAlways);
  while (allocator.space().arena_allocate(64) != nullptr) {
  }
  std::set<char*> freed;
  for (char* p : chunks) {
    put(p);
    freed.insert(p);
  }
  for (char* p : chunks) EXPECT_NE(TagMap::is_freed(tag(p)), revoker.calls > 0 && in_pool(p));
  sweep();
  size_t reusable = 0;
  for (char* p : chunks) reusable += in_pool(p);
  EXPECT_GT(reusable, chunks.size() / 2);
}

TEST_F(AllocatorTest, RequestsBeyondReasonGetNothing) {
  EXPECT_EQ(get(SIZE_MAX), nullptr);
  EXPECT_EQ(get(SIZE_MAX - 15), nullptr);
  EXPECT_EQ(get(PTRDIFF_MAX), nullptr);
  EXPECT_EQ(get(allocator.space().heap().size()), nullptr);
  EXPECT_EQ(get(allocator.space().heap().size() - 1), nullptr);
  EXPECT_NE(get(1), nullptr);
}

// ---- threads
// ---------------------------------------------------------------------------------------------------------

// Everything a front owns is found by others at once: caches, run, batch.
TEST_F(AllocatorTest, AFrontThatIsGivenUpReturnsEverything) {
  Random random(5);
  for (int round = 0; round < 20; ++round) {
    ThreadFront* other = allocator.make_front();
    std::vector<void*> live;
    for (int i = 0; i < 3000; ++i) live.push_back(allocator.allocate(*other, random.size(1200)).get());
    for (void* p : live) allocator.free(*other, Wild(p));
    allocator.give_up_front(other);
    allocator.check();
    ASSERT_EQ(sweep(), SweepResult::done);
    ASSERT_EQ(allocator.heap().in_use(), 0u) << "something stayed with the front";
    EXPECT_EQ(allocator.make_front(), other) << "the front itself is used again";
    allocator.give_up_front(other);
  }
}

TEST_F(AllocatorTest, TwoThreadsAllocateFreeAndSweep) {
  allocator.options().min = 256 * kKiB;
  std::atomic<int> wrong{0};
  std::atomic<char*> mailbox[16] = {};
  const auto work = [&](unsigned key) {
    ThreadFront* own = allocator.make_front();
    Random random(key);
    std::vector<std::pair<char*, size_t>> live;
    for (int op = 0; op < 30000; ++op) {
      const size_t size = random.one_in(200) ? random.size(100000) : 8 + random.size(500);
      auto* p = static_cast<char*>(allocator.allocate(*own, size).get());
      if (!zero(p, size)) ++wrong;
      fill(p, size, key);
      live.emplace_back(p, size);
      if (random.one_in(8)) {  // frees what the other thread allocated
        char* q = static_cast<char*>(allocator.allocate(*own, 64).get());
        if (char* theirs = mailbox[random.below(16)].exchange(q)) allocator.free(*own, Wild(theirs));
      }
      while (live.size() > 200) {
        const size_t at = random.below(live.size());
        const auto [old, bytes] = live[at];
        if (!filled(old, bytes, key)) ++wrong;
        allocator.free(*own, Wild(old));
        live[at] = live.back();
        live.pop_back();
      }
      if (op % 5000 == 0) allocator.revoke(*own);
    }
    for (const auto& [p, size] : live) allocator.free(*own, Wild(p));
    allocator.give_up_front(own);
  };
  std::thread other(work, 7);
  work(8);
  other.join();
  EXPECT_EQ(wrong, 0);
  for (auto& slot : mailbox) {
    if (char* p = slot.exchange(nullptr)) put(p);
  }
  sweep();
  allocator.give_up_front(front);
  front = allocator.make_front();
  EXPECT_EQ(allocator.heap().in_use(), 0u);
}

// ---- the rest
// ----------------------------------------------------------------------------------------------------------

// I10: errno stays, and memory that nobody asked for is not touched.
TEST_F(AllocatorTest, ErrnoIsLeftAlone) {
  errno = 4711;
  std::vector<char*> chunks;
  for (const size_t size : kSizes) chunks.push_back(resize(get(size), size * 2));
  for (char* p : chunks) put(p);
  sweep();
  revoker.outcomes = {RevokeOutcome::blind};
  testing::internal::CaptureStderr();
  put(get(100));
  sweep();
  testing::internal::GetCapturedStderr();
  allocator.give_up_front(allocator.make_front());
  allocator.trim(0);
  EXPECT_EQ(errno, 4711);
}

TEST_F(AllocatorTest, FreedContentIsGoneAtOnce) {
  for (const size_t size : kSizes) {
    if (size + 1 > allocator.options().unmap) continue;  // trapped
    char* p = get(size);
    fill(p, size, 1);
    const size_t bytes = chunk_bytes(p);
    put(p);
    EXPECT_TRUE(zero(p, bytes)) << size;
  }
}

TEST_F(AllocatorTest, TheBooksAddUp) {
  std::vector<char*> chunks;
  uint64_t bytes = 0;
  for (const size_t size : kSizes) {
    chunks.push_back(get(size));
    bytes += chunk_bytes(chunks.back());
  }
  for (char* p : chunks) put(p);
  EXPECT_EQ(figures().frees, kSizes.size()) << "also those that no batch was sealed with";
  EXPECT_EQ(figures().freed_bytes, bytes);
  point_at(chunks[3]);
  const uint64_t held = 48;
  sweep();
  const nonreuse_statistics s = figures();
  EXPECT_EQ(s.frees, kSizes.size());
  EXPECT_EQ(s.freed_bytes, bytes);
  EXPECT_EQ(s.swept_chunks, kSizes.size());
  EXPECT_EQ(s.swept_bytes, bytes);
  EXPECT_EQ(s.bits_painted, bytes / kGranule);
  EXPECT_EQ(s.held_bytes, held);
  EXPECT_EQ(s.released_bytes, bytes - held);
  EXPECT_EQ(s.bits_cleared, (bytes - held) / kGranule);
  EXPECT_EQ(s.sweeps, 1u);
  EXPECT_EQ(s.quarantined_bytes, 0u);
}

}  // namespace
}  // namespace nonreuse
