// What one thread owns of the heap: caches of exact sizes, a run to carve from, and a batch of freed chunks.
//
// malloc pops from the cache of its size; else it carves from the thread's own run, the thread's designated
// victim, where mixed sizes lie side by side. free appends to the batch. No lock, no line that another thread
// writes. Order of writes: a chunk's tag is set live before it leaves its cache or run, and an entry is in
// the batch before the count says so, so that whoever adopts the front of a thread that is gone (exit, fork)
// can tell from the tags what was handed out: nothing is handed out twice.
#pragma once

#include "base/types.hpp"
#include "heap/tag_map.hpp"
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

struct ThreadFront {
  Granule run_at = 0, run_end = 0;  // the thread's own run
  Batch* batch = nullptr;           // changed only under the quarantine's lock
  uint64_t batch_bytes = 0;         // appended to `batch` since it was empty
  Granules carved = 0;              // granules taken as runs so far: longer-lived threads take longer runs

  uint8_t cached[kSmallMax + 1] = {};  // chunks in each size's cache
  bool in_use = false;
  uint8_t exit_rounds = 0;  // thread-exit destructors seen so far
  ThreadFront* next = nullptr;       // all fronts ever made, under the quarantine's lock

  Granule slots[detail::kCacheLayout.offset[kSmallMax + 1]];

  Granule* cache(Granules length) { return slots + detail::kCacheLayout.offset[length]; }
};

}  // namespace nonreuse
