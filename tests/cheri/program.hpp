// A program that does everything a program may do, at random: allocates, frees, resizes, copies capabilities
// about in registers, static data and heap, narrows them, and goes on using them after it has freed what they
// cover. While one thread is inside the allocator's revocation, the others and the kernel go on at every call
// that the backend makes.
#pragma once

#include <algorithm>
#include <random>
#include <string_view>

#include "world.hpp"

namespace nonreuse::sim {

template <class W>
class Program {
 public:
  // Every `request`-th step or so is a malloc_revoke(), which waits.
  Program(W& world, uint64_t seed, unsigned request = 400)
      : world_(world), random_(seed), sweep_at_(world.config().sweep_at), request_(request) {
    world_.at_point = [this](std::string_view where) { beside(where); };
  }
  ~Program() { world_.at_point = nullptr; }

  uint64_t steps = 0, revocations = 0, beside_steps = 0, loads = 0, dangling_stores = 0;

  // Runs `count` steps, or until a rule is broken.
  void run(uint64_t count) {
    for (uint64_t i = 0; i < count && world_.violations.empty(); ++i) {
      const unsigned thread = below(world_.machine.threads());
      if (one_in(request_)) {
        world_.revoke();
        ++revocations;
        world_.check_reachable("after a revocation");
      } else {
        step(thread);
      }
      if (i % 4096 == 0) world_.check_reachable("between steps");
    }
    world_.check_reachable("after the last step");
  }

  unsigned below(size_t limit) { return static_cast<unsigned>(random_() % limit); }
  bool one_in(unsigned n) { return below(n) == 0; }

 private:
  static constexpr size_t kLiveMost = 160;

  // What runs at a point inside a revocation.
  void beside(std::string_view where) {
    if (nested_) return;
    nested_ = true;
    // The tightest moments: somebody else's revocation begins between painting and labelling.
    const bool tight = where == "fence" || where == "epoch";
    if (tight && one_in(4) && !world_.machine.open()) world_.machine.begin_revocation();
    const uint64_t pending = [&] {
      nonreuse_statistics figures;
      world_.heap.statistics(figures);
      return figures.quarantined_bytes;
    }();
    // A free must not wait for the revocation that it interrupts.
    const uint64_t most = 2 * sweep_at_, margin = 256 << 10;
    may_free_ = pending + margin < most ? most - margin - pending : 0;
    for (unsigned left = below(3); left > 0; --left) {
      step(below(world_.machine.threads()));
      ++beside_steps;
    }
    nested_ = false;
  }

  void step(unsigned thread) {
    ++steps;
    const unsigned what = below(nested_ ? 115 : 100);
    if (what < 16)
      allocate(thread);
    else if (what < 31)
      release(thread);
    else if (what < 36)
      resize(thread);
    else if (what < 56)
      store(thread);
    else if (what < 78)
      load(thread);
    else if (what < 84)
      narrow(thread);
    else if (what < 90)
      copy_register(thread);
    else if (what < 94)
      store_data(thread);
    else
      kernel();
  }

  size_t size() {
    const unsigned kind = below(100);
    if (kind < 70) return below(200);
    if (kind < 92) return below(2000);
    if (kind < 99) return below(20'000);
    return below(150'000);
  }

  Capability& any_register(unsigned thread) {
    return world_.machine.registers(thread)[below(Machine::kRegisters)];
  }

  void allocate(unsigned thread) {
    if (live_.size() >= kLiveMost) return release(thread);
    const Capability c = one_in(8) ? world_.allocate_aligned(thread, size_t{16} << below(6), size())
                                   : world_.allocate(thread, size());
    if (!c.tag) return;
    live_.push_back(c.ghost);
    any_register(thread) = c;
  }

  void release(unsigned thread) {
    if (live_.empty()) return;
    const size_t at = below(live_.size());
    const Capability c = world_.allocation(live_[at]).given;
    if (!afford(c)) return;
    std::swap(live_[at], live_.back());
    live_.pop_back();
    any_register(thread) = c;  // dangling from now on
    if (one_in(2)) world_.machine.store(place(thread), c);
    world_.release(thread, c);
  }

  void resize(unsigned thread) {
    if (live_.empty()) return;
    const size_t at = below(live_.size());
    const Capability c = world_.allocation(live_[at]).given;
    const size_t old = static_cast<size_t>(c.bounds.length());
    if (!afford(c)) return;
    const size_t wanted = one_in(2) ? size() : old + below(64) - std::min<size_t>(old, 32);
    std::swap(live_[at], live_.back());  // nobody else may free it meanwhile
    live_.pop_back();
    any_register(thread) = c;  // from now on dangling, or less or more than was given last
    const Capability result = world_.reallocate(thread, c, wanted);
    live_.push_back(result.tag ? result.ghost : c.ghost);
    if (result.tag) any_register(thread) = result;
  }

  bool afford(const Capability& c) {
    const uint64_t bytes = static_cast<uint64_t>(c.bounds.length()) + 64;
    if (!nested_) return true;
    if (bytes > may_free_) return false;
    may_free_ -= bytes;
    return true;
  }

  // A capability to a place that may hold a capability: in static data or through any register.
  Capability place(unsigned thread) {
    Capability c = one_in(4) ? world_.machine.globals() : any_register(thread);
    const uint64_t base = align_up(c.bounds.base, kGranule);
    const uint64_t slots = static_cast<uint64_t>(c.bounds.top) / kGranule - base / kGranule;
    if (!c.usable() || slots == 0 || static_cast<uint64_t>(c.bounds.top) < base) return {};
    // Few places of each, so that what is stored is found again.
    return c.with_address(world_.machine.format(), base + below(std::min<uint64_t>(slots, 12)) * kGranule);
  }

  void store(unsigned thread) {
    const Capability to = place(thread);
    Capability value = any_register(thread);
    for (int i = 0; i < 4 && !value.usable(); ++i) value = any_register(thread);
    if (to.ghost != 0 && to.usable() && !world_.allocation(to.ghost).live) ++dangling_stores;
    world_.machine.store(to, value);
  }

  void load(unsigned thread) {
    Capability c;
    if (!world_.machine.load(place(thread), c)) return;
    ++loads;
    world_.check_held(c, "loaded");
    if (c.usable() || one_in(16)) any_register(thread) = c;
  }

  void store_data(unsigned thread) {
    Capability to = place(thread);
    if (to.usable()) world_.machine.store_data(to, random_(), 8);
  }

  void narrow(unsigned thread) {
    Capability& c = any_register(thread);
    const uint64_t length = static_cast<uint64_t>(c.bounds.length());
    if (!c.usable() || length < 2) return;
    const uint64_t from = below(length);
    const Capability part = c.with_address(world_.machine.format(), c.bounds.base + from)
                                .with_bounds(world_.machine.format(), below(length - from + 1));
    if (part.tag) c = part;
    world_.check_held(c, "narrowed");
  }

  void copy_register(unsigned thread) {
    const Capability c = any_register(thread);
    world_.check_held(c, "in a register");
    any_register(below(world_.machine.threads())) = c;  // also from thread to thread
  }

  // The kernel's own thread, another program's call of cheri_revoke(), or the store buffer.
  void kernel() {
    Machine& machine = world_.machine;
    if (machine.buffered() && one_in(2)) return machine.drain_one();
    if (machine.open())
      machine.advance_revocation();
    else if (one_in(nested_ ? 2 : 8))
      machine.begin_revocation();
  }

  W& world_;
  std::mt19937_64 random_;
  uint64_t sweep_at_, may_free_ = 0;
  unsigned request_;
  bool nested_ = false;
  std::vector<uint32_t> live_;
};

}  // namespace nonreuse::sim
