// Heap, quarantine, shadow and allocator over pages of 4, 16 and 64 KiB. The simulated memory notes every
// call that is not about whole pages, and pages that may not be touched are inaccessible.
#include <algorithm>

#include "allocator_world.hpp"
#include "heap_model.hpp"

namespace nonreuse {
namespace {

class PageSizeHeap : public CoreTest, public testing::WithParamInterface<size_t> {
 protected:
  World world{256 * kMiB, GetParam()};
  Random random{7};
};

TEST_P(PageSizeHeap, TakesAndReleasesAtRandom) {
  ASSERT_TRUE(world.ready);
  ASSERT_EQ(world.space.page_size(), GetParam());
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 400; ++i) {
      const Run run = world.take(1 + random.size(20000));
      ASSERT_FALSE(run.empty());
    }
    std::vector<Run> together;
    for (int i = 0; i < 150; ++i) world.release(world.any(random));
    for (int i = 0; i < 150; ++i) {
      const Run run = world.any(random);
      if (std::none_of(together.begin(), together.end(), [&](Run r) { return r.start == run.start; }))
        together.push_back(run);
    }
    world.release_by_words(together);
    world.check();
    if (HasFatalFailure()) return;
  }
}

// Whole pages go back, and come again as zeroes.
TEST_P(PageSizeHeap, GivesWholePagesBack) {
  ASSERT_TRUE(world.ready);
  std::vector<Run> runs;
  for (int i = 0; i < 40; ++i) runs.push_back(world.take((2 * kMiB + 48) / kGranule));
  for (const Run run : runs) {
    world.heap.cleanse(run);  // from now on it may be written to
    world.scribble(run);
  }
  for (size_t i = 0; i < runs.size(); i += 2) world.release(runs[i]);
  const size_t before = world.memory.committed_bytes();
  world.heap.trim(0);
  EXPECT_TRUE(world.memory.committed_bytes() < before ||
              world.memory.calls(SimulatedMemory::Call::discard) > 0);
  world.check();
  for (size_t i = 0; i < runs.size(); i += 2) {
    const Run run = world.take(runs[i].length);
    ASSERT_FALSE(run.empty());
    world.scribble(run);  // accessible, all of it
  }
  world.check();
}

class PageSizeAllocator : public AllocatorTest, public testing::WithParamInterface<size_t> {
 protected:
  PageSizeAllocator() : AllocatorTest(512 * kMiB, GetParam()) {}
};

TEST_P(PageSizeAllocator, NothingIsHandedOutTwiceAndContentsStay) {
  struct Block {
    char* at;
    size_t size;
    unsigned key;
  };
  Random random(11);
  std::vector<Block> blocks;
  for (unsigned step = 0; step < 6000; ++step) {
    if (step % 500 == 499) {
      EXPECT_EQ(sweep(), SweepResult::done);
      allocator.check();
    }
    if (!blocks.empty() && random.one_in(2)) {
      const size_t index = random.below(blocks.size());
      Block& block = blocks[index];
      ASSERT_TRUE(filled(block.at, std::min<size_t>(block.size, 300), block.key)) << "step " << step;
      if (random.one_in(4)) {
        const size_t size = 1 + random.size(300000);
        block.at = resize(block.at, size);
        ASSERT_NE(block.at, nullptr);
        ASSERT_TRUE(filled(block.at, std::min<size_t>({block.size, size, 300}), block.key));
        block.size = size;
        fill(block.at, std::min<size_t>(size, 300), block.key);
      } else {
        put(block.at);
        block = blocks.back();
        blocks.pop_back();
      }
      continue;
    }
    const size_t size = 1 + random.size(random.one_in(20) ? 400000 : 3000);
    const size_t alignment = random.one_in(6) ? size_t{16} << random.below(14) : 16;
    char* at = alignment > 16 ? get_aligned(alignment, size) : get(size);
    ASSERT_NE(at, nullptr);
    ASSERT_EQ(reinterpret_cast<uintptr_t>(at) % alignment, 0u);
    ASSERT_TRUE(zero(at, std::min<size_t>(size, 300))) << "I5";
    fill(at, std::min<size_t>(size, 300), step);
    blocks.push_back({at, size, step});
  }
  for (const Block& block : blocks) put(block.at);
  EXPECT_EQ(sweep(), SweepResult::done);
}

// A large chunk occupies whole pages, which trap from free until the sweep after the last pointer to it.
TEST_P(PageSizeAllocator, LargeChunksTrapByWholePages) {
  const size_t page = GetParam();
  for (const size_t size : {64 * kKiB, 64 * kKiB + page / 2, 5 * page + 1, 3 * kMiB}) {
    if (size < 64 * kKiB) continue;
    char* p = get(size);
    ASSERT_NE(p, nullptr);
    const auto first = reinterpret_cast<uintptr_t>(p);
    const size_t bytes = chunk_bytes(p);
    EXPECT_EQ(first % page, 0u);
    EXPECT_EQ(bytes % page, 0u);
    fill(p, size, 3);
    put(p);
    EXPECT_EQ(memory.count(SimulatedMemory::Page::trapped, first, first + bytes), bytes / page);
    point_at(p + size / 2);
    sweep();
    EXPECT_EQ(memory.count(SimulatedMemory::Page::trapped, first, first + bytes), bytes / page) << "held";
    revoker.pointers.clear();
    sweep();
    EXPECT_EQ(memory.count(SimulatedMemory::Page::trapped, first, first + bytes), 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(KiB, PageSizeHeap, testing::Values(4096, 16384, 65536),
                         [](const auto& page) { return std::to_string(page.param / 1024); });
INSTANTIATE_TEST_SUITE_P(KiB, PageSizeAllocator, testing::Values(4096, 16384, 65536),
                         [](const auto& page) { return std::to_string(page.param / 1024); });

}  // namespace
}  // namespace nonreuse
