// Small scenarios in every order. A run is decided by a list of choices, taken at each point where something
// else could run; the explorer repeats the scenario until all lists are used up.
#include "world.hpp"

namespace nonreuse::sim {
namespace {

// The choices of one run, and the next run's.
class Choices {
 public:
  unsigned choose(unsigned ways) {
    if (at_ == made_.size()) made_.push_back({0, ways});
    return made_[at_++].first;
  }
  bool next() {
    at_ = 0;
    while (!made_.empty() && made_.back().first + 1 == made_.back().second) made_.pop_back();
    if (made_.empty()) return false;
    ++made_.back().first;
    return true;
  }

 private:
  std::vector<std::pair<unsigned, unsigned>> made_;
  size_t at_ = 0;
};

struct Case {
  const char* name;
  bool load_barrier, take_tags;
  unsigned moves, kernel_steps;  // at most so many of each in a run
};
constexpr Case kCases[] = {{"barrier_tags", true, true, 3, 2},
                           {"barrier_busy_kernel", true, false, 1, 3},
                           {"stopped_permissions", false, false, 2, 2}};

// One thread frees a chunk and revokes; another moves capabilities to it about; the kernel begins, sweeps and
// ends revocations on its own account, and takes paint out of the store buffer, whenever it likes.
class Scenario {
 public:
  Scenario(const Case& which, Choices& choices, Plant plant)
      : choices_(choices), which_(which), world_(config(which)) {
    world_.kernel.plant = plant;
  }

  std::string run() {
    Machine& machine = world_.machine;
    const Capability globals = machine.globals();
    const Capability box = world_.allocate(0, 64);  // swept after the globals, or before them
    slots_[0] = globals;
    slots_[1] = box;
    slots_[2] = globals.with_address(machine.format(), globals.address + Machine::kPage);
    victim_ = world_.allocate(0, 48);
    const Capability neighbour = world_.allocate(0, 48);
    machine.store(slots_[0], victim_);
    machine.registers(2)[0] = neighbour;
    world_.at_point = [this](std::string_view) { beside(); };
    beside();
    world_.release(0, victim_);
    world_.revoke();
    beside();
    world_.at_point = nullptr;
    world_.check_reachable("after the revocation");
    // Whoever has the memory next keeps it, through what the kernel has still under way and through a whole
    // revocation that nobody asked for.
    for (int i = 0; i < 150 && !reused_; ++i) {
      const Capability next = world_.allocate(0, 48);
      if (next.address != victim_.address) continue;
      reused_ = true;
      machine.registers(2)[1] = next;
    }
    while (machine.open()) machine.advance_revocation();
    machine.begin_revocation();
    while (machine.open()) machine.advance_revocation();
    world_.check_reachable("at the end");
    if (!reused_) world_.violate("the memory is not reused");
    if (!machine.registers(2)[0].usable()) world_.violate("the neighbour is dead");
    return world_.violations.empty() ? "" : world_.violations.front();
  }

 private:
  static WorldConfig config(const Case& which) {
    WorldConfig config;
    config.machine.load_barrier = which.load_barrier;
    config.machine.take_tags = which.take_tags;
    return config;
  }

  // Everything else that may happen at one point, each a bounded number of times in a run.
  void beside() {
    for (;;) {
      const bool moves = moved_ < which_.moves, kernel = kernel_ < which_.kernel_steps,
                 drain = world_.machine.buffered();
      unsigned choice = choices_.choose(1u + moves + kernel + drain);
      if (choice-- == 0) return;
      if (moves && choice-- == 0) {
        move();
      } else if (kernel && choice-- == 0) {
        ++kernel_;
        if (world_.machine.open())
          world_.machine.advance_revocation();
        else
          world_.machine.begin_revocation();
      } else {
        world_.machine.drain_one();
      }
    }
  }

  // The other thread: from static data into a register, into the heap, from there to another page.
  void move() {
    Machine& machine = world_.machine;
    Capability& held = machine.registers(1)[0];
    switch (moved_++) {
      case 0:
        machine.load(slots_[0], held);
        world_.check_held(held, "loaded from static data");
        break;
      case 1:
        machine.store(slots_[1], held);
        held = {};
        break;
      case 2:
        machine.load(slots_[1], held);
        world_.check_held(held, "loaded from the heap");
        machine.store(slots_[2], held);
        machine.store(slots_[0], Capability{});
        break;
    }
  }

  Choices& choices_;
  const Case& which_;
  World world_;
  Capability slots_[3], victim_;
  unsigned moved_ = 0, kernel_ = 0;
  bool reused_ = false;
};

// Two generations: an older chunk is with the kernel while a younger one is freed, and the heap never waits.
// Each large chunk that is freed makes the heap look; whoever asks for memory meanwhile must not get either
// too early.
class TwoGenerations {
 public:
  TwoGenerations(const Case& which, Choices& choices, Plant plant)
      : choices_(choices), which_(which), world_(config(which)) {
    world_.kernel.plant = plant;
  }

  std::string run() {
    Machine& machine = world_.machine;
    const Format& format = machine.format();
    const Capability globals = machine.globals();
    slots_[0] = globals;
    slots_[1] = globals.with_address(format, globals.address + Machine::kPage);
    const Capability older = world_.allocate(0, 48), neighbour = world_.allocate(0, 48);
    const Capability younger = world_.allocate(0, 48);
    Capability lumps[3];
    for (Capability& lump : lumps) lump = world_.allocate(0, kLump);
    machine.store(slots_[0], older);
    machine.store(slots_[1], younger);
    machine.registers(2)[0] = neighbour;
    world_.at_point = [this](std::string_view where) {
      if (where != "paint" && where != "unpaint") beside();  // the fences and the epoch are between them
    };
    world_.release(0, older);
    world_.release(0, lumps[0]);  // the older generation begins
    beside();
    world_.release(0, younger);
    world_.release(0, lumps[1]);  // the older one may be released, the younger begins
    reuse(older, younger);
    beside();
    world_.release(0, lumps[2]);  // the younger one may be released
    reuse(older, younger);
    world_.at_point = nullptr;
    world_.check_reachable("after the younger generation");
    world_.revoke();
    reuse(older, younger);
    while (machine.open()) machine.advance_revocation();
    machine.begin_revocation();
    while (machine.open()) machine.advance_revocation();
    world_.check_reachable("at the end");
    if (reused_ != 3) world_.violate("not all memory is reused");
    if (!machine.registers(2)[0].usable()) world_.violate("the neighbour is dead");
    if (world_.kernel.begun == 0) world_.violate("nothing was asynchronous");
    return world_.violations.empty() ? "" : world_.violations.front();
  }

 private:
  static constexpr size_t kLump = 40'000;
  static WorldConfig config(const Case& which) {
    WorldConfig config;
    config.machine.load_barrier = which.load_barrier;
    config.machine.take_tags = which.take_tags;
    config.asynchronous = true;
    config.sweep_at = kLump;  // one lump is enough, and three are needed for somebody to wait
    return config;
  }

  // Takes memory until there is what was given back, and keeps it.
  void reuse(const Capability& older, const Capability& younger) {
    for (int i = 0; i < 40 && reused_ != 3; ++i) {
      const Capability next = world_.allocate(0, 48);
      for (const unsigned which : {0u, 1u}) {
        if (next.address != (which == 0 ? older : younger).address) continue;
        reused_ |= 1u << which;
        world_.machine.registers(2)[1 + which] = next;
      }
    }
    world_.check_reachable("after reuse");
  }

  void beside() {
    for (;;) {
      const bool moves = moved_ < which_.moves, kernel = kernel_ < which_.kernel_steps,
                 drain = drained_ < 1 && world_.machine.buffered();
      unsigned choice = choices_.choose(1u + moves + kernel + drain);
      if (choice-- == 0) return;
      if (moves && choice-- == 0) {
        // The other thread loads what is in static data.
        Capability& held = world_.machine.registers(1)[moved_];
        world_.machine.load(slots_[moved_++], held);
        world_.check_held(held, "loaded from static data");
      } else if (kernel && choice-- == 0) {
        ++kernel_;
        if (world_.machine.open())
          world_.machine.advance_revocation();
        else
          world_.machine.begin_revocation();
      } else {
        ++drained_;
        world_.machine.drain_one();
      }
    }
  }

  Choices& choices_;
  const Case& which_;
  World world_;
  Capability slots_[2];
  unsigned moved_ = 0, kernel_ = 0, drained_ = 0, reused_ = 0;
};

struct Result {
  uint64_t orders = 0, bad = 0;
  std::string first;
};

template <class S>
Result explore(const Case& which, Plant plant, uint64_t most) {
  Result result;
  Choices choices;
  do {
    S scenario(which, choices, plant);
    const std::string violation = scenario.run();
    ++result.orders;
    if (!violation.empty() && result.bad++ == 0) result.first = violation;
  } while ((plant == Plant::none || result.bad == 0) && result.orders < most && choices.next());
  return result;
}

template <class S>
void expect_no_order_is_unsound(const Case& which, uint64_t most) {
  const Result result = explore<S>(which, Plant::none, most);
  EXPECT_EQ(result.bad, 0u) << result.first;
  EXPECT_LT(result.orders, most) << "all orders were tried";
  EXPECT_GT(result.orders, 1000u);
  printf("%s: %llu orders\n", which.name, static_cast<unsigned long long>(result.orders));
}

// A mistake in the order is found by some order of the same scenario.
template <class S>
void expect_mistake_is_found(const Case& which, Plant plant) {
  if (plant == Plant::one_epoch_short && !which.load_barrier) return;  // no mistake there
  const Result result = explore<S>(which, plant, 100'000);
  EXPECT_NE(result.first, "") << "mistake " << static_cast<int>(plant) << " in none of " << result.orders;
  printf("%s: mistake %d after %llu orders: %s\n", which.name, static_cast<int>(plant),
         static_cast<unsigned long long>(result.orders), result.first.c_str());
}

class Exhaustive : public testing::TestWithParam<Case> {};

TEST_P(Exhaustive, NoOrderIsUnsound) {
  expect_no_order_is_unsound<Scenario>(GetParam(), 1'000'000);
}

TEST_P(Exhaustive, MistakesAreFound) {
  for (const Plant plant :
       {Plant::paint_after_epoch, Plant::no_paint_fence, Plant::epoch_not_awaited, Plant::open_epoch_counts,
        Plant::one_epoch_short, Plant::unpaint_before_cleared, Plant::never_unpainted,
        Plant::unpaint_after_release, Plant::no_unpaint_fence, Plant::first_granule_missed}) {
    expect_mistake_is_found<Scenario>(GetParam(), plant);
  }
}

constexpr Case kGenerations[] = {{"barrier_two_generations", true, true, 1, 3},
                                 {"stopped_two_generations", false, false, 1, 2}};

class ExhaustiveGenerations : public testing::TestWithParam<Case> {};

TEST_P(ExhaustiveGenerations, NoOrderIsUnsound) {
  expect_no_order_is_unsound<TwoGenerations>(GetParam(), 20'000);
}

TEST_P(ExhaustiveGenerations, MistakesAreFound) {
  // A missing fence needs more writes to stay behind than these runs allow: it is found above, and at random.
  for (const Plant plant : {Plant::paint_after_epoch, Plant::epoch_not_awaited, Plant::open_epoch_counts,
                            Plant::one_epoch_short, Plant::unpaint_before_cleared, Plant::never_unpainted,
                            Plant::unpaint_after_release, Plant::first_granule_missed}) {
    // Takes thousands of orders behind a barrier, and fewer above.
    if (plant == Plant::paint_after_epoch && GetParam().load_barrier) continue;
    expect_mistake_is_found<TwoGenerations>(GetParam(), plant);
  }
}

INSTANTIATE_TEST_SUITE_P(On, ExhaustiveGenerations, testing::ValuesIn(kGenerations),
                         [](const auto& which) { return which.param.name; });

INSTANTIATE_TEST_SUITE_P(On, Exhaustive, testing::ValuesIn(kCases),
                         [](const auto& which) { return which.param.name; });

}  // namespace
}  // namespace nonreuse::sim
