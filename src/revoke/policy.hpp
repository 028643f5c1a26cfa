// When to sweep.
//
// Sweep when the bytes a sweep could release exceed both the minimum and a percentage of what must be
// scanned (live heap and roots), or the maximum. The minimum adapts: it starts within a second-level cache,
// so that small programs cycle in cache, and grows slowly while sweeping takes more than its share of CPU.
// Where sweeps read memory beside the program, which costs more than to read it in one stop, they wait for
// more, in proportion: a freed byte then costs what it would have cost, and memory pays, with up to three
// times as much.
// Where sweeping takes several times its share although the minimum has grown, the percentage is not what the
// program needs: quarantine grows up to four times as far, by 8 MiB at most, until it takes less.
// A minimum that was set stands for the wish to have it just so, and is not stretched. A percentage that was
// set is a bound: nothing adapts then, and only the first minimum, or one that was set, lies above it.
// Thread-safety: threshold() from any thread; note_sweep() and note_cost() under the sweep lock.
#pragma once

#include <atomic>

#include "base/options.hpp"
#include "base/types.hpp"

namespace nonreuse {

class Policy {
 public:
  // Bytes of pending quarantine at which to sweep, with `live` bytes of heap in use.
  uint64_t threshold(const Options& options, uint64_t live) const {
    const uint64_t scanned = live + root_bytes_.load(std::memory_order_relaxed);
    uint64_t bytes = scanned / 100 * options.percent;
    if (options.percent_set) return within(options, bytes, options.min != 0 ? options.min : kStart);
    const uint64_t least = options.min != 0 ? options.min : minimum_.load(std::memory_order_relaxed);
    if (bytes < least) bytes = least;
    uint64_t more = options.min != 0 ? 0 : bytes / 100 * (stretch_.load(std::memory_order_relaxed) - 100);
    if (more > kStretchMost) more = kStretchMost;
    const uint64_t dearer = bytes / 100 * (dearness_.load(std::memory_order_relaxed) - 100);
    return within(options, bytes + (more > dearer ? more : dearer), 0);
  }

  // A sweep took `sweep_ns` of CPU; `elapsed_ns` of CPU passed since the one before ended (with this one).
  void note_sweep(const Options& options, uint64_t sweep_ns, uint64_t elapsed_ns, uint64_t root_bytes,
                  uint64_t live) {
    root_bytes_.store(root_bytes, std::memory_order_relaxed);
    not_before_.store(0, std::memory_order_relaxed);
    uint64_t minimum = minimum_.load(std::memory_order_relaxed);
    const uint64_t third = (live + root_bytes) / 3;
    const uint64_t cap = third > kCapMin ? third : kCapMin;
    const uint64_t budget = elapsed_ns * options.cpu;
    if (sweep_ns * 50 > budget)  // twice its budget: programs may be over soon
      minimum += minimum / 4;
    else if (sweep_ns * 100 > budget)
      minimum += minimum / 18;  // a quarter in four sweeps
    else if (sweep_ns * 400 < budget)
      minimum -= minimum / 32;
    if (minimum > cap) minimum = cap;
    if (minimum < kStart) minimum = kStart;
    minimum_.store(minimum, std::memory_order_relaxed);
    note_stretch(sweep_ns, budget);
  }

  // A sweep cost so much CPU time, and would have cost `extra_ns` less in one stop; in nanoseconds.
  void note_cost(uint64_t cost_ns, uint64_t extra_ns) {
    uint64_t percent = extra_ns < cost_ns ? cost_ns * 100 / (cost_ns - extra_ns) : kDearest;
    if (extra_ns == 0) percent = 100;
    if (percent > kDearest) percent = kDearest;
    // No single sweep says it all, a slow machine's least of all.
    dearness_.store((dearness_.load(std::memory_order_relaxed) + percent) / 2, std::memory_order_relaxed);
  }

  // A sweep that ended at `now_ns` released nothing, because it could not see everything or stop everyone;
  // the program stood still for `stood_ns`. The next waits for kFailureShare times as long.
  void note_failure(uint64_t now_ns, uint64_t stood_ns) {
    const uint64_t pause = stood_ns * kFailureShare;
    not_before_.store(now_ns + (pause > kFailurePause ? pause : kFailurePause), std::memory_order_relaxed);
  }
  bool must_wait(uint64_t now_ns) const { return now_ns < not_before_.load(std::memory_order_relaxed); }

 private:
  static uint64_t within(const Options& options, uint64_t bytes, uint64_t least) {
    if (bytes < least) bytes = least;
    return options.max != 0 && bytes > options.max ? options.max : bytes;
  }

  // Grows slowly and shrinks slower, with a span between where it stays: what stretches the quarantine lowers
  // the share in proportion, and would be taken back at once.
  void note_stretch(uint64_t sweep_ns, uint64_t budget) {
    uint64_t stretch = stretch_.load(std::memory_order_relaxed);
    if (sweep_ns * 100 > budget * kMuch)
      stretch += stretch / 8;
    else if (sweep_ns * kCalmer < budget * kMuch)
      stretch -= stretch / 16;
    if (stretch > kLongest) stretch = kLongest;
    if (stretch < 100) stretch = 100;
    stretch_.store(stretch, std::memory_order_relaxed);
  }

  static constexpr uint64_t kMuch = 4;       // times the share of CPU time
  static constexpr uint64_t kCalmer = 130;   // percent of a sweep's time that stays below it
  static constexpr uint64_t kLongest = 400;  // percent
  // Beyond that a larger heap would pay with much memory for what it needed when it was small.
  static constexpr uint64_t kStretchMost = 8u << 20;
  static constexpr uint64_t kStart = 1u << 20;
  static constexpr uint64_t kCapMin = 2u << 20;
  static constexpr uint64_t kDearest = 300;
  static constexpr uint64_t kFailureShare = 20;
  static constexpr uint64_t kFailurePause = 10'000'000;  // nanoseconds

  std::atomic<uint64_t> minimum_{kStart};
  std::atomic<uint64_t> root_bytes_{0};
  std::atomic<uint64_t> dearness_{100};  // percent
  std::atomic<uint64_t> stretch_{100};   // percent
  std::atomic<uint64_t> not_before_{0};
};

}  // namespace nonreuse
