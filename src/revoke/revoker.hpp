// What turns "painted" into "may be reused". The contract between the quarantine and its backends.
#pragma once

#include <concepts>

#include "base/options.hpp"
#include "base/types.hpp"
#include "revoke/batch.hpp"
#include "revoke/shadow.hpp"

namespace nonreuse {

enum class RevokeOutcome : uint8_t {
  cleared,  // everything painted and not hit is unreachable from now on
  pending,  // under way; nothing may be released yet, and a later call goes on
  retry,    // could not be done this time (a thread did not stop); nothing may be released
  blind,    // cannot be done in this process (roots cannot be seen); nothing may ever be released
};

inline constexpr uint64_t kReaderLook = 1'000'000;  // nanoseconds until who waits for a reader looks again

// What a backend is told about the heap. Painted chunks stay as they are until the sweep is over; everything
// else moves on (free memory is handed out, chunks are freed) unless the backend has frozen it.
struct RevokeRequest {
  Shadow* shadow;
  Address base;               // address of granule 0
  Granule top;                // nothing at or above was ever handed out, or has been taken back
  const uint64_t* free_bits;  // a set bit: the granule is free; may change until freeze()
  uint64_t live;              // bytes of the heap that are in use and not painted, more or less
  Range heap;                 // all addresses that chunks may have
  Range tables;               // the library's own memory, not a root
  Range extra;                // more of it (may be empty)
  // The painted chunk around a granule, or an empty run.
  Run (*chunk_at)(void* context, Granule granule);
  // The same without a lock, and slower for large chunks.
  Run (*chunk_at_unlocked)(void* context, Granule granule);
  // What has become of a painted chunk's pages; of a small one's: nothing.
  LargePages (*pages_of)(void* context, Run chunk);
  // Holds the heap still, so that no stopped thread is inside it: true before threads are stopped, false
  // before they run again. Takes the heap's locks.
  void (*freeze)(void* context, bool still);
  // True where a thread waits for the sweep lock that should not wait long.
  bool (*hurry)(void* context);
  // Lets threads that allocate or free much wait until the sweep is over: they write to memory faster than it
  // is read.
  void (*calm)(void* context);
  void* context;
  const Options* options;
  bool wait = true;  // false: a backend that works beside the program may answer `pending`
};

struct RevokeFigures {
  uint64_t root_bytes = 0;     // bytes read outside the heap
  uint64_t heap_bytes = 0;     // bytes read in the heap
  uint64_t pause_ns = 0;       // from the first thread asked to stop to all let go; 0: nothing was stopped
  uint64_t stop_begin_ns = 0;  // when that began, CLOCK_MONOTONIC
  uint64_t stood_ns = 0;       // threads stood still, or were asked to, also where that failed
  uint64_t again_bytes = 0;    // of these, read again while threads stood still, since they were written to
  uint64_t reader_cpu_ns = 0;  // CPU time of processes that read for the program
  uint64_t faults_ns = 0;      // CPU time that writing threads may have lost to tracking
  uint64_t extra_ns = 0;       // CPU time, these two included, that one stop would have saved, about
  bool beside = false;         // most was read beside running threads
  Shadow::Held held;           // chunks found referenced: hit in the shadow, to the last granule
};

// A backend. When revoke() returns `cleared`, then for every painted chunk either each of its granules is
// hit in the shadow, or no word that the program can load holds a pointer to it, and none can come to hold
// one, since the only copies were looked for at one moment at or after which nothing could move, or in memory
// that was not written between its reading and that moment (I8).
// Never allocates, never takes a lock that a stopped thread may hold, leaves errno alone.
template <class R>
concept Revoker = requires(R& revoker, const RevokeRequest& request, RevokeFigures& figures) {
  // False for a backend after which nothing is ever held (every pointer is revoked, CHERI).
  { R::kHolds } -> std::convertible_to<bool>;
  { revoker.revoke(request, figures) } -> std::same_as<RevokeOutcome>;
  // In a fork's child, before anything else.
  { revoker.after_fork_in_child() } -> std::same_as<void>;
};

}  // namespace nonreuse
