// What a replay does, as a flat piece of shared memory that its process runs through without allocating.
//
// Every block of the trace has a slot. A slot counts the calls made on it, and each call waits for its turn
// at its slot: so a block is freed only after it was made, whichever threads do that, and threads wait for
// nothing else. Slots are used again by the thread that freed their block. A thread is started by the one
// that made the last call before its first.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "launcher/trace_reader.hpp"

namespace nonreuse::launcher {

enum class ReplayKind : uint8_t { make, make_aligned, resize, free, spawn };

struct ReplayCall {
  uint32_t slot;       // spawn: the thread
  uint32_t turn : 22;  // of the slot, modulo 2^22
  uint32_t kind : 4;
  uint32_t align_shift : 6;
  uint64_t size;
};
static_assert(sizeof(ReplayCall) == 16);

struct ReplaySlot {
  std::atomic<uint32_t> turn;
  uint32_t unused;
  uint64_t size;
  void* block;
};

struct ReplayThread {
  uint64_t first, count;  // calls
};

// What the replay's process found. Times in ns, memory in bytes.
struct ReplayResult {
  uint64_t done;  // 1: the rest is filled in
  uint64_t calls, made, resized, freed, requested_bytes;
  uint64_t live_blocks, live_bytes;
  uint64_t failed;     // calls that got no memory
  uint64_t corrupted;  // blocks that did not hold any more what was written to them
  uint64_t wall_ns, cpu_ns, peak_rss, idle_rss;
  uint64_t has_statistics;  // of this library
  uint64_t sweeps, pauses, pause_ns_total, pause_ns_max, pause_p99, footprint_max, held_bytes;
};

struct ReplayHeader {
  uint64_t bytes, threads, slots, calls;
  uint64_t threads_at, slots_at, calls_at;  // offsets
  std::atomic<uint32_t> running;            // threads
  ReplayResult result;
};

struct ReplayPlan {
  std::vector<std::vector<ReplayCall>> threads;
  uint64_t slots = 0;
  uint64_t live_blocks = 0, live_bytes = 0;  // as recorded, at the end
  uint64_t skipped = 0;                      // calls on blocks that are older than the trace
};

// The calls of one process; the blocks that a fork's child inherited are made first.
ReplayPlan make_plan(TraceReader& reader, size_t process);

// In a file without a name. Returns its descriptor, which exec keeps; throws Failure.
int write_plan(const ReplayPlan& plan);

// The process that replays: runs the plan in `descriptor` with whatever malloc the process has. Never
// returns.
[[noreturn]] void replay_worker(int descriptor);

}  // namespace nonreuse::launcher
