// The attacks on CHERI allocators that are published (Bramley et al., "Picking a CHERI Allocator: Security
// and Performance Considerations", ISMM 2023), and those that this heap's own design invites; each is tried,
// and must fail with the message that says why.
#include <algorithm>

#include "world.hpp"

namespace nonreuse::sim {
namespace {

// The parameter: whether revocation takes tags, else permissions.
class Attack : public testing::TestWithParam<bool> {
 protected:
  static WorldConfig config() {
    WorldConfig config;
    config.machine.take_tags = GetParam();
    return config;
  }
  void TearDown() override {
    world.check_reachable("at the end");
    expect_sound(world);
  }
  const Format& format() { return world.machine.format(); }
  Capability narrowed(const Capability& c, uint64_t from, uint64_t length) {
    return c.with_address(format(), c.address + from).with_bounds(format(), length);
  }
  // Every call that takes a pointer refuses this one.
  void expect_refused(const Capability& c, const char* why) {
    Capability quiet = c;
    quiet.ghost = 0;
    EXPECT_DEATH(world.heap.free(*world.fronts[0], world.wild(quiet)),
                 std::string("invalid free: free\\(0x.*") + why);
    EXPECT_DEATH(world.heap.reallocate(*world.fronts[0], world.wild(quiet), 8),
                 std::string("invalid free: realloc\\(0x.*") + why);
    EXPECT_DEATH(world.heap.usable_size(world.wild(quiet)),
                 std::string("invalid free: malloc_usable_size\\(0x.*") + why);
  }
  World world{config()};
};

TEST_P(Attack, WhatWasGivenIsAccepted) {
  Capability c = world.allocate(0, 100);
  EXPECT_EQ(world.usable(c), 100u);
  c = world.reallocate(0, c, 30);
  EXPECT_EQ(world.usable(c), 30u);
  c = world.reallocate(0, c, 50'000);
  EXPECT_EQ(world.usable(c), static_cast<size_t>(format().representable_length(50'000)));
  c = world.reallocate(0, c, 0);
  EXPECT_EQ(world.usable(c), 0u);
  world.release(0, c);
}

TEST_P(Attack, WidenedBack) {
  // A callee that was lent a part asks realloc for more, or frees its owner's memory.
  for (const size_t size : {size_t{100}, size_t{5000}, size_t{200'000}}) {
    const Capability c = world.allocate(0, size);
    expect_refused(narrowed(c, 0, size / 2), "has bounds of [0-9]+ bytes, not the [0-9]+");
    expect_refused(narrowed(c, 0, 0), "has bounds of 0 bytes, not the");
    expect_refused(narrowed(c, 16, 16), "points 16 bytes into the live chunk");
  }
}

TEST_P(Attack, PermissionsBack) {
  const Capability c = world.allocate(0, 100);
  expect_refused(c.with_permissions(kLoad), "has other permissions than were given out");
  expect_refused(c.with_permissions(kLoad | kLoadCapability), "has other permissions than were given out");
  expect_refused(c.with_permissions(0), "is a revoked capability");
}

TEST_P(Attack, ForgedFromAnInteger) {
  const Capability c = world.allocate(0, 100);
  expect_refused(c.untagged(), "its tag is clear");
  // Through memory: any write of data makes an integer of it.
  const Capability cell = world.allocate(0, 16);
  ASSERT_TRUE(world.machine.store(cell, c));
  ASSERT_TRUE(world.machine.store_data(cell, c.address, 8));
  Capability forged;
  ASSERT_TRUE(world.machine.load(cell, forged));
  EXPECT_EQ(forged.address, c.address);
  EXPECT_FALSE(forged.tag);
  expect_refused(forged, "its tag is clear");
}

TEST_P(Attack, Sealed) {
  expect_refused(world.allocate(0, 100).with_seal(9), "is a sealed capability");
}

TEST_P(Attack, SomebodyElsesAddress) {
  // The authority over one chunk, the address of another.
  const Capability mine = world.allocate(0, 2000), theirs = world.allocate(0, 2000);
  const Capability moved = mine.with_address(format(), theirs.address);
  ASSERT_TRUE(moved.tag) << "close enough to stay representable";
  expect_refused(moved, "is not at the base of its bounds");
  // The whole heap's address space, as a kernel or a debugger might hand in.
  Capability wide = world.machine.authority().with_address(format(), mine.address);
  expect_refused(wide, "is not at the base of its bounds");
  expect_refused(wide.with_bounds(format(), 2016), "has bounds of 2016 bytes, not the 2000");
  expect_refused(wide.with_bounds(format(), 2000), "has other permissions");
}

TEST_P(Attack, NoOverlapAfterRounding) {
  // Lengths that the format must round: the rounded bounds of neighbours do not meet.
  std::vector<Capability> all;
  for (size_t size = 4000; size < 300'000; size = size * 21 / 20 + 1) all.push_back(world.allocate(0, size));
  for (size_t size = 4000; size < 300'000; size = size * 9 / 8 + 1) {
    all.push_back(world.allocate_aligned(0, 64, size));
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.address < b.address; });
  for (size_t i = 1; i < all.size(); ++i) {
    EXPECT_LT(all[i - 1].bounds.top, Wide{all[i].bounds.base}) << "not even the heap's own note is between";
  }
}

TEST_P(Attack, LeftOverCapabilities) {
  // A capability to a secret lies in memory that is freed; whoever gets the memory next must not find it.
  const Capability secret = world.allocate(0, 64);
  for (const size_t size : {size_t{64}, size_t{4096}, size_t{100'000}}) {
    const Capability box = world.allocate(0, size);
    for (uint64_t at = 0; at < size / 16; ++at) {
      ASSERT_TRUE(world.machine.store(box.with_address(format(), box.address + at * 16), secret));
    }
    world.release(0, box);
    world.revoke();
    bool again = false;
    for (int i = 0; i < 3000 && !again; ++i) {
      again = world.allocate(0, size).address == box.address;  // looked through by the book
    }
    EXPECT_TRUE(again) << size;
  }
}

TEST_P(Attack, WrittenBackAfterFree) {
  // The same, but written through a dangling capability after the free had cleared the memory.
  const Capability secret = world.allocate(0, 64);
  const Capability box = world.allocate(0, 64);
  world.release(0, box);
  ASSERT_TRUE(world.machine.store(box, secret)) << "not revoked yet";
  EXPECT_TRUE(world.machine.tag_at(box.address));
  world.revoke();
  bool again = false;
  for (int i = 0; i < 20'000 && !again; ++i) again = world.allocate(0, 64).address == box.address;
  EXPECT_TRUE(again);
}

TEST_P(Attack, DoubleFreeBeforeAndAfterRevocation) {
  const Capability c = world.allocate(0, 64);
  Capability& held = world.machine.registers(0)[0];
  held = c;
  world.release(0, held);
  EXPECT_DEATH(world.heap.free(*world.fronts[0], world.wild(held)), "nonreuse: double free: free\\(0x");
  world.revoke();
  EXPECT_TRUE(world.fully_revoked(held));
  EXPECT_DEATH(world.heap.free(*world.fronts[0], world.wild(held)), "is heap memory that is not allocated");
  // And when somebody else has the memory: the tag or the permissions are gone.
  Capability next;
  for (int i = 0; i < 20'000 && next.address != c.address; ++i) next = world.allocate(0, 64);
  ASSERT_EQ(next.address, c.address);
  expect_refused(held, GetParam() ? "its tag is clear" : "is a revoked capability");
}

TEST_P(Attack, KeptAcrossReallocInPlace) {
  // The capability to the longer past of a chunk no longer counts; its end is not reused while it may live.
  const Capability before = world.allocate(0, 120);
  const Capability after = world.reallocate(0, before, 100);
  ASSERT_EQ(after.address, before.address);
  expect_refused(before, "has bounds of 120 bytes, not the 100");
  const Capability larger = world.reallocate(0, after, 120);
  ASSERT_EQ(larger.address, before.address);
  expect_refused(after, "has bounds of 100 bytes, not the 120");
  // Cutting off much moves: the old capability dies with the old chunk.
  world.machine.registers(0)[0] = world.allocate(0, 100'000);
  const Capability cut = world.reallocate(0, world.machine.registers(0)[0], 100);
  EXPECT_NE(cut.address, world.machine.registers(0)[0].address);
  world.revoke();
  EXPECT_TRUE(world.fully_revoked(world.machine.registers(0)[0]));
}

TEST_P(Attack, GrownInPlaceLeavesNoNote) {
  // Where a chunk grows, the heap's note about its old length must not be readable in its middle.
  const Capability small = world.allocate(0, 3000);
  const Capability grown = world.reallocate(0, small, 30'000);
  ASSERT_EQ(grown.address, small.address) << "in place";
  for (uint64_t at = 2992; at < 3040; ++at) {
    uint64_t byte = 1;
    ASSERT_TRUE(world.machine.load_data(grown.with_address(format(), grown.address + at), byte, 1));
    EXPECT_EQ(byte, 0u) << at;
  }
}

TEST_P(Attack, EmptyAtTheEnd) {
  // A capability of no bytes at the very end of one chunk dies with that chunk, and not with its neighbour.
  const Capability a = world.allocate(0, 48), b = world.allocate(0, 48);
  Capability& end_of_a = world.machine.registers(0)[0];
  Capability& end_of_b = world.machine.registers(0)[1];
  end_of_a = narrowed(a, 48, 0);
  end_of_b = narrowed(b, 48, 0);
  ASSERT_TRUE(end_of_a.tag && end_of_b.tag);
  world.release(0, b);
  world.revoke();
  EXPECT_TRUE(end_of_a.usable());
  EXPECT_TRUE(world.fully_revoked(end_of_b));
}

TEST_P(Attack, ReallocKeepsCapabilitiesOfTheProgram) {
  // Not an attack: what is copied keeps its tags, and what was copied beyond the old end does not exist.
  const Capability target = world.allocate(0, 10);
  const Capability box = world.allocate(0, 64);
  ASSERT_TRUE(world.machine.store(box.with_address(format(), box.address + 48), target));
  const Capability moved = world.reallocate(0, box, 5000);
  Capability found;
  ASSERT_TRUE(world.machine.load(moved.with_address(format(), moved.address + 48), found));
  EXPECT_TRUE(found.tag);
  EXPECT_EQ(found.bounds, target.bounds);
}

INSTANTIATE_TEST_SUITE_P(By, Attack, testing::Bool(),
                         [](const auto& which) { return which.param ? "tags" : "permissions"; });

}  // namespace
}  // namespace nonreuse::sim
