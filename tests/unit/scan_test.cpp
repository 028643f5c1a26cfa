// The scan kernels against a word-by-word reference: random memory with few and many pointers, the bounds of
// the heap's range, all short counts, bases of any alignment.
#include "revoke/scan.hpp"

#include <cstring>
#include <vector>

#include "base/bits.hpp"
#include "heap_world.hpp"

namespace nonreuse {
namespace {

constexpr uintptr_t kBase = 0x123450000000;
constexpr size_t kExtent = 4 * kMiB + 48;  // no whole bitmap word at the end
constexpr size_t kBitmapWords = kExtent / kGranule / 64 + 2;

class ScanTest : public CoreTest, public testing::WithParamInterface<KernelChoice> {
 protected:
  void SetUp() override {
    if (!kernel_available(GetParam())) GTEST_SKIP() << "this processor does not run this kernel";
    kernel = choose_kernel(GetParam());
    painted.resize(kBitmapWords);
    hits.resize(kBitmapWords);
    expected.resize(kBitmapWords);
    if (GetParam() == KernelChoice::scalar)
      ASSERT_EQ(kernel, scan_scalar);
    else
      ASSERT_NE(kernel, scan_scalar);
  }

  void paint_at_random(unsigned one_in) {
    for (size_t granule = 0; granule < kBitmapWords * 64; ++granule) {
      if (random.one_in(one_in)) bits::set(painted.data(), granule, 1);
    }
  }
  uint64_t random_word(unsigned one_in) {
    if (!random.one_in(one_in)) return random.one_in(2) ? random.word() : random.size(~uint64_t{0});
    switch (random.below(8)) {
      case 0:
        return kBase - random.between(1, 32);
      case 1:
        return kBase + kExtent + random.below(32);
      case 2:
        return kBase + (uint64_t{1} << random.between(40, 63)) + random.below(kExtent);
      default:
        return kBase + random.below(kExtent);
    }
  }
  // What one word does, by the definition of a hit.
  uint64_t reference(uint64_t word) {
    if (word < target.base || word - target.base >= target.extent) return 0;
    const uint64_t granule = (word - target.base) / kGranule;
    if (!bits::test(painted.data(), granule) || bits::test(expected.data(), granule)) return 0;
    bits::set(expected.data(), granule, 1);
    return 1;
  }
  // Scans `count` words that start at `from` (any alignment), and compares.
  void scan_and_compare(const char* from, size_t count) {
    uint64_t news = 0;
    for (size_t i = 0; i < count; ++i) {
      uint64_t word;
      memcpy(&word, from + i * sizeof word, sizeof word);
      news += reference(word);
    }
    const uint64_t found = kernel(target, reinterpret_cast<const uint64_t*>(from), count);
    ASSERT_EQ(hits, expected);
    ASSERT_EQ(found, news);
    for (Granule word = 0; word < hits.size(); ++word) {
      ASSERT_TRUE(hits[word] == 0 || bits::test(blocks.data(), word >> (kSummaryShift - 6))) << word;
    }
  }
  void reset() {
    std::fill(hits.begin(), hits.end(), 0);
    std::fill(expected.begin(), expected.end(), 0);
  }

  Random random{1};
  ScanKernel kernel = nullptr;
  std::vector<uint64_t> painted, hits, expected;
  std::vector<uint64_t> blocks;
  ScanTarget target{kBase, kExtent, nullptr, nullptr, nullptr};
  void aim() {
    target.painted = painted.data();
    target.hits = hits.data();
    blocks.assign((kExtent >> kGranuleShift >> kSummaryShift) / 64 + 1, 0);
    target.news = blocks.data();
  }
};

TEST_P(ScanTest, EveryShortCountOfDenseWords) {
  paint_at_random(2);
  aim();
  for (size_t count = 0; count <= 100; ++count) {
    for (int round = 0; round < 20; ++round) {
      std::vector<uint64_t> memory(count);
      for (uint64_t& word : memory) word = random_word(2);
      reset();
      scan_and_compare(reinterpret_cast<const char*>(memory.data()), count);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(ScanTest, MemoryWithFewAndWithManyPointers) {
  for (const unsigned pointers : {1u, 2u, 10u, 100u, 5000u}) {
    for (const unsigned density : {1u, 2u, 50u, 2000u}) {
      std::fill(painted.begin(), painted.end(), 0);
      paint_at_random(density);
      aim();
      std::vector<uint64_t> memory(20000);
      for (uint64_t& word : memory) word = random_word(pointers);
      reset();
      scan_and_compare(reinterpret_cast<const char*>(memory.data()), memory.size());
      if (HasFatalFailure()) return;
      scan_and_compare(reinterpret_cast<const char*>(memory.data()), memory.size());  // again: no news
    }
  }
}

TEST_P(ScanTest, TheBoundsOfTheRangeExactly) {
  std::fill(painted.begin(), painted.end(), ~uint64_t{0});
  aim();
  for (const uintptr_t base : {kBase, uintptr_t{0}, uintptr_t{0x7ffffffff000}, ~uintptr_t{0} - 2 * kExtent}) {
    target.base = base;
    for (size_t place = 0; place < 40; ++place) {  // in every lane, in the vector part and in the rest
      for (const uint64_t word : {base - 1, base, base + 1, base + 15, base + 16, base + kExtent - 1,
                                  base + kExtent, base + kExtent + 1, ~uint64_t{0}, uint64_t{0}}) {
        std::vector<uint64_t> memory(40, base + kExtent);
        memory[place] = word;
        reset();
        scan_and_compare(reinterpret_cast<const char*>(memory.data()), memory.size());
        if (HasFatalFailure()) return;
      }
    }
  }
  target.base = kBase;
  target.extent = 0;
  std::vector<uint64_t> memory(40, kBase);
  reset();
  scan_and_compare(reinterpret_cast<const char*>(memory.data()), memory.size());
}

TEST_P(ScanTest, BasesOfAnyAlignment) {
  paint_at_random(2);
  aim();
  std::vector<char> bytes(8 * 1000 + 64);
  for (size_t offset = 0; offset < 40; ++offset) {
    for (size_t i = 0; i < 1000; ++i) {
      const uint64_t word = random_word(2);
      memcpy(bytes.data() + offset + i * 8, &word, 8);
    }
    for (const size_t count : {1u, 15u, 16u, 17u, 1000u}) {
      reset();
      scan_and_compare(bytes.data() + offset, count);
      if (HasFatalFailure()) return;
    }
  }
}

// Heap memory by its bitmaps: what is neither free nor painted is read, to the line, and nothing else is.
TEST_P(ScanTest, LiveLinesOfTheHeapAndNoOthers) {
  const LiveKernel live = choose_live_kernel(GetParam());
  constexpr size_t kGranules = 40 * 64 + 17;
  for (const unsigned dead : {0u, 2u, 10u, 1u}) {
    for (const bool all_painted_read : {false, true}) {
      std::vector<uint64_t> free_bits(kGranules / 64 + 2), own_painted(kGranules / 64 + 2);
      std::fill(painted.begin(), painted.end(), 0);
      paint_at_random(2);
      aim();
      reset();
      alignas(1024) static uint64_t heap[41 * 128];
      for (uint64_t& word : heap) word = random_word(2);
      const auto mark = [&](std::vector<uint64_t>& marks) {
        for (size_t at = 0; at < kGranules;) {
          const size_t length = random.between(1, 90);
          if (dead != 0 && random.one_in(dead) && at + length <= kGranules)
            bits::set(marks.data(), at, length);
          at += length;
        }
      };
      mark(free_bits);
      mark(own_painted);
      const size_t first = 64 * random.below(3);
      uint64_t news = 0, lines = 0;
      for (size_t line = first / 4; line < (kGranules + 3) / 4; ++line) {
        bool busy = false;
        for (size_t granule = line * 4; granule < line * 4 + 4 && granule < kGranules; ++granule) {
          const bool painted_away = !all_painted_read && bits::test(own_painted.data(), granule);
          busy |= !bits::test(free_bits.data(), granule) && !painted_away;
        }
        if (!busy) continue;
        ++lines;
        for (size_t word = line * 8; word < line * 8 + 8; ++word) news += reference(heap[word]);
      }
      const LivePart part{reinterpret_cast<uintptr_t>(heap), free_bits.data(),
                          all_painted_read ? nullptr : own_painted.data(), first, kGranules};
      uint64_t bytes = 0;
      ASSERT_EQ(live(target, part, bytes), news);
      ASSERT_EQ(hits, expected);
      ASSERT_EQ(bytes, lines * 64);
    }
  }
}

// More hits than the kernel's buffer holds, all in one piece.
TEST_P(ScanTest, NothingButPointersForManyWords) {
  std::fill(painted.begin(), painted.end(), ~uint64_t{0});
  aim();
  for (const size_t count : {480u, 495u, 496u, 497u, 512u, 513u, 528u, 1024u, 5000u}) {
    std::vector<uint64_t> memory(count);
    for (size_t i = 0; i < count; ++i) memory[i] = kBase + i * kGranule;
    reset();
    scan_and_compare(reinterpret_cast<const char*>(memory.data()), count);
    if (HasFatalFailure()) return;
    for (size_t i = 0; i < count; ++i) ASSERT_TRUE(bits::test(hits.data(), i));
  }
}

std::string name_of(const testing::TestParamInfo<KernelChoice>& kernel) {
  constexpr const char* kNames[] = {"automatic", "scalar", "avx2", "neon", "avx512"};
  return kNames[static_cast<size_t>(kernel.param)];
}
INSTANTIATE_TEST_SUITE_P(Kernels, ScanTest,
                         testing::Values(KernelChoice::scalar, KernelChoice::avx2, KernelChoice::neon,
                                         KernelChoice::avx512),
                         name_of);

// Pointers at every byte offset are found, and nothing before or behind the piece is read.
TEST_P(ScanTest, PointersAtOddAddresses) {
  const ScanKernel unaligned = choose_unaligned_kernel(GetParam());
  std::fill(painted.begin(), painted.end(), ~uint64_t{0});
  aim();
  for (size_t count = 0; count <= 70; ++count) {
    std::vector<char> bytes(count * 8, '\0');  // exactly so long: a sanitizer sees what is read beyond
    for (size_t i = 0; i < bytes.size(); ++i) {
      if (random.one_in(3)) continue;
      const uint64_t word = kBase + random.below(kExtent);
      if (i + 8 <= bytes.size()) memcpy(bytes.data() + i, &word, 8);
    }
    reset();
    uint64_t news = 0;
    for (size_t i = 0; i + 8 <= bytes.size(); ++i) {
      uint64_t word;
      memcpy(&word, bytes.data() + i, 8);
      if (word - kBase >= kExtent) continue;
      const uint64_t granule = (word - kBase) / kGranule;
      news += !bits::test(expected.data(), granule);
      bits::set(expected.data(), granule, 1);
    }
    ASSERT_EQ(unaligned(target, reinterpret_cast<const uint64_t*>(bytes.data()), count), news) << count;
    ASSERT_EQ(hits, expected);
  }
}

TEST(ScanKernels, TheChoiceIsKept) {
  EXPECT_TRUE(kernel_available(KernelChoice::scalar));
  EXPECT_TRUE(kernel_available(KernelChoice::automatic));
  EXPECT_EQ(choose_kernel(KernelChoice::scalar), scan_scalar);
  const ScanKernel best = choose_kernel(KernelChoice::automatic);
  bool any = false;
  for (const KernelChoice kernel : {KernelChoice::avx2, KernelChoice::neon, KernelChoice::avx512}) {
    any |= kernel_available(kernel);
    if (kernel_available(kernel)) {
      EXPECT_NE(choose_kernel(kernel), scan_scalar);
      continue;
    }
    // One that cannot run counts as no choice.
    EXPECT_EQ(choose_kernel(kernel), best);
    EXPECT_EQ(choose_live_kernel(kernel), choose_live_kernel(KernelChoice::automatic));
    EXPECT_EQ(choose_unaligned_kernel(kernel), choose_unaligned_kernel(KernelChoice::automatic));
  }
#if defined(__x86_64__)
  if (kernel_available(KernelChoice::avx512)) {
    EXPECT_TRUE(kernel_available(KernelChoice::avx2));
    EXPECT_EQ(best, scan_avx512) << "the widest is the best";
  }
#endif
  EXPECT_EQ(any, best != scan_scalar) << "a vector kernel that can run is taken";
  EXPECT_EQ(
      any, choose_unaligned_kernel(KernelChoice::automatic) != choose_unaligned_kernel(KernelChoice::scalar));
#if defined(__aarch64__)
  EXPECT_EQ(best, scan_neon) << "every aarch64 processor has it";
#endif
}

}  // namespace
}  // namespace nonreuse
