// Millions of random steps on every kind of machine: no capability that a program can come to hold ever
// covers memory that somebody else was given since; bounds are exact; nothing is left in memory that is
// handed out.
#include "program.hpp"

namespace nonreuse::sim {
namespace {

struct Setting {
  const char* name;
  Format format;
  bool load_barrier, take_tags, asynchronous;
  uint64_t sweep_at;
  RevocationEpoch first_epoch;
};
constexpr uint64_t kOnRequest = uint64_t{1} << 30;
constexpr RevocationEpoch kBeforeWrap = (RevocationEpoch{1} << kEpochBits) - 6;
constexpr Setting kSettings[] = {
    {"barrier", kCc128, true, true, false, kOnRequest, 0},
    {"stopped", kCc128, false, true, false, kOnRequest, kBeforeWrap},
    {"barrier_permissions", kMorello, true, false, false, 320 << 10, kBeforeWrap},
    {"stopped_permissions", kMorello, false, false, false, 320 << 10, 0},
    {"barrier_two_generations", kCc128, true, true, true, 160 << 10, kBeforeWrap},
    {"stopped_two_generations", kCc128, false, true, true, 160 << 10, 0},
    {"barrier_permissions_two_generations", kMorello, true, false, true, 160 << 10, 0},
};

class Random : public testing::TestWithParam<Setting> {};

TEST_P(Random, NoCapabilityCoversReusedMemory) {
  const Setting& s = GetParam();
  WorldConfig config;
  config.machine = {.format = s.format,
                    .load_barrier = s.load_barrier,
                    .take_tags = s.take_tags,
                    .first_epoch = s.first_epoch};
  config.asynchronous = s.asynchronous;
  config.sweep_at = s.sweep_at;
  const char* text = getenv("NONREUSE_TEST_SEED");
  const uint64_t seed = text == nullptr ? 7 : strtoull(text, nullptr, 10);
  World world(config);
  Program<World> program(world, seed, s.asynchronous ? 20'000 : 400);
  program.run(300'000);
  expect_sound(world);
  world.revoke();
  EXPECT_TRUE(world.machine.shadow_clear());
  world.heap.check();
  nonreuse_statistics figures;
  world.heap.statistics(figures);
  EXPECT_GT(figures.released_bytes, figures.freed_bytes / 2) << "memory is reused";
  EXPECT_GT(program.dangling_stores, 10'000u);
  EXPECT_GT(program.beside_steps, s.asynchronous ? 3'000u : 10'000u);
  EXPECT_EQ(world.kernel.begun > 100, s.asynchronous) << world.kernel.begun;
  RecordProperty("seed", static_cast<int>(seed));
  printf(
      "%s: %llu steps, %llu inside revocations; %zu allocations, %llu sweeps, %llu loads, %llu stores "
      "through dangling capabilities\n",
      s.name, static_cast<unsigned long long>(program.steps),
      static_cast<unsigned long long>(program.beside_steps), world.allocated(),
      static_cast<unsigned long long>(figures.sweeps), static_cast<unsigned long long>(program.loads),
      static_cast<unsigned long long>(program.dangling_stores));
}

INSTANTIATE_TEST_SUITE_P(On, Random, testing::ValuesIn(kSettings),
                         [](const auto& which) { return which.param.name; });

}  // namespace
}  // namespace nonreuse::sim
