// The table of stacks: an unwinder that the test controls stands in for the companion's.
#include "trace/stacks.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdlib>
#include <initializer_list>
#include <vector>

namespace {
std::vector<uint64_t>& planted() {
  static std::vector<uint64_t> frames;
  return frames;
}
size_t memory_left = ~size_t{0};

void* more(size_t bytes) {
  if (bytes > memory_left) return nullptr;
  memory_left -= bytes;
  return calloc(1, bytes);
}
}  // namespace

size_t nonreuse_capture_stack(uint64_t* out, size_t most) {
  errno = EDOM;
  size_t count = 0;
  while (count < planted().size() && count < most) {
    out[count] = planted()[count];
    ++count;
  }
  return count;
}

namespace nonreuse {
namespace {

constexpr Granules kCapacity = Granules{4} << kBlockShift;

class StacksTest : public testing::Test {
 protected:
  void SetUp() override {
    static const bool started = stacks::start(more, kCapacity);
    ASSERT_TRUE(started);
  }
  static StackId captured(std::initializer_list<uint64_t> frames) {
    planted() = frames;
    return stacks::capture();
  }
};

TEST_F(StacksTest, EachStackIsKeptOnce) {
  const StackId first = captured({1000, 2000, 3000}), second = captured({1000, 2000, 3001});
  EXPECT_GT(first, kUnknownStack);
  EXPECT_NE(first, second);
  EXPECT_EQ(captured({1000, 2000, 3000}), first);
  RecordedStack copy{};
  stacks::copy(second, copy);
  ASSERT_EQ(copy.count, 3u);
  EXPECT_EQ(copy.frames[2], 3001u);
}

TEST_F(StacksTest, ErrnoStaysAndNoFramesAreUnknown) {
  errno = 0;
  EXPECT_EQ(captured({}), kUnknownStack);
  EXPECT_EQ(errno, 0);
}

TEST_F(StacksTest, LongStacksKeepTheirInnermostFrames) {
  planted().assign(60, 7);
  planted()[0] = 9;
  RecordedStack copy{};
  stacks::copy(stacks::capture(), copy);
  EXPECT_EQ(copy.count, kMostFrames);
  EXPECT_EQ(copy.frames[0], 9u);
}

TEST_F(StacksTest, TheFirstFreeCounts) {
  const StackId made = captured({1}), first = captured({2}), second = captured({3});
  stacks::note_made(77, made);
  EXPECT_EQ(stacks::record(77).freed, 0u);
  stacks::note_freed(77, first);
  stacks::note_freed(77, second);
  EXPECT_EQ(stack_of(stacks::record(77).made), made);
  EXPECT_EQ(stack_of(stacks::record(77).freed), first);
  EXPECT_NE(thread_of(stacks::record(77).freed), 0u);
  stacks::take_back(77);
  EXPECT_EQ(stacks::record(77).freed, 0u);
  stacks::note_cut(80, 77, second);
  EXPECT_EQ(stack_of(stacks::record(80).made), made);
  EXPECT_EQ(stack_of(stacks::record(80).freed), second);
  stacks::note_made(77, second);  // the chunk's memory has another owner
  EXPECT_EQ(stack_of(stacks::record(77).made), second);
}

TEST_F(StacksTest, AgesAreSweepsSinceTheFree) {
  stacks::note_made(5, captured({1}));
  stacks::note_freed(5, captured({2}));
  const uint64_t freed = stacks::record(5).freed;
  for (int i = 0; i < 3; ++i) stacks::note_sweep();
  EXPECT_EQ(age_of(freed, nonreuse_heap_descriptor.epoch), 3u);
  constexpr uint64_t kWrap = uint64_t{1} << kAgeBits;
  EXPECT_EQ(age_of((kWrap - 1) << (kStackBits + kThreadBits), kWrap + 4), 5u) << "counts go round";
}

TEST_F(StacksTest, WhatHasNoRoomIsCounted) {
  const StackId made = captured({1});
  const uint64_t before = nonreuse_heap_descriptor.dropped;
  memory_left = 0;
  const Granule elsewhere = Granule{2} << kBlockShift;
  stacks::note_made(elsewhere, made);
  EXPECT_EQ(stacks::record(elsewhere).made, 0u);
  EXPECT_EQ(nonreuse_heap_descriptor.dropped, before + 1);
  memory_left = ~size_t{0};
  stacks::note_made(kCapacity * 2, made);  // no granule of this heap
  EXPECT_EQ(nonreuse_heap_descriptor.dropped, before + 2);
}

}  // namespace
}  // namespace nonreuse
