// The backend alone: the order of its calls, generations, refusals, the setting; and epochs.
#include <set>

#include "world.hpp"

namespace nonreuse::sim {
namespace {

TEST(Epochs, AWholeRevocationMustPass) {
  EXPECT_FALSE(epoch_clears(0, 0));
  EXPECT_FALSE(epoch_clears(1, 0));
  EXPECT_TRUE(epoch_clears(2, 0));
  EXPECT_FALSE(epoch_clears(2, 1));
  EXPECT_FALSE(epoch_clears(3, 1));
  EXPECT_TRUE(epoch_clears(4, 1));
  EXPECT_FALSE(epoch_clears(1, 4));
  // Around the wrap of the 61 bits.
  constexpr RevocationEpoch kLast = (RevocationEpoch{1} << kEpochBits) - 1;
  EXPECT_FALSE(epoch_clears(kLast, kLast - 1));
  EXPECT_TRUE(epoch_clears(0, kLast - 1));
  EXPECT_FALSE(epoch_clears(0, kLast));
  EXPECT_FALSE(epoch_clears(1, kLast));
  EXPECT_TRUE(epoch_clears(2, kLast));
  EXPECT_FALSE(epoch_clears(kLast, 3));
}

TEST(Setting, EnvironmentOverKernelOverDefault) {
  using Names = std::set<std::string_view>;
  const auto decide = [](CheriKernelFlags kernel, const Names& set, bool privileged = false) {
    return decide_revocation(kernel, privileged, [&](const char* name) { return set.count(name) != 0; });
  };
  const CheriKernelFlags old, off{.known = true}, on{true, true, true, true};
  EXPECT_TRUE(decide(old, {}).enabled);
  EXPECT_FALSE(decide(old, {}).every_free);
  EXPECT_FALSE(decide(off, {}).enabled) << "the ELF note or the parent said no";
  EXPECT_TRUE(decide(on, {}).enabled && decide(on, {}).every_free && decide(on, {}).asynchronous);
  EXPECT_TRUE(decide(off, {"_RUNTIME_REVOCATION_ENABLE"}).enabled);
  EXPECT_FALSE(decide(on, {"_RUNTIME_REVOCATION_DISABLE"}).enabled);
  EXPECT_FALSE(decide(on, {"_RUNTIME_REVOCATION_DISABLE", "_RUNTIME_REVOCATION_ENABLE"}).enabled);
  EXPECT_TRUE(decide(off, {"_RUNTIME_REVOCATION_EVERY_FREE_ENABLE"}).every_free);
  EXPECT_FALSE(decide(on, {"_RUNTIME_REVOCATION_EVERY_FREE_DISABLE"}).every_free);
  EXPECT_TRUE(decide(off, {"_RUNTIME_REVOCATION_ASYNC_REVOKE"}).asynchronous);
  EXPECT_FALSE(decide(on, {"_RUNTIME_REVOCATION_SYNC_REVOKE"}).asynchronous);
  // A program with more authority than its user does not listen to the user's environment.
  EXPECT_TRUE(decide(on, {"_RUNTIME_REVOCATION_DISABLE"}, true).enabled);
  EXPECT_FALSE(decide(off, {"_RUNTIME_REVOCATION_ENABLE"}, true).enabled);
}

TEST(Setting, QuarantineIsAPartOfTheWholeHeap) {
  const auto decide = [](const char* above, const char* below, bool privileged = false) {
    return decide_percent(privileged, [&](std::string_view name) {
      return name == "_RUNTIME_QUARANTINE_NUMERATOR"     ? above
             : name == "_RUNTIME_QUARANTINE_DENOMINATOR" ? below
                                                         : nullptr;
    });
  };
  EXPECT_EQ(decide(nullptr, nullptr), 0u) << "the option stays as it is";
  EXPECT_EQ(decide("1", "4"), 33u) << "a quarter of all is a third of what is live";
  EXPECT_EQ(decide(nullptr, "2"), 100u);
  EXPECT_EQ(decide("2", nullptr), 100u);
  EXPECT_EQ(decide("1", "256"), 1u);
  EXPECT_EQ(decide("255", "256"), 10'000u);
  EXPECT_EQ(decide("4", "4"), 10'000u);
  EXPECT_EQ(decide("9", "4"), 10'000u);
  for (const char* wrong : {"", "0", "257", "-1", "1x", "x", " 1", "99999999999999999999"}) {
    EXPECT_EQ(decide(wrong, "4"), 0u) << wrong;
    EXPECT_EQ(decide("1", wrong), 0u) << wrong;
  }
  EXPECT_EQ(decide("1", "2", true), 0u) << "more authority than the user has";
}

class Backend : public testing::Test {
 protected:
  void TearDown() override { expect_sound(world); }
  using Log = std::vector<std::string>;
  World world;
  Log log;
};

TEST_F(Backend, KeepsTheOrder) {
  world.release(0, world.allocate(0, 40));
  world.kernel.log = &log;
  EXPECT_EQ(world.revoke(), SweepResult::done);
  EXPECT_EQ(log, (Log{"paint", "fence", "epoch", "revoke", "unpaint", "release fence"}));
}

TEST_F(Backend, ReleasesAfterAllOfIt) {
  const Capability c = world.allocate(0, 40);
  world.release(0, c);
  const Granule granule = world.heap.space().granule(c.address);
  Log seen;
  world.at_point = [&](std::string_view where) {
    EXPECT_FALSE(world.heap.heap().is_free(granule)) << where;
    seen.emplace_back(where);
  };
  EXPECT_EQ(world.revoke(), SweepResult::done);
  world.at_point = nullptr;
  EXPECT_TRUE(world.heap.heap().is_free(granule));
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(seen.back(), "release fence") << "the last that the kernel is asked for";
}

TEST_F(Backend, TellsWhetherItRevokesNotWhetherItIsAtIt) {
  EXPECT_TRUE(world.heap.tells_revoking());
  EXPECT_FALSE(world.heap.revoking());
  world.release(0, world.allocate(0, 40));
  world.at_point = [&](std::string_view) {
    EXPECT_TRUE(world.heap.tells_revoking() && world.heap.revoking());
  };
  EXPECT_EQ(world.revoke(), SweepResult::done);
  world.at_point = nullptr;
  world.revoker.set({.enabled = false});
  EXPECT_FALSE(world.heap.tells_revoking());
  EXPECT_EQ(world.revoke(), SweepResult::nothing);
}

TEST_F(Backend, RevokeBeforeAnyFreeDoesNothing) {
  world.kernel.log = &log;
  EXPECT_EQ(world.revoke(), SweepResult::nothing);
  EXPECT_EQ(log, Log{});
}

TEST_F(Backend, PaintsConsolidatedRuns) {
  // Neighbours that are freed are painted together, whatever the order they were freed in.
  std::vector<Capability> all;
  for (int i = 0; i < 100; ++i) all.push_back(world.allocate(0, 100));
  for (size_t i = 0; i < all.size(); i += 2) world.release(0, all[i]);
  for (size_t i = 1; i < all.size(); i += 2) world.release(0, all[i]);
  unsigned paints = 0;
  world.at_point = [&](std::string_view where) { paints += where == "paint"; };
  EXPECT_EQ(world.revoke(), SweepResult::done);
  EXPECT_LE(paints, 4u) << "of 100 chunks: one for each run that the thread carved them from";
  EXPECT_GE(paints, 1u);
}

TEST_F(Backend, WaitsOutARevocationThatWasUnderWay) {
  world.release(0, world.allocate(0, 40));
  world.machine.begin_revocation();
  EXPECT_EQ(world.revoke(), SweepResult::done);
  EXPECT_EQ(world.machine.epoch(), 4u) << "the one under way, and a whole one";
}

TEST_F(Backend, ReleasesNothingWhenRefused) {
  const Capability c = world.allocate(0, 40);
  world.machine.registers(0)[0] = c;
  world.release(0, c);
  world.kernel.refuse = 1;
  EXPECT_EQ(world.revoke(), SweepResult::retry);
  EXPECT_TRUE(world.machine.registers(0)[0].tag);
  EXPECT_FALSE(world.heap.heap().is_free(world.heap.space().granule(c.address)));
  EXPECT_EQ(world.revoke(), SweepResult::done);
  EXPECT_FALSE(world.machine.registers(0)[0].tag);
  EXPECT_TRUE(world.heap.heap().is_free(world.heap.space().granule(c.address)));
}

TEST_F(Backend, WithoutAKernelNothingIsReused) {
  world.kernel.present = false;
  const Capability c = world.allocate(0, 40);
  world.release(0, c);
  EXPECT_EQ(world.revoke(), SweepResult::blind);
  for (int i = 0; i < 10'000; ++i) EXPECT_NE(world.allocate(0, 40).address, c.address);
}

TEST_F(Backend, SwitchedOffNothingIsRevoked) {
  world.revoker.set({.enabled = false, .every_free = true});
  EXPECT_FALSE(world.revoker.enabled());
  const Capability c = world.allocate(0, 40);
  world.release(0, c);
  EXPECT_EQ(world.revoke(), SweepResult::done);
  EXPECT_EQ(world.kernel.calls, 0u);
  EXPECT_TRUE(world.heap.heap().is_free(world.heap.space().granule(c.address)));
}

TEST_F(Backend, EveryFreeRevokesAtOnce) {
  for (const bool asynchronous : {false, true}) {
    SCOPED_TRACE(asynchronous ? "asynchronous" : "synchronous");
    world.revoker.set({.every_free = true, .asynchronous = asynchronous});
    for (const size_t size : {size_t{40}, size_t{5000}, size_t{100'000}}) {
      Capability& held = world.machine.registers(0)[0];
      held = world.allocate(0, size);
      world.release(0, held);
      EXPECT_FALSE(held.tag) << size;
      held = world.allocate(0, size);
      const Capability moved = world.reallocate(0, held, size * 3);
      EXPECT_TRUE(!held.tag || moved.address == held.address) << size;
      world.release(0, moved);
    }
    EXPECT_TRUE(world.machine.shadow_clear());
  }
}

class Generations : public testing::Test {
 protected:
  static WorldConfig config() {
    WorldConfig config;
    config.asynchronous = true;
    config.sweep_at = 160 << 10;
    return config;
  }
  void TearDown() override {
    world.check_reachable("at the end");
    expect_sound(world);
  }
  // Frees until the heap has asked the kernel `times` more.
  void work(uint64_t times) {
    const uint64_t until = world.kernel.begun + times;
    while (world.kernel.begun < until) world.release(0, world.allocate(0, 900));
  }
  bool is_free(const Capability& c) {
    return world.heap.heap().is_free(world.heap.space().granule(c.address));
  }
  World world{config()};
};

// Neither generation's paint may reach the kernel after its epoch was read, nor the older's unpainting after
// its memory was handed out.
TEST_F(Generations, KeepsTheOrder) {
  std::vector<std::string> log;
  world.kernel.log = &log;
  work(1);
  EXPECT_EQ(log, (std::vector<std::string>{"paint", "fence", "epoch", "revoke"}));
  while (world.machine.open()) world.machine.advance_revocation();
  log.clear();
  work(1);
  EXPECT_EQ(log, (std::vector<std::string>{"unpaint", "release fence", "paint", "fence", "epoch", "revoke"}));
  world.kernel.log = nullptr;
}

TEST_F(Generations, TheOlderIsReleasedWhileTheYoungerWaits) {
  Capability& older = world.machine.registers(0)[0];
  Capability& younger = world.machine.registers(0)[1];
  const Capability first = world.allocate(0, 50), second = world.allocate(0, 50);
  older = first;
  younger = second;
  EXPECT_FALSE(world.heap.revoking());
  world.release(0, first);
  work(1);
  EXPECT_TRUE(world.heap.revoking());
  EXPECT_TRUE(world.machine.open()) << "begun, and not waited for";
  EXPECT_FALSE(is_free(first));
  world.release(0, second);
  while (world.machine.open()) world.machine.advance_revocation();
  EXPECT_FALSE(older.tag);
  EXPECT_TRUE(younger.tag) << "freed after the painting";
  EXPECT_FALSE(is_free(first)) << "nobody has looked yet";
  work(1);
  EXPECT_TRUE(is_free(first));
  EXPECT_FALSE(is_free(second)) << "the younger generation is painted now";
  EXPECT_TRUE(world.machine.shadow_bit(second.address));
  EXPECT_FALSE(world.machine.shadow_bit(first.address));
  while (world.machine.open()) world.machine.advance_revocation();
  EXPECT_FALSE(younger.tag);
  work(1);
  EXPECT_TRUE(is_free(second));
}

TEST_F(Generations, ARequestToWaitTakesBoth) {
  const Capability first = world.allocate(0, 50), second = world.allocate(0, 50);
  world.release(0, first);
  work(1);
  world.release(0, second);
  EXPECT_EQ(world.revoke(), SweepResult::done);
  EXPECT_TRUE(is_free(first));
  EXPECT_TRUE(is_free(second));
  EXPECT_FALSE(world.heap.revoking());
  EXPECT_TRUE(world.machine.shadow_clear());
}

TEST_F(Generations, SwitchedOffMeanwhileLeavesNoPaint) {
  Capability& held = world.machine.registers(0)[0];
  held = world.allocate(0, 50);
  world.release(0, held);
  work(1);
  EXPECT_FALSE(world.machine.shadow_clear());
  world.revoker.set({.enabled = false, .asynchronous = true});
  EXPECT_EQ(world.revoke(), SweepResult::done);
  EXPECT_TRUE(world.machine.shadow_clear());
  EXPECT_FALSE(held.tag);
  const uint64_t calls = world.kernel.calls;
  world.release(0, world.allocate(0, 50));
  EXPECT_EQ(world.revoke(), SweepResult::done);
  EXPECT_EQ(world.kernel.calls, calls) << "from now on nothing is asked of the kernel";
}

TEST_F(Generations, AForksChildBeginsAnew) {
  const Capability first = world.allocate(0, 50);
  world.release(0, first);
  work(1);
  world.heap.before_fork();
  world.heap.after_fork_in_child(world.fronts[0]);
  EXPECT_FALSE(world.heap.revoking());
  EXPECT_FALSE(is_free(first));
  EXPECT_EQ(world.revoke(), SweepResult::done);
  EXPECT_TRUE(is_free(first));
}

TEST_F(Generations, WhoOutrunsTheKernelWaits) {
  // The kernel never gets on by itself; quarantine stays bounded all the same.
  for (int i = 0; i < 5000; ++i) {
    world.release(0, world.allocate(0, 900));
    nonreuse_statistics figures;
    world.heap.statistics(figures);
    ASSERT_LT(figures.quarantined_bytes + figures.held_bytes, 4u * (160 << 10) + (128 << 10));
  }
}

}  // namespace
}  // namespace nonreuse::sim
