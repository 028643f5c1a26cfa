// What one thread owns of the heap: caches of exact sizes, a run to carve from, and a batch of freed chunks.
//
// Doug Lea's policy once more, for one thread: the caches are its exact bins, and the run it carves from is
// its designated victim, where mixed sizes lie side by side. Runs are gathered from old memory in address
// order, so that what is allocated together lies together; what is left of a run, and runs too short for
// the request at hand, go to the cache of their size. free appends to the batch. No lock, no line that
// another thread writes. Order of writes: a chunk's tag is set live before it leaves its cache or run, and an
// entry is in the batch before the count says so, so that whoever adopts the front of a thread that is gone
// (exit, fork) can tell from the tags what was handed out: nothing is handed out twice.
#pragma once

#include <atomic>

#include "base/types.hpp"
#include "heap/tag_map.hpp"
#include "platform/attributes.hpp"
#include "revoke/batch.hpp"

namespace nonreuse {

// Chunks that the cache of one size holds: about 8 KiB, at least 8, at most 64.
constexpr uint32_t cache_capacity(Granules length) {
  const uint64_t fit = 512 / length;
  return fit < 8 ? 8 : fit > 64 ? 64 : static_cast<uint32_t>(fit);
}

namespace detail {
struct CacheLayout {
  uint16_t offset[kSmallMax + 2];
  constexpr CacheLayout() : offset{} {
    uint16_t at = 0;
    for (Granules length = 1; length <= kSmallMax; ++length) {
      offset[length] = at;
      at = static_cast<uint16_t>(at + cache_capacity(length));
    }
    offset[kSmallMax + 1] = at;
  }
};
inline constexpr CacheLayout kCacheLayout;
}  // namespace detail

// Keeps the compiler from moving stores across: what a fork's child sees of another thread is some number of
// that thread's stores, in the order in which it made them (a store that meets a page copied already waits
// until fork is done).
NONREUSE_ALWAYS_INLINE void in_this_order() {
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

struct ThreadFront {
  static constexpr size_t kLeftovers = 32;
  static constexpr size_t kRuns = 64;

  Granule run_at = 0, run_end = 0;  // the thread's own run
  Batch* batch = nullptr;           // changed only under the quarantine's lock
  uint64_t batch_bytes = 0;         // appended to `batch` since it was empty
  Granules carved = 0;              // granules taken as runs so far: longer-lived threads take longer runs

  uint8_t cached[kSmallMax + 1] = {};  // chunks in each size's cache
  bool in_use = false;
  uint8_t exit_rounds = 0;      // thread-exit destructors seen so far
  ThreadFront* next = nullptr;  // all fronts ever made, under the quarantine's lock

  uint8_t gathered = 0;
  Run runs[kRuns];  // to carve from next; the lowest address is the last
  uint8_t leftover_count = 0;
  Run leftovers[kLeftovers];  // ends of runs for which no cache has room; they go back with the next refill
  Granule slots[detail::kCacheLayout.offset[kSmallMax + 1]];

  Granule* cache(Granules length) { return slots + detail::kCacheLayout.offset[length]; }

  // False: the cache of this size is full.
  bool keep(Run hole) {
    if (hole.length > kSmallMax || cached[hole.length] == cache_capacity(hole.length)) return false;
    cache(hole.length)[cached[hole.length]] = hole.start;
    in_this_order();
    ++cached[hole.length];
    return true;
  }

  // A bit for each size of whose chunks the cache holds half of what it may.
  uint64_t well_stocked() const {
    uint64_t sizes = 0;
    for (Granules length = 1; length <= kSmallMax; ++length) {
      sizes |= uint64_t{cached[length] >= cache_capacity(length) / 2} << length;
    }
    return sizes;
  }

  // The run to carve from, which was empty or becomes so. Never, not for one store, is it longer than before
  // and after.
  void set_run(Run run) {
    run_end = 0;
    in_this_order();
    run_at = run.start;
    in_this_order();
    run_end = run.end();
  }

  // Calls f(run) for everything that could be handed out.
  template <class F>
  void for_each_hole(F&& f) {
    for (Granules length = 1; length <= kSmallMax; ++length) {
      for (uint32_t i = 0; i < cached[length]; ++i) f(Run{cache(length)[i], length});
    }
    if (run_at < run_end) f(Run{run_at, run_end - run_at});
    for (size_t i = 0; i < gathered; ++i) f(runs[i]);
    for (size_t i = 0; i < leftover_count; ++i) f(leftovers[i]);
  }
};

}  // namespace nonreuse
