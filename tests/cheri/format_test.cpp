// The compressed formats against published vectors, and capabilities against the rules of the architecture.
#include <gtest/gtest.h>

#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <random>
#include <sstream>
#include <string>

#include "capability.hpp"

namespace nonreuse::sim {
namespace {

TEST(Format, PassesAllPublishedVectors) {
  std::ifstream file(NONREUSE_VECTORS);
  ASSERT_TRUE(file.good()) << NONREUSE_VECTORS;
  unsigned checked[2] = {};
  std::string line, name, vector;
  ASSERT_TRUE(std::getline(file, line)) << "the heading";
  while (std::getline(file, line)) {
    std::istringstream words(line);
    words >> name;
    ASSERT_TRUE(name == "morello" || name == "cc128") << line;
    const Format& format = name == "morello" ? kMorello : kCc128;
    while (words >> vector) {
      uint64_t length, rounded, mask;
      ASSERT_EQ(sscanf(vector.c_str(), "%" SCNu64 ",%" SCNu64 ",%" SCNx64, &length, &rounded, &mask), 3)
          << vector;
      EXPECT_EQ(static_cast<uint64_t>(format.representable_length(length)), rounded) << name << vector;
      EXPECT_EQ(format.alignment_mask(length), mask) << name << vector;
      ++checked[name == "morello"];
    }
  }
  EXPECT_EQ(checked[0], 1162u);
  EXPECT_EQ(checked[1], 1162u);
}

class Rules : public testing::TestWithParam<Format> {
 protected:
  const Format& format() { return GetParam(); }
  uint64_t random_length() { return random() >> (17 + random() % 47); }
  std::mt19937_64 random{20240611};
};

TEST_P(Rules, BoundsOfRepresentableLengthAndAlignmentAreExact) {
  for (int i = 0; i < 200'000; ++i) {
    const uint64_t wanted = random_length();
    const auto length = static_cast<uint64_t>(format().representable_length(wanted));
    const uint64_t base = (random() >> 17) & format().alignment_mask(wanted);
    const Bounds bounds = format().decode(format().encode(base, Wide{base} + length), base);
    ASSERT_EQ(bounds, (Bounds{base, Wide{base} + length})) << std::hex << base << " " << length;
    ASSERT_GE(length, wanted);
    // And at every address within, and one past the end.
    const uint64_t inside = length == 0 ? base : base + random() % (length + 1);
    ASSERT_EQ(format().decode(format().encode(base, Wide{base} + length), inside), bounds)
        << std::hex << base << " " << length << " " << inside;
  }
}

TEST_P(Rules, OtherBoundsAreRoundedOutwardsAndByLittle) {
  for (int i = 0; i < 200'000; ++i) {
    const uint64_t length = random_length(), base = random() >> 17;
    const Bounds bounds = format().decode(format().encode(base, Wide{base} + length), base);
    ASSERT_LE(bounds.base, base);
    ASSERT_GE(bounds.top, Wide{base} + length);
    const Wide slack = bounds.length() - length;
    ASSERT_LE(slack, Wide{length} >> (format().mantissa() - 6)) << std::hex << base << " " << length;
    // What was rounded once stays as it is.
    ASSERT_EQ(format().decode(format().encode(bounds.base, bounds.top), base), bounds);
  }
}

TEST_P(Rules, MemoryKeepsACapabilityBitForBit) {
  const Capability root = Capability::root(format(), 0x4000'0000, 1 << 30);
  ASSERT_EQ(root.bounds, (Bounds{0x4000'0000, Wide{0x8000'0000}}));
  for (int i = 0; i < 50'000; ++i) {
    const uint64_t length = random_length() % (1 << 24);
    const Capability c = root.with_address(format(), 0x4000'0000 + random() % (1 << 29))
                             .with_bounds(format(), length)
                             .with_permissions(static_cast<uint32_t>(random()));
    ASSERT_TRUE(c.tag);
    const Capability back = Capability::from_bits(format(), c.address, c.metadata(format()), true);
    ASSERT_EQ(back.bounds, c.bounds);
    ASSERT_EQ(back.permissions, c.permissions);
    ASSERT_EQ(back.address, c.address);
    ASSERT_EQ(back.metadata(format()), c.metadata(format()));
  }
}

TEST_P(Rules, NothingGivesMoreThanItsOperand) {
  const Capability root = Capability::root(format(), 0x4000'0000, 1 << 20);
  const Capability c = root.with_address(format(), 0x4000'0100).with_bounds(format(), 256);
  EXPECT_TRUE(c.tag);
  EXPECT_FALSE(c.with_bounds(format(), 257).tag);
  EXPECT_TRUE(c.with_address(format(), 0x4000'0200).tag) << "one past the end keeps the tag";
  EXPECT_FALSE(c.with_address(format(), 0x4000'0200).with_bounds(format(), 1).tag);
  EXPECT_FALSE(c.with_address(format(), 0x4000'00ff).with_bounds(format(), 2).tag);
  EXPECT_FALSE(c.with_address(format(), 0x7000'0000).tag) << "far outside the bounds can not be said";
  EXPECT_FALSE(c.with_address(format(), 0x7000'0000).with_address(format(), 0x4000'0100).tag);
  EXPECT_EQ(c.with_permissions(kLoad).with_permissions(kEveryPermission).permissions, uint32_t{kLoad});
  const Capability sealed = c.with_seal(7);
  EXPECT_TRUE(sealed.tag);
  EXPECT_FALSE(sealed.usable());
  EXPECT_FALSE(sealed.with_bounds(format(), 16).tag);
  EXPECT_FALSE(sealed.with_address(format(), c.address + 1).tag);
  EXPECT_FALSE(sealed.with_permissions(kLoad).tag);
  EXPECT_FALSE(sealed.with_seal(8).tag);
  EXPECT_FALSE(c.untagged().with_bounds(format(), 16).tag);
}

INSTANTIATE_TEST_SUITE_P(Both, Rules, testing::Values(kCc128, kMorello), [](const auto& which) {
  return which.param.mantissa() == 14 ? "cc128" : "morello";
});

}  // namespace
}  // namespace nonreuse::sim
