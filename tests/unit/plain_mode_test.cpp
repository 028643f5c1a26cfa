// FREEBUF_MODE=0: plain dlmalloc. This file alone is compiled so; the templates below are its own.
#include <algorithm>
#include <map>
#include <vector>

#include "heap_world.hpp"

static_assert(!nonreuse::kFreebufMode, "compile this file with FREEBUF_MODE=0");

namespace nonreuse {
namespace {

class PlainModeTest : public CoreTest {
 protected:
  void SetUp() override {
    ASSERT_TRUE(allocator.init(quiet_options()));
    front = allocator.make_front();
    ASSERT_NE(front, nullptr);
  }
  void TearDown() override {
    allocator.check();  // I1, I2
    expect_no_breach(memory);
    EXPECT_EQ(revoker.calls, 0u) << "swept, without a quarantine";
    nonreuse_statistics s;
    allocator.statistics(s);
    EXPECT_EQ(s.quarantined_bytes + s.held_bytes + s.frees + s.sweeps, 0u);
  }

  char* get(size_t size) { return static_cast<char*>(allocator.allocate(*front, size).get()); }
  char* resize(char* old, size_t size) {
    return static_cast<char*>(allocator.reallocate(*front, Wild(old), size).get());
  }
  void put(char* p) { allocator.free(*front, Wild(p)); }
  size_t chunk_bytes(char* p) { return allocator.usable_size(Wild(p)) + 1; }
  static bool zero(const char* p, size_t bytes) {
    return std::all_of(p, p + bytes, [](char c) { return c == 0; });
  }

  SimulatedMemory memory{512 * kMiB};
  ScriptedRevoker revoker;
  TestAllocator allocator{memory, revoker};
  ThreadFront* front = nullptr;
};

TEST_F(PlainModeTest, AFreedChunkIsTheNextOneHandedOut) {
  for (const size_t size : {1u, 24u, 100u, 900u, 1000u, 5000u, 40000u, 300000u, 5000000u}) {
    char* p = get(size);
    get(1);
    memset(p, 1, size);
    put(p);
    char* q = get(size);
    EXPECT_EQ(q, p) << size;
    EXPECT_TRUE(zero(q, chunk_bytes(q))) << "I5: " << size;
  }
}

TEST_F(PlainModeTest, ARevocationHasNothingToDo) {
  put(get(100));
  EXPECT_EQ(allocator.revoke(*front), SweepResult::nothing);
}

TEST_F(PlainModeTest, NeighboursCoalesceAtOnce) {
  char* a = get(200);
  char* b = get(3000);
  char* c = get(200);
  get(1);
  const size_t all = chunk_bytes(a) + chunk_bytes(b) + chunk_bytes(c);
  put(a);
  put(c);
  put(b);
  EXPECT_EQ(get(all - 1), a);
}

TEST_F(PlainModeTest, ChunksAtTheTopGoBackToIt) {
  char* a = get(100);
  char* b = get(100000);
  put(b);
  put(a);
  EXPECT_EQ(allocator.heap().in_use(), 0u);
  EXPECT_EQ(get(100), a) << "the top begins where it began";
}

TEST_F(PlainModeTest, TheBestFitIsChosen) {
  std::vector<char*> holes;
  for (const size_t size : {9000u, 3000u, 6000u, 4000u, 12000u}) {
    holes.push_back(get(size));
    get(1);
  }
  for (char* p : holes) put(p);
  EXPECT_EQ(get(3500), holes[3]);
  EXPECT_EQ(get(5000), holes[2]);
  EXPECT_EQ(get(2900), holes[1]);
  EXPECT_EQ(get(10000), holes[4]);
  EXPECT_EQ(get(8000), holes[0]);
}

TEST_F(PlainModeTest, ReallocKeepsContentsAndGrowsInPlace) {
  char* p = get(5000);
  char* behind = get(20000);
  get(1);
  memset(p, 7, 5000);
  memset(behind, 8, 20000);
  put(behind);
  EXPECT_EQ(resize(p, 20000), p) << "the freed neighbour is free at once";
  EXPECT_TRUE(std::all_of(p, p + 5000, [](char c) { return c == 7; }));
  EXPECT_TRUE(zero(p + 5008, 14000)) << "I5";
  EXPECT_EQ(resize(p, 100), p);
  EXPECT_TRUE(std::all_of(p, p + 100, [](char c) { return c == 7; }));
  EXPECT_EQ(get(4800), p + chunk_bytes(p)) << "the tail is free at once";
}

TEST_F(PlainModeTest, MisuseStopsTheProgramAllTheSame) {
  for (const size_t size : {24u, 5000u, 300000u}) {
    char* p = get(size);
    get(1);
    EXPECT_DEATH(put(p + 16), "points 16 bytes into the live chunk");
    put(p);
    EXPECT_DEATH(put(p),
                 "nonreuse: invalid free: free\\(0x[0-9a-f]+\\): is heap memory that is not allocated");
    EXPECT_DEATH(resize(p, 10), "is heap memory that is not allocated");
  }
}

TEST_F(PlainModeTest, OutOfMemoryLosesNothing) {
  std::vector<char*> live;
  memory.limit_commits(32 * kMiB);
  for (char* p; (p = get(3000)) != nullptr;) live.push_back(p);
  ASSERT_GT(live.size(), 1000u);
  for (char* p : live) put(p);
  EXPECT_EQ(allocator.heap().in_use(), 0u);
  size_t again = 0;
  while (get(3000) != nullptr) ++again;
  EXPECT_EQ(again, live.size());
}

// I1, I2, I5, and that no two chunks overlap, at random.
TEST_F(PlainModeTest, AgreesWithAModelOverManyOperations) {
  Random random(1);
  struct Block {
    size_t size, bytes;
    char key;
  };
  std::map<char*, Block> live;
  const auto adopt = [&](char* p, size_t size, size_t kept) {
    const size_t bytes = chunk_bytes(p);
    const auto next = live.lower_bound(p);
    ASSERT_TRUE(next == live.end() || next->first >= p + bytes);
    ASSERT_TRUE(next == live.begin() || std::prev(next)->first + std::prev(next)->second.bytes <= p);
    const char key = static_cast<char>(random.between(1, 100));
    ASSERT_TRUE(kept != 0 || zero(p, bytes)) << "I5";
    memset(p, key, size);
    live[p] = {size, bytes, key};
  };
  const auto intact = [](char* p, size_t bytes, char key) {
    return std::all_of(p, p + bytes, [key](char c) { return c == key; });
  };
  for (int op = 0; op < 200000; ++op) {
    const size_t size = random.one_in(200) ? random.size(300000) : 1 + random.size(2000);
    if (live.empty() || (random.one_in(2) && live.size() < 2000)) {
      if (random.one_in(10)) {
        const size_t alignment = size_t{16} << random.below(10);
        auto* p = static_cast<char*>(allocator.allocate_aligned(*front, alignment, size).get());
        ASSERT_EQ(reinterpret_cast<uintptr_t>(p) % alignment, 0u);
        adopt(p, size, 0);
      } else {
        adopt(get(size), size, 0);
      }
    } else {
      auto it = live.lower_bound(reinterpret_cast<char*>(memory.base()) + random.below(16 * kMiB));
      if (it == live.end()) it = live.begin();
      const auto [p, block] = *it;
      ASSERT_TRUE(intact(p, block.size, block.key));
      live.erase(it);
      if (random.one_in(4)) {
        char* q = resize(p, size);
        ASSERT_TRUE(intact(q, std::min(size, block.size), block.key));
        adopt(q, size, 1);
      } else {
        put(p);
      }
    }
    if (HasFatalFailure()) return;
    if (op % 20000 == 0) allocator.check();
  }
  for (const auto& [p, block] : live) put(p);
  EXPECT_EQ(allocator.heap().in_use(), 0u);
}

}  // namespace
}  // namespace nonreuse
