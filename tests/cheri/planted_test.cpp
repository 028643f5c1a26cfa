// Every mistake in the order of painting, and every lapse of the machine or the heap's seam, planted one by
// one: the random program must notice each, on every kind of machine where it is a mistake at all. Without a
// mistake the same runs notice nothing.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "program.hpp"

namespace nonreuse::sim {
namespace {

struct Kind {
  const char* name;
  bool load_barrier, asynchronous;
};
constexpr Kind kKinds[] = {{"barrier", true, false},
                           {"stopped", false, false},
                           {"barrier_async", true, true},
                           {"stopped_async", false, true}};

WorldConfig config_of(const Kind& kind) {
  WorldConfig config;
  config.machine.load_barrier = kind.load_barrier;
  config.asynchronous = kind.asynchronous;
  config.sweep_at = kind.asynchronous ? 160 << 10 : 320 << 10;
  return config;
}

constexpr uint64_t kSeeds = 80, kSteps = 20'000;

// The first violation that any of the seeds shows, and how many steps it took; empty: none. In a process of
// its own: broken far enough, the heap notices by itself and stops the program, which is as good.
template <class W, class Break>
std::string first_violation(const Kind& kind, Break&& plant, uint64_t seeds = kSeeds) {
  int ends[2];
  if (pipe(ends) != 0) return "";
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    for (uint64_t seed = 1; seed <= seeds; ++seed) {
      W world(config_of(kind));
      plant(world);
      Program<W> program(world, seed, kind.asynchronous ? 20'000 : 400);
      program.run(kSteps);
      if (world.violations.empty()) continue;
      dprintf(STDERR_FILENO, "%s (seed %d, step %d)", world.violations.front().c_str(),
              static_cast<int>(seed), static_cast<int>(program.steps));
      break;
    }
    _exit(0);
  }
  close(ends[1]);
  std::string found;
  char text[512];
  for (ssize_t n; (n = read(ends[0], text, sizeof text)) > 0;) found.append(text, static_cast<size_t>(n));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (!WIFEXITED(status) && WTERMSIG(status) != SIGABRT) ADD_FAILURE() << "signal " << WTERMSIG(status);
  return found;
}

struct Mistake {
  const char* name;
  Plant plant;
  bool needs_barrier = false;  // where the world stops for all of it, this is no mistake
};
constexpr Mistake kMistakes[] = {
    {"paint_after_epoch", Plant::paint_after_epoch},
    {"no_paint_fence", Plant::no_paint_fence},
    {"epoch_not_awaited", Plant::epoch_not_awaited},
    {"open_epoch_counts", Plant::open_epoch_counts},
    {"one_epoch_short", Plant::one_epoch_short, true},
    {"unpaint_before_cleared", Plant::unpaint_before_cleared},
    {"never_unpainted", Plant::never_unpainted},
    {"unpaint_after_release", Plant::unpaint_after_release},
    {"no_unpaint_fence", Plant::no_unpaint_fence},
    {"first_granule_missed", Plant::first_granule_missed},
    {"last_granule_missed", Plant::last_granule_missed},
    {"only_first_granule", Plant::only_first_granule},
    {"one_granule_too_many", Plant::one_granule_too_many},
    {"one_run_missed", Plant::one_run_missed},
};

class Planted : public testing::TestWithParam<std::tuple<Mistake, Kind>> {};

TEST_P(Planted, IsCaught) {
  const auto& [mistake, kind] = GetParam();
  if (mistake.needs_barrier && !kind.load_barrier) {
    GTEST_SKIP() << "no mistake where the world stops for the whole revocation";
  }
  const std::string found =
      first_violation<World>(kind, [m = mistake.plant](World& world) { world.kernel.plant = m; });
  EXPECT_NE(found, "") << "nobody noticed " << mistake.name << " on " << kind.name;
  printf("%s on %s: %s\n", mistake.name, kind.name, found.c_str());
}

INSTANTIATE_TEST_SUITE_P(Order, Planted,
                         testing::Combine(testing::ValuesIn(kMistakes), testing::ValuesIn(kKinds)),
                         [](const auto& which) {
                           return std::string(std::get<0>(which.param).name) + "_on_" +
                                  std::get<1>(which.param).name;
                         });

// 640 thousand steps that plant nothing.
TEST(Planted, NothingIsNotNoticed) {
  for (const Kind& kind : kKinds) {
    EXPECT_EQ(first_violation<World>(
                  kind, [](World&) {}, 8),
              "")
        << kind.name;
  }
}

struct Lapse {
  const char* name;
  bool MachinePlants::*flag;
  bool needs_barrier;
};
constexpr Lapse kLapses[] = {
    {"exempt_payloads", &MachinePlants::exempt_payloads, false},
    {"loose_bounds", &MachinePlants::loose_bounds, false},
    {"nothing_zeroed", &MachinePlants::nothing_zeroed, false},
    {"registers_missed", &MachinePlants::registers_missed, false},
    {"copy_past_barrier", &MachinePlants::copy_past_barrier, true},
};

TEST(Planted, LapsesOfTheMachineAreCaught) {
  for (const Lapse& lapse : kLapses) {
    for (const Kind& kind : kKinds) {
      if (lapse.needs_barrier && !kind.load_barrier) continue;
      const std::string found =
          first_violation<World>(kind, [&](World& world) { world.machine.plants.*lapse.flag = true; });
      EXPECT_NE(found, "") << "nobody noticed " << lapse.name << " on " << kind.name;
      printf("%s on %s: %s\n", lapse.name, kind.name, found.c_str());
    }
  }
}

// A realloc that cuts off a chunk's end and gives it back: the old capability covers it and is never revoked.
class ShrinkingMachine : public Machine {
 public:
  using Machine::Machine;
  struct Pointers : Machine::Pointers {
    using Machine::Pointers::CapabilityPointers;
    static constexpr bool kMayShrink = true;
  };
};

// Whether the end that a realloc gave up is handed out while the old capability still covers it.
template <class W>
std::string shrink_and_reuse(const Kind& kind) {
  W world(config_of(kind));
  const Capability old = world.allocate(0, 4000);
  world.machine.registers(1)[0] = old;
  world.reallocate(0, old, 40);
  world.revoke();
  for (int i = 0; i < 2000; ++i) world.allocate(0, 30);
  world.check_reachable("after the realloc");
  return world.violations.empty() ? "" : world.violations.front();
}

TEST(Planted, ShrinkingInPlaceIsCaught) {
  for (const Kind& kind : kKinds) {
    EXPECT_EQ(shrink_and_reuse<World>(kind), "") << kind.name;
    EXPECT_NE(shrink_and_reuse<WorldOf<ShrinkingMachine>>(kind), "") << kind.name;
  }
}

}  // namespace
}  // namespace nonreuse::sim
