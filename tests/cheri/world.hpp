// The real heap, quarantine, allocator and CHERI backend on the software machine, and the book of what was
// handed out to whom, against which every step is checked. What breaks a rule is a violation, kept as text:
// tests expect none, and with a mistake planted at least one.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "front/allocator.hpp"
#include "kernel.hpp"
#include "recycled_memory.hpp"
#include "revoke/cheri.hpp"

namespace nonreuse::sim {

struct WorldConfig {
  MachineConfig machine;
  bool asynchronous = false;
  uint64_t sweep_at = uint64_t{1} << 30;  // bytes in quarantine at which the heap revokes by itself
  uint64_t unmap = 64 << 10;
};

template <class M = Machine, class K = Kernel>
class WorldOf : public Listener {
 public:
  using Heap = Allocator<M, CheriRevoker<K>>;
  using Wild = typename Heap::Wild;
  static constexpr size_t kNoSize = ~size_t{0};

  explicit WorldOf(const WorldConfig& config = {})
      : machine(config.machine),
        kernel(machine),
        revoker(kernel),
        heap(machine, revoker),
        config_(config),
        owners_(align_up(config.machine.claim / kGranule * sizeof(uint32_t), Machine::kPage)) {
    revoker.set({.asynchronous = config.asynchronous});
    Options options{};
    options.percent = 1;
    options.min = config.sweep_at;
    options.unmap = config.unmap;
    options.sweep = true;
    if (!heap.init(options)) abort();
    for (unsigned i = 0; i < machine.threads(); ++i) fronts.push_back(heap.make_front());
    machine.listener = this;
    allocations_.emplace_back();
  }

  M machine;
  K kernel;
  CheriRevoker<K> revoker;
  Heap heap;
  std::vector<ThreadFront*> fronts;
  std::vector<std::string> violations;

  struct Allocation {
    Capability given;
    size_t size = 0;
    bool live = false, moving = false;
    bool revoked = false;  // no capability to it may be left
    uint64_t written = 0;  // bytes from its start that the program could write so far
  };
  const Allocation& allocation(uint32_t id) const { return allocations_[id]; }
  const WorldConfig& config() const { return config_; }
  size_t allocated() const { return allocations_.size() - 1; }

  // ---- the program's calls ----------------------------------------------------------------------------
  Capability allocate(unsigned thread, size_t size) {
    return given(heap.allocate(*fronts[thread], size), size, 1, 0, 0);
  }
  Capability allocate_aligned(unsigned thread, size_t alignment, size_t size) {
    return given(heap.allocate_aligned(*fronts[thread], alignment, size), size, alignment, 0, 0);
  }
  void release(unsigned thread, const Capability& c) {
    if (c.ghost != 0) allocations_[c.ghost].live = false;
    heap.free(*fronts[thread], wild(c));
  }
  Capability reallocate(unsigned thread, const Capability& c, size_t size) {
    const uint32_t before = c.ghost;
    allocations_[before].moving = true;  // it may be revoked before the call returns
    const auto payload = heap.reallocate(*fronts[thread], wild(c), size);
    allocations_[before].moving = false;
    if (!payload) return {};
    const bool moved = payload.get().address != c.address;
    if (moved) allocations_[before].live = false;
    // What was copied is the program's own, and what lay in the same chunk before it was made smaller, too.
    const uint64_t old = moved ? std::min<uint64_t>(static_cast<uint64_t>(c.bounds.length()), size)
                               : allocations_[before].written;
    return given(payload, size, 1, moved ? 0 : before, old);
  }
  size_t usable(const Capability& c) { return heap.usable_size(wild(c)); }
  SweepResult revoke() { return heap.revoke(*fronts[0]); }
  Wild wild(const Capability& c) { return Wild(machine.capability_ops(), c); }

  bool fully_revoked(const Capability& c) const { return !c.tag || c.permissions == 0; }

  // ---- rules ------------------------------------------------------------------------------------------
  // A capability that a program holds covers nothing that was handed out to somebody else since.
  void check_held(const Capability& c, const char* where) {
    if (!c.usable() || c.ghost == 0) return;
    if (allocations_[c.ghost].revoked) {
      violate(std::string(where) + ": a capability of allocation " + std::to_string(c.ghost) + " is left");
    }
    const uint64_t base = c.bounds.base, top = static_cast<uint64_t>(c.bounds.top);
    for (uint64_t at = align_down(base, kGranule); at < top; at += kGranule) {
      if (owner(at) == c.ghost) continue;
      violate(std::string(where) + ": a capability of allocation " + std::to_string(c.ghost) +
              " covers memory of " + std::to_string(owner(at)));
      return;
    }
  }
  void check_reachable(const char* where) {
    machine.for_each_reachable([&](const Capability& c) { check_held(c, where); });
  }
  void violate(const std::string& what) {
    if (violations.size() < 5) violations.push_back(what);
  }

  // ---- Listener ---------------------------------------------------------------------------------------
  void point(const char* where) override {
    if (at_point) at_point(where);
  }
  void revoked(const Capability& c) override {
    if (c.ghost != 0 && allocations_[c.ghost].live && !allocations_[c.ghost].moving) {
      violate("a capability of live allocation " + std::to_string(c.ghost) + " was revoked");
    }
  }
  void cleared(Address begin, Address end) override {
    for (Address at = begin; at < end; at += kGranule) {
      Allocation& a = allocations_[owner(at)];
      if (a.live && !a.moving)
        violate("memory of live allocation " + std::to_string(owner(at)) + " is released");
      a.revoked = true;
    }
    allocations_[0].revoked = false;
  }
  void released() override { check_reachable("after its revocation"); }
  std::function<void(std::string_view)> at_point;

 private:
  uint32_t& owner(uint64_t address) {
    return reinterpret_cast<uint32_t*>(owners_.data())[(address - machine.claim_base()) / kGranule];
  }

  // `old`: so many bytes at the start may hold anything; behind them everything must be clean.
  template <class Payload>
  Capability given(const Payload& payload, size_t size, size_t alignment, uint32_t same, uint64_t old) {
    if (!payload) return {};
    Capability c = payload.get();
    const Format& format = machine.format();
    const uint64_t length = static_cast<uint64_t>(format.representable_length(size));
    if (!c.tag || c.sealed()) violate("handed out without a valid tag");
    if (c.address != c.bounds.base || c.bounds.length() != length) {
      violate("bounds of " + std::to_string(static_cast<uint64_t>(c.bounds.length())) +
              " bytes for a request of " + std::to_string(size));
    }
    if (c.permissions != kDataAndCapabilities) violate("permissions " + std::to_string(c.permissions));
    if (c.address % kGranule != 0 || c.address % alignment != 0) violate("not aligned");
    const uint32_t id = same != 0 ? same : static_cast<uint32_t>(allocations_.size());
    if (same == 0) allocations_.emplace_back();
    c.ghost = id;
    allocations_[id] = {c, size, true, false, false, std::max(old, length)};
    const uint64_t end = c.address + (length == 0 ? 1 : length);
    for (uint64_t at = c.address; at < end; at += kGranule) {
      const uint32_t before = owner(at);
      if (before != 0 && before != id && allocations_[before].live) {
        violate("allocation " + std::to_string(id) + " overlaps live allocation " + std::to_string(before));
      }
      owner(at) = id;
      if (at >= c.address + old && machine.tag_at(at)) violate("handed out with a capability left in it");
    }
    for (uint64_t at = c.address + old; at < c.address + length; ++at) {
      if (*machine.host(at) == 0) continue;
      violate("handed out with old content");
      break;
    }
    return c;
  }

  WorldConfig config_;
  std::vector<Allocation> allocations_;
  RecycledMemory owners_;  // of each granule the allocation
};

using World = WorldOf<>;

// Every violation is a failure.
template <class W>
void expect_sound(const W& world) {
  for (const std::string& violation : world.violations) ADD_FAILURE() << violation;
}

}  // namespace nonreuse::sim
