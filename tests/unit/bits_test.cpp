// Runs of bits: every function against a bit-by-bit model.
#include "base/bits.hpp"

#include "heap_world.hpp"

namespace nonreuse {
namespace {

constexpr uint64_t kWords = 7;
constexpr uint64_t kBits = kWords * 64;

class BitsTest : public CoreTest {
 protected:
  // Words that are empty, full or mixed, so that runs cross words.
  void fill() {
    for (uint64_t& word : words) {
      switch (random.below(5)) {
        case 0:
          word = 0;
          break;
        case 1:
          word = bits::kAll;
          break;
        case 2:
          word = bits::kAll << random.below(64);
          break;
        case 3:
          word = bits::kAll >> random.below(64);
          break;
        default:
          word = random.word() & random.word();
          break;
      }
    }
  }
  bool bit(uint64_t at) const { return (words[at / 64] >> (at % 64) & 1) != 0; }

  Random random{11};
  uint64_t words[kWords] = {};
};

TEST_F(BitsTest, Count) {
  for (int round = 0; round < 200; ++round) {
    fill();
    for (uint64_t word : words) {
      unsigned expected = 0;
      for (unsigned at = 0; at < 64; ++at) expected += word >> at & 1;
      EXPECT_EQ(bits::count(word), expected) << word;
    }
  }
  EXPECT_EQ(bits::count(0), 0u);
  EXPECT_EQ(bits::count(bits::kAll), 64u);
}

TEST_F(BitsTest, MaskHasExactlyTheBitsOfTheRange) {
  for (unsigned from = 0; from < 64; ++from) {
    for (unsigned to = from + 1; to <= 64; ++to) {
      uint64_t expected = 0;
      for (unsigned b = from; b < to; ++b) expected |= uint64_t{1} << b;
      ASSERT_EQ(bits::mask(from, to), expected) << from << " to " << to;
    }
  }
}

TEST_F(BitsTest, ForEachWordCoversEveryRangeOnceInOrder) {
  for (uint64_t start = 0; start < kBits; ++start) {
    for (uint64_t length = 1; start + length <= kBits; length += length < 130 ? 1 : 37) {
      uint64_t covered[kWords] = {};
      uint64_t next = start / 64;
      bits::for_each_word(start, length, [&](uint64_t word, uint64_t mask) {
        ASSERT_EQ(word, next++);
        ASSERT_NE(mask, 0u);
        covered[word] |= mask;
      });
      for (uint64_t at = 0; at < kBits; ++at) {
        const bool inside = at >= start && at < start + length;
        ASSERT_EQ((covered[at / 64] >> (at % 64) & 1) != 0, inside) << start << "+" << length << " at " << at;
      }
    }
  }
}

TEST_F(BitsTest, SetAndClearChangeTheRangeAndNothingElse) {
  for (int round = 0; round < 20000; ++round) {
    fill();
    bool model[kBits];
    for (uint64_t at = 0; at < kBits; ++at) model[at] = bit(at);
    const uint64_t start = random.below(kBits);
    const uint64_t length = random.between(1, kBits - start);
    const bool value = random.one_in(2);
    if (value)
      bits::set(words, start, length);
    else
      bits::clear(words, start, length);
    for (uint64_t at = start; at < start + length; ++at) model[at] = value;
    for (uint64_t at = 0; at < kBits; ++at)
      ASSERT_EQ(bits::test(words, at), model[at]) << start << "+" << length;
  }
}

TEST_F(BitsTest, AnyAndAllSeeWhatIsThere) {
  int full = 0, empty = 0;
  for (int round = 0; round < 50000; ++round) {
    fill();
    const uint64_t start = random.below(kBits);
    const uint64_t length =
        random.between(1, random.one_in(2) ? kBits - start : std::min<uint64_t>(5, kBits - start));
    bool any = false, all = true;
    for (uint64_t at = start; at < start + length; ++at) {
      any |= bit(at);
      all &= bit(at);
    }
    ASSERT_EQ(bits::any(words, start, length), any) << start << "+" << length;
    ASSERT_EQ(bits::all(words, start, length), all) << start << "+" << length;
    full += all;
    empty += !any;
  }
  EXPECT_GT(full, 1000);
  EXPECT_GT(empty, 1000);
}

TEST_F(BitsTest, FindSetAndFindClearStopAtTheFirstOrTheLimit) {
  for (int round = 0; round < 50000; ++round) {
    fill();
    const uint64_t start = random.below(kBits + 1);
    const uint64_t limit = random.below(kBits + 1);
    uint64_t set = start, clear = start;
    while (set < limit && !bit(set)) ++set;
    while (clear < limit && bit(clear)) ++clear;
    ASSERT_EQ(bits::find_set(words, start, limit), std::min(set, limit)) << start << " to " << limit;
    ASSERT_EQ(bits::find_clear(words, start, limit), std::min(clear, limit)) << start << " to " << limit;
  }
}

TEST_F(BitsTest, RunStartBeforeFindsWhereTheRunBegan) {
  for (int round = 0; round < 50000; ++round) {
    fill();
    const uint64_t end = random.below(kBits + 1);
    const uint64_t most = random.below(2 * kBits);
    uint64_t start = end;
    while (start > 0 && bit(start - 1)) --start;
    const uint64_t found = bits::run_start_before(words, end, most);
    if (end - start <= most) {
      ASSERT_EQ(found, start) << "run that ends at " << end << ", looking back " << most;
    } else {  // it may stop once it has looked back far enough, never short of that, never too far
      ASSERT_GE(found, start);
      ASSERT_GE(end - found, most);
    }
  }
}

}  // namespace
}  // namespace nonreuse
