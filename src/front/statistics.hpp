// Counters of the sweeps. Written under the sweep lock, read by anyone.
#pragma once

#include <atomic>

#include "base/histogram.hpp"
#include "base/types.hpp"

namespace nonreuse {

class Counter {
 public:
  void add(uint64_t n) { value_.store(get() + n, std::memory_order_relaxed); }
  void at_least(uint64_t n) {
    if (n > get()) value_.store(n, std::memory_order_relaxed);
  }
  uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

class Histogram {
 public:
  void add(uint64_t nanoseconds) { counts_[histogram_bucket(nanoseconds)].add(1); }
  void read(uint64_t (&out)[kHistogramBuckets]) const {
    for (size_t i = 0; i < kHistogramBuckets; ++i) out[i] = counts_[i].get();
  }

 private:
  Counter counts_[kHistogramBuckets];
};

struct Figures {
  Counter sweeps, abandoned, swept_bytes, swept_chunks, released_bytes, bits_painted, bits_cleared;
  Counter root_bytes, heap_bytes, stops, pause_total, pause_max, sweep_total, sweep_max, sweep_cpu;
  Counter beside, again_bytes;
  Histogram pauses, sweep_times;
};

}  // namespace nonreuse
