// A million operations on the allocator against a model that knows every live and every quarantined chunk,
// what each live one contains, and what the scripted sweeps have cleared.
#include <algorithm>
#include <map>
#include <vector>

#include "allocator_world.hpp"

namespace nonreuse {
namespace {

class AllocatorModelTest : public AllocatorTest {
 protected:
  struct Block {
    size_t size;   // asked for
    size_t bytes;  // of the chunk
    uint64_t key;
  };
  using Blocks = std::map<uintptr_t, Block>;

  AllocatorModelTest() : AllocatorTest(1024 * kMiB) {}

  // Follows each revocation: what is painted and not pointed at may be handed out again from then on.
  void follow_sweeps() {
    revoker.during = [this](const RevokeRequest& request) {
      ++sweeps;
      if (!revoker.outcomes.empty() && revoker.outcomes.front() != RevokeOutcome::cleared) return;
      for (auto it = quarantined.begin(); it != quarantined.end();) {
        const bool painted = request.shadow->is_painted((it->first - request.base) >> kGranuleShift);
        const auto pointer = revoker.pointers.lower_bound(it->first);
        const bool pointed_at = pointer != revoker.pointers.end() && *pointer < it->first + it->second.bytes;
        if (painted && !pointed_at)
          it = quarantined.erase(it);
        else
          ++it;
      }
    };
  }

  static bool overlaps(const Blocks& blocks, uintptr_t at, size_t bytes) {
    const auto next = blocks.lower_bound(at);
    if (next != blocks.end() && next->first < at + bytes) return true;
    return next != blocks.begin() && std::prev(next)->first + std::prev(next)->second.bytes > at;
  }
  static uintptr_t at(const char* p) { return reinterpret_cast<uintptr_t>(p); }
  static char* bytes_at(uintptr_t address) { return reinterpret_cast<char*>(address); }

  // Eight bytes at a time at both ends, and all of what is short.
  static size_t checked(size_t size) { return size < 4096 ? size : 2048; }
  static void write(uintptr_t p, const Block& block) {
    fill(bytes_at(p), checked(block.size), static_cast<unsigned>(block.key));
    if (block.size >= 4096) fill(bytes_at(p + block.size - 2048), 2048, static_cast<unsigned>(block.key + 1));
  }
  static bool intact(uintptr_t p, const Block& block) {
    return filled(bytes_at(p), checked(block.size), static_cast<unsigned>(block.key)) &&
           (block.size < 4096 ||
            filled(bytes_at(p + block.size - 2048), 2048, static_cast<unsigned>(block.key + 1)));
  }

  void adopt(char* p, size_t size, bool fresh) {
    ASSERT_NE(p, nullptr);
    const size_t bytes = chunk_bytes(p);
    ASSERT_GT(bytes, size);
    ASSERT_EQ(at(p) % kGranule, 0u);
    ASSERT_FALSE(overlaps(live, at(p), bytes)) << "handed out twice";
    ASSERT_FALSE(overlaps(quarantined, at(p), bytes)) << "I4: handed out while in quarantine";
    if (fresh) {
      ASSERT_TRUE(zero(p, bytes < 20000 ? bytes : 4096)) << "I5";
      ASSERT_TRUE(bytes < 20000 || zero(p + bytes - 4096, 4096)) << "I5";
    }
    const Block block{size, bytes, random.below(200)};
    write(at(p), block);
    live[at(p)] = block;
  }
  Blocks::iterator any(Blocks& blocks) {
    const auto it =
        blocks.lower_bound(at(bytes_at(memory.base())) + random.below(allocator.heap().top() * kGranule));
    return it == blocks.end() ? blocks.begin() : it;
  }

  void allocate_one() {
    const size_t size = random.one_in(500)  ? random.size(2 * kMiB)
                        : random.one_in(30) ? random.size(40000)
                                            : random.size(1500);
    if (random.one_in(12)) {
      const size_t alignment = size_t{1} << random.below(14);
      char* p = get_aligned(alignment, size);
      ASSERT_EQ(at(p) % alignment, 0u);
      adopt(p, size, true);
    } else {
      adopt(get(size), size, true);
    }
  }
  void free_one() {
    const auto it = any(live);
    ASSERT_TRUE(intact(it->first, it->second));
    const uintptr_t p = it->first;
    quarantined[p] = it->second;  // first: the call itself may sweep
    live.erase(it);
    put(bytes_at(p));
  }
  void resize_one() {
    const auto it = any(live);
    const uintptr_t p = it->first;
    const Block old = it->second;
    ASSERT_TRUE(intact(p, old));
    const size_t size = random.one_in(100) ? random.size(kMiB)
                        : random.one_in(3) ? old.size * random.between(1, 30) / 10
                                           : random.size(1500);
    quarantined[p] = old;
    live.erase(it);
    char* q = resize(bytes_at(p), size);
    ASSERT_NE(q, nullptr);
    const size_t kept = std::min({size, old.size, checked(old.size)});
    ASSERT_TRUE(filled(q, kept, static_cast<unsigned>(old.key)));
    if (at(q) == p) {
      quarantined.erase(p);
      const size_t bytes = chunk_bytes(q);
      const char* tail = q + bytes;
      if (bytes < old.bytes && TagMap::is_freed(tag(tail))) {
        quarantined[at(tail)] = {0, old.bytes - bytes, 0};
      }
    }
    adopt(q, size, false);
  }
  // A program that writes through a dangling pointer.
  void write_to_freed() {
    if (quarantined.empty()) return;
    const auto it = any(quarantined);
    const uintptr_t place = it->first + random.below(it->second.bytes);
    if (memory.page(place) == SimulatedMemory::Page::trapped) return;
    *bytes_at(place) = 'x';
  }
  void change_pointers() {
    revoker.pointers.clear();
    for (uint64_t i = random.size(60); i > 0 && !quarantined.empty(); --i) {
      const auto it = any(quarantined);
      revoker.pointers.insert(it->first + random.below(it->second.bytes));
    }
    for (uint64_t i = random.size(60); i > 0 && !live.empty(); --i) {  // freed later, perhaps
      const auto it = any(live);
      revoker.pointers.insert(it->first + random.below(it->second.bytes));
    }
  }
  void check_books() {
    allocator.check();
    for (const auto& [p, block] : live) {
      ASSERT_TRUE(TagMap::is_live(tag(bytes_at(p))));
      ASSERT_TRUE(intact(p, block));
    }
    for (const auto& [p, block] : quarantined) {
      ASSERT_TRUE(TagMap::is_freed(tag(bytes_at(p))));
      ASSERT_EQ(allocator.heap().tags().length(granule(bytes_at(p))) * kGranule, block.bytes);
    }
  }

  void run(int operations) {
    follow_sweeps();
    for (int op = 0; op < operations; ++op) {
      if (op % 1000 == 0) change_pointers();
      const uint64_t what = random.below(1000);
      const bool full = live.size() > ((op / 50000) % 2 == 0 ? 4000u : 300u);
      if (live.empty() || (what < 480 && !full))
        allocate_one();
      else if (what < 880)
        free_one();
      else if (what < 985)
        resize_one();
      else if (what < 997)
        write_to_freed();
      else if (what < 999)
        sweep();
      else
        allocator.trim(random.size(kMiB));
      if (HasFatalFailure()) return;
      if (op % 50000 == 0) check_books();
      if (HasFatalFailure()) return;
    }
    check_books();
    revoker.pointers.clear();
    while (!live.empty()) {
      free_one();
      if (HasFatalFailure()) return;
    }
    revoker.outcomes.clear();
    sweep();
    EXPECT_TRUE(quarantined.empty());
    allocator.give_up_front(front);
    front = allocator.make_front();
    EXPECT_EQ(allocator.heap().in_use(), 0u) << "eventual reuse: all of it is free";
  }

  Random random{1};
  Blocks live, quarantined;
  uint64_t sweeps = 0;
};

TEST_F(AllocatorModelTest, AMillionOperations) {
  allocator.options().min = kMiB;
  run(1000000);
  EXPECT_GT(sweeps, 100u);
}

// I8: while revocations fail nothing is released, however much waits.
TEST_F(AllocatorModelTest, WithRevocationsThatFail) {
  allocator.options().min = 128 * kKiB;
  Random script(2);
  for (int i = 0; i < 100000; ++i) {
    revoker.outcomes.push_back(script.one_in(3)   ? RevokeOutcome::cleared
                               : script.one_in(4) ? RevokeOutcome::blind
                                                  : RevokeOutcome::retry);
  }
  testing::internal::CaptureStderr();
  run(200000);
  testing::internal::GetCapturedStderr();
}

TEST_F(AllocatorModelTest, WithAPlatformThatRefusesWhatItMay) {
  allocator.options().min = 128 * kKiB;
  for (const auto call :
       {SimulatedMemory::Call::trap, SimulatedMemory::Call::discard, SimulatedMemory::Call::uncommit}) {
    memory.refuse(call, SimulatedMemory::kAlways);
  }
  run(200000);
}

TEST_F(AllocatorModelTest, WithSweepsOfAFewChunks) {
  allocator.options().min = 128 * kKiB;
  allocator.options().sweep_size = 50;
  run(200000);
}

}  // namespace
}  // namespace nonreuse
