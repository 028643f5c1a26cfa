// The kernel interface of the CHERI backend over the software machine, with the mistakes in the order of
// painting that a test may plant: the backend itself stays as it is, what it asks for is done at the wrong
// moment, or not, or wrongly.
#pragma once

#include <utility>
#include <vector>

#include "machine.hpp"

namespace nonreuse::sim {

enum class Plant : uint8_t {
  none,
  paint_after_epoch,       // painted only after the epoch was read
  no_paint_fence,          // the paint may still be in the store buffer when the epoch is read
  epoch_not_awaited,       // any epoch counts as cleared
  open_epoch_counts,       // a revocation that was under way counts as a whole one
  one_epoch_short,         // its beginning counts as its end
  unpaint_before_cleared,  // unpainted once the revocation has begun
  never_unpainted,
  unpaint_after_release,  // unpainted by the next call only
  no_unpaint_fence,       // unpainting may reach the kernel after the memory was handed out
  first_granule_missed,   // of each painted run
  last_granule_missed,
  only_first_granule,  // of each run: enough for one chunk, not for a run of several
  one_granule_too_many,
  one_run_missed,  // the last run of each painting
};

class Kernel {
 public:
  explicit Kernel(Machine& machine) : machine_(machine) {}

  Plant plant = Plant::none;
  bool present = true;
  unsigned refuse = 0;  // so many of the next calls of revoke() fail
  std::vector<std::string>* log = nullptr;
  uint64_t calls = 0, begun = 0;  // of revoke(); those of them that did not wait

  // ---- CheriKernel ------------------------------------------------------------------------------------
  bool ready() { return present; }

  void paint(Address begin, Address end) {
    note("paint");
    point("paint");
    if (plant == Plant::one_run_missed) {
      std::swap(begin, last_run_.first);
      std::swap(end, last_run_.second);
      if (begin == 0) return;
    }
    if (plant == Plant::first_granule_missed) begin += kGranule;
    if (plant == Plant::last_granule_missed) end -= kGranule;
    if (plant == Plant::only_first_granule) end = begin + kGranule;
    if (plant == Plant::one_granule_too_many) end += kGranule;
    if (begin >= end) return;
    if (plant == Plant::paint_after_epoch)
      late_.push_back({begin, end});
    else
      machine_.set_shadow(begin, end, true);
  }

  void unpaint(Address begin, Address end) {
    note("unpaint");
    if (machine_.listener != nullptr) machine_.listener->cleared(begin, end);
    point("unpaint");
    if (plant == Plant::unpaint_before_cleared || plant == Plant::never_unpainted) return;
    if (plant == Plant::one_granule_too_many) end += kGranule;
    if (plant == Plant::unpaint_after_release)
      after_release_.push_back({begin, end});
    else
      machine_.set_shadow(begin, end, false);
  }

  uint64_t painted(Address address) { return machine_.shadow_word(address); }

  void fence_after_paint() {
    note("fence");
    last_run_ = {};
    if (plant != Plant::no_paint_fence) machine_.drain();
    point("fence");
  }

  RevocationEpoch enqueue_epoch() {
    note("epoch");
    const RevocationEpoch epoch = machine_.epoch();
    point("epoch");
    for (const auto& [begin, end] : late_) machine_.set_shadow(begin, end, true);
    late_.clear();
    return epoch;
  }
  RevocationEpoch dequeue_epoch() { return machine_.epoch(); }

  bool clears(RevocationEpoch now, RevocationEpoch then) {
    if (plant == Plant::epoch_not_awaited) return true;
    if (plant == Plant::open_epoch_counts) return now >= then + 2 - (then & 1);
    if (plant == Plant::one_epoch_short) return now >= then + 1 + (then & 1);
    return epoch_clears(now, then);
  }

  bool revoke(RevocationPass pass, RevocationEpoch epoch) {
    note("revoke");
    ++calls;
    if (refuse > 0) {
      --refuse;
      return false;
    }
    machine_.drain();  // a system call
    for (const auto& [begin, end] : after_release_) machine_.set_shadow(begin, end, false);
    after_release_.clear();
    if (plant == Plant::one_epoch_short) return half_a_revocation(epoch);
    if (epoch_clears(machine_.epoch(), epoch)) return true;
    if (!machine_.open()) machine_.begin_revocation();
    if (plant == Plant::unpaint_before_cleared) unpaint_all();
    begun += pass == RevocationPass::begin;
    if (pass == RevocationPass::begin) return true;
    const RevocationEpoch opened = machine_.epoch();
    while (machine_.epoch() == opened) {
      point("sweep");
      if (machine_.epoch() == opened) machine_.advance_revocation();
    }
    return true;
  }

  void fence_after_unpaint() {
    note("release fence");
    if (plant != Plant::no_unpaint_fence) machine_.drain();
    if (machine_.listener != nullptr) machine_.listener->released();
    point("release fence");
  }

 private:
  void note(const char* what) {
    if (log != nullptr && (log->empty() || log->back() != what)) log->push_back(what);
  }
  void point(const char* where) {
    if (machine_.listener != nullptr) machine_.listener->point(where);
  }
  bool half_a_revocation(RevocationEpoch epoch) {
    while (!clears(machine_.epoch(), epoch)) {
      if (!machine_.open())
        machine_.begin_revocation();
      else
        machine_.advance_revocation();
      point("sweep");
    }
    return true;
  }
  void unpaint_all() {
    const Address base = machine_.claim_base();
    machine_.set_shadow(base, base + (size_t{8} << 20), false);  // these programs' chunks are all there
    machine_.drain();
  }

  Machine& machine_;
  std::pair<Address, Address> last_run_;
  std::vector<std::pair<Address, Address>> late_, after_release_;
};
static_assert(CheriKernel<Kernel>);

}  // namespace nonreuse::sim
