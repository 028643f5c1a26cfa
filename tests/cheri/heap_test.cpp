// The heap on the software machine, one thread, step by step.
#include "world.hpp"

namespace nonreuse::sim {
namespace {

struct Machines {
  const char* name;
  Format format;
  bool load_barrier, take_tags, asynchronous;
};
constexpr Machines kMachines[] = {
    {"cc128_barrier_tags", kCc128, true, true, false},
    {"cc128_stopped_permissions", kCc128, false, false, false},
    {"morello_barrier_permissions_async", kMorello, true, false, true},
    {"morello_stopped_tags_async", kMorello, false, true, true},
};

class OnMachine : public testing::TestWithParam<Machines> {
 protected:
  static WorldConfig config() {
    const Machines& m = GetParam();
    WorldConfig config;
    config.machine.format = m.format;
    config.machine.load_barrier = m.load_barrier;
    config.machine.take_tags = m.take_tags;
    config.asynchronous = m.asynchronous;
    return config;
  }
  void TearDown() override {
    world.heap.check();
    world.check_reachable("at the end");
    expect_sound(world);
  }
  World world{config()};
};

// What the model proves of the heap's own tables rests on this: an address is no pointer, and authority ends.
TEST(MachineDeathTest, AddressesAreNoPointers) {
  World world;
  const Capability c = world.allocate(0, 100);
  for (const Address at : {world.machine.claim_base(), c.address, world.heap.space().tables().begin}) {
    EXPECT_DEATH(*reinterpret_cast<volatile char*>(at) = 1, "");
    *static_cast<volatile char*>(world.machine.pointer(at)) = 0;
  }
  EXPECT_DEATH(world.machine.pointer(world.machine.claim_base() - 1), "points outside of its claim");
  EXPECT_DEATH(world.machine.pointer(world.heap.space().tables().end), "points outside of its claim");
}

constexpr size_t kSizes[] = {0,     1,     7,     8,     15,    16,    17,    24,   31,   32,
                             33,    63,    64,    65,    100,   127,   128,   255,  256,  500,
                             512,   991,   992,   1000,  1024,  2000,  4095,  4096, 5000, 8191,
                             10000, 16384, 20000, 32768, 50000, 65536, 100001};
static_assert(std::size(kSizes) == 37);

// The ancestor's own test: capabilities of many sizes in memory, every second freed; after a revocation
// exactly those are dead.
class ThirtySevenSizes : public OnMachine {
 protected:
  // A capability to each allocation is kept in memory of the heap, and nowhere else.
  void run(const std::function<Capability(size_t)>& make) {
    const Capability table = world.allocate(0, std::size(kSizes) * kGranule);
    const auto slot = [&](size_t i) {
      return table.with_address(world.machine.format(), table.address + i * kGranule);
    };
    for (size_t i = 0; i < std::size(kSizes); ++i) {
      const Capability c = make(kSizes[i]);
      ASSERT_TRUE(c.tag) << kSizes[i];
      ASSERT_TRUE(world.machine.store(slot(i), c));
    }
    for (size_t i = 0; i < std::size(kSizes); i += 2) {
      Capability c;
      ASSERT_TRUE(world.machine.load(slot(i), c));
      world.release(0, c);
    }
    ASSERT_EQ(world.revoke(), SweepResult::done);
    for (size_t i = 0; i < std::size(kSizes); ++i) {
      Capability c;
      ASSERT_TRUE(world.machine.load(slot(i), c));
      EXPECT_EQ(world.fully_revoked(c), i % 2 == 0) << kSizes[i];
    }
    EXPECT_TRUE(world.machine.shadow_clear());
  }
};

TEST_P(ThirtySevenSizes, Malloc) {
  run([&](size_t size) { return world.allocate(0, size); });
}

TEST_P(ThirtySevenSizes, Calloc) {
  run([&](size_t size) {
    const Capability c = world.allocate(0, size);  // malloc's memory is zero: calloc is malloc
    for (size_t i = 0; i < size; ++i) {
      uint64_t byte = 1;
      EXPECT_TRUE(world.machine.load_data(c.with_address(world.machine.format(), c.address + i), byte, 1));
      if (byte != 0) {
        ADD_FAILURE() << "byte " << i << " of " << size;
        break;
      }
    }
    return c;
  });
}

TEST_P(ThirtySevenSizes, ReallocChain) {
  Capability chain = world.allocate(0, 3);
  run([&](size_t size) {
    // Through three other sizes to the one that is wanted; what was left behind on the way is dead, too.
    for (const size_t step : {size / 3 + 5, size * 2 + 40, size}) {
      const Capability before = chain;
      chain = world.reallocate(0, chain, step);
      EXPECT_TRUE(chain.tag);
      if (chain.address != before.address) world.machine.registers(1)[0] = before;
    }
    const Capability result = chain;
    chain = world.allocate(0, 3);
    return result;
  });
  EXPECT_TRUE(world.fully_revoked(world.machine.registers(1)[0]));
}

INSTANTIATE_TEST_SUITE_P(Sizes, ThirtySevenSizes, testing::ValuesIn(kMachines),
                         [](const auto& which) { return which.param.name; });

}  // namespace
}  // namespace nonreuse::sim
