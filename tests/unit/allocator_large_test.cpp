// The allocator's large chunks: trapped or not, held for long, listed, lost. Over simulated memory, as
// allocator_test.
#include <algorithm>
#include <set>

#include "allocator_world.hpp"

namespace nonreuse {
namespace {

using AllocatorLargeTest = AllocatorTest;
using Page = SimulatedMemory::Page;
using Call = SimulatedMemory::Call;

TEST_F(AllocatorLargeTest, LargeChunksAreTrappedAtFreeAndUsableAgainLater) {
  char* p = get(kMiB);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 4096, 0u);
  fill(p, kMiB, 1);
  const size_t bytes = chunk_bytes(p);
  put(p);
  const auto first = reinterpret_cast<uintptr_t>(p);
  EXPECT_EQ(memory.count(Page::trapped, first, first + bytes), bytes / 4096);
  EXPECT_EQ(figures().decommitted_bytes, bytes);
  point_at(p + 5000);
  sweep();
  EXPECT_EQ(memory.count(Page::trapped, first, first + bytes), bytes / 4096) << "held, and trapped still";
  revoker.pointers.clear();
  sweep();
  EXPECT_EQ(memory.count(Page::trapped, first, first + bytes), 0u);
  EXPECT_EQ(figures().decommitted_bytes, 0u);
  char* q = get(kMiB);
  EXPECT_EQ(q, p);
  EXPECT_TRUE(zero(q, kMiB));
}

// Guarantee 4 holds without traps, too, and a write through a dangling pointer does not outlive the sweep.
TEST_F(AllocatorLargeTest, WhereNoTrapIsToBeHadTheContentGoesAllTheSame) {
  for (const bool discard : {true, false}) {
    memory.refuse(Call::trap, SimulatedMemory::kAlways);
    memory.refuse(Call::discard, discard ? SimulatedMemory::kNever : SimulatedMemory::kAlways);
    char* p = get(kMiB);
    fill(p, kMiB, 1);
    const size_t bytes = chunk_bytes(p);
    put(p);
    EXPECT_TRUE(zero(p, kMiB));
    EXPECT_EQ(figures().decommitted_bytes, discard ? bytes : 0u);
    p[70000] = 'x';
    sweep();
    char* q = get(kMiB);
    EXPECT_EQ(q, p);
    EXPECT_TRUE(zero(q, kMiB)) << "I5";
    put(q);
    sweep();
  }
}

// A large chunk that is held in two sweeps gives its pages back, but not what was written through a
// dangling pointer; and what is written later is gone when the chunk is handed out (I5).
TEST_F(AllocatorLargeTest, WhatIsHeldForLongGivesItsPagesBack) {
  allocator.options().unmap = kMiB;
  constexpr size_t kBytes = 200'000;
  char* p = get(kBytes);
  char* q = get(kBytes);
  char* small = get(50'000);
  const size_t bytes = chunk_bytes(p);
  for (char* chunk : {p, q}) fill(chunk, kBytes, 1);
  for (char* chunk : {p, q, small}) put(chunk);
  for (char* chunk : {p, q, small}) point_at(chunk + 100);
  q[150'000] = 'q';
  const auto middle = [&](char* chunk) {
    return align_down(reinterpret_cast<uintptr_t>(chunk) + kBytes / 2, 4096);
  };
  sweep();
  EXPECT_EQ(memory.page(middle(p)), Page::committed) << "it might have gone in the next sweep";
  sweep();
  EXPECT_EQ(memory.page(middle(p)), Page::discarded);
  EXPECT_EQ(memory.page(middle(q)), Page::committed);
  EXPECT_EQ(q[150'000], 'q');
  EXPECT_EQ(figures().decommitted_bytes, bytes) << "what is small keeps its pages";
  EXPECT_TRUE(zero(p, kBytes));
  p[100'000] = 'p';
  sweep();
  EXPECT_EQ(p[100'000], 'p') << "asked for once";
  revoker.pointers.clear();
  sweep();
  EXPECT_EQ(memory.page(middle(p)), Page::discarded)
      << "what was written is not kept for whoever has it next";
  EXPECT_EQ(figures().decommitted_bytes, 0u);
  for (char* chunk : {p, q}) {
    char* again = get(kBytes);
    EXPECT_EQ(again, chunk);
    EXPECT_TRUE(zero(again, kBytes));
  }
}

// Where the system refuses, nothing has changed, and it is not asked again in every sweep.
TEST_F(AllocatorLargeTest, WhatMayNotBeGivenBackStays) {
  constexpr size_t kBytes = 200'000;
  allocator.options().unmap = kMiB;
  memory.refuse(Call::discard, SimulatedMemory::kAlways);
  char* p = get(kBytes);
  put(p);
  point_at(p);
  for (int i = 0; i < 5; ++i) sweep();
  EXPECT_EQ(figures().decommitted_bytes, 0u);
  memory.refuse(Call::discard, SimulatedMemory::kNever);
  for (int i = 0; i < 5; ++i) sweep();
  EXPECT_EQ(figures().decommitted_bytes, 0u);
  EXPECT_EQ(memory.page(align_down(reinterpret_cast<uintptr_t>(p) + kBytes / 2, 4096)), Page::committed);
  revoker.pointers.clear();
  sweep();
  char* again = get(kBytes);
  EXPECT_EQ(again, p);
  EXPECT_TRUE(zero(again, kBytes));
}

// Without a trap the pages of a large chunk are given back at free all the same.
TEST_F(AllocatorLargeTest, WhereNoTrapIsToBeHadPagesAreKnownToBeGone) {
  allocator.options().unmap = kMiB;
  memory.refuse(Call::trap, SimulatedMemory::kAlways);
  char* p = get(2 * kMiB);
  const size_t bytes = chunk_bytes(p);
  put(p);
  EXPECT_EQ(figures().decommitted_bytes, bytes);
  LargePages seen = LargePages::present;
  revoker.during = [&](const RevokeRequest& request) {
    const Granule start = granule(p);
    seen = request.pages_of(request.context, {start, bytes / kGranule});
  };
  sweep();
  EXPECT_EQ(seen, LargePages::given_back);
  EXPECT_EQ(figures().decommitted_bytes, 0u);
}

TEST_F(AllocatorLargeTest, WhereWordsAtAnyOffsetCountPagesStay) {
  allocator.options().unmap = kMiB;
  allocator.options().unaligned = true;
  char* p = get(200'000);
  put(p);
  point_at(p);
  for (int i = 0; i < 5; ++i) sweep();
  EXPECT_EQ(figures().decommitted_bytes, 0u);
}

// A chunk that cannot be made usable is not handed out, and the next sweep tries again.
TEST_F(AllocatorLargeTest, AChunkWhoseTrapStaysIsNotReleased) {
  char* p = get(kMiB);
  const size_t bytes = chunk_bytes(p);
  put(p);
  memory.refuse(Call::untrap, SimulatedMemory::kAlways);
  for (int i = 0; i < 3; ++i) {
    sweep();
    ASSERT_TRUE(TagMap::is_freed(tag(p)));
    ASSERT_FALSE(in_pool(p));
    ASSERT_EQ(page(p), Page::trapped);
    ASSERT_FALSE(comes_back(p, bytes, kMiB, 3));
    free_all();
    put(get(10));
  }
  EXPECT_EQ(figures().decommitted_bytes % bytes, 0u);
  memory.refuse(Call::untrap, SimulatedMemory::kNever);
  ASSERT_EQ(sweep(), SweepResult::done);
  EXPECT_TRUE(in_pool(p));
  EXPECT_EQ(page(p), Page::discarded);
  EXPECT_EQ(figures().decommitted_bytes, 0u);
  EXPECT_TRUE(comes_back(p, bytes, kMiB, 10));
}

TEST_F(AllocatorLargeTest, ALargeChunkThatCannotBeListedIsSpentNotReused) {
  std::vector<char*> chunks;
  for (int i = 0; i < 1200; ++i) chunks.push_back(get(40000));
  put(get(40000));  // the list exists
  sweep();
  revoker.outcomes.assign(100000, RevokeOutcome::retry);
  testing::internal::CaptureStderr();
  memory.refuse(Call::commit, SimulatedMemory::kAlways);
  // Use up what the arena has, so that the list cannot grow.
  while (allocator.space().arena_allocate(64) != nullptr) {
  }
  for (char* p : chunks) put(p);
  testing::internal::GetCapturedStderr();
  revoker.outcomes.clear();
  sweep();
  size_t spent = 0;
  for (char* p : chunks) spent += TagMap::is_freed(tag(p));
  EXPECT_GT(spent, 0u);
  EXPECT_LT(spent, chunks.size());
  for (char* p : chunks) EXPECT_NE(TagMap::is_freed(tag(p)), in_pool(p));
}

}  // namespace
}  // namespace nonreuse
