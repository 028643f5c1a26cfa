// What the records of a trace mean: which block each call makes, changes or ends, by process.
//
// Two threads' records may be stamped a moment out of order where one hands a block to the other: realloc
// ends its old block before it is stamped, and a record stamped before the clock was read anew is older than
// it says. So a free of an unknown address waits a moment for the malloc that made it, and of two blocks at
// one address the older one is freed first.
#pragma once

#include <deque>
#include <unordered_map>
#include <vector>

#include "launcher/trace_reader.hpp"

namespace nonreuse::launcher {

struct TracedBlock {
  uint64_t id = 0;  // counts up in each process and its forks
  uint64_t address = 0, size = 0, alignment = 0;
  uint64_t made_ns = 0;
  size_t thread = 0;  // that made it
};

class BlockVisitor {
 public:
  virtual ~BlockVisitor() = default;
  // A process begins; a fork's child with the blocks of its parent.
  virtual void born(size_t /*process*/, uint64_t /*ns*/, const std::vector<TracedBlock>& /*inherited*/) {}
  virtual void made(size_t process, size_t thread, const TracedBlock& block) = 0;
  virtual void resized(size_t process, size_t thread, const TracedBlock& now, const TracedBlock& before) = 0;
  virtual void freed(size_t process, size_t thread, const TracedBlock& block, uint64_t ns) = 0;
  // All else, and calls that failed.
  virtual void noted(const TraceEvent& /*event*/) {}
};

struct TracedCounts {
  uint64_t made = 0, resized = 0, freed = 0, failed = 0;
  uint64_t unknown = 0;  // freed or resized, and made before the trace began
  uint64_t live = 0, live_bytes = 0;
  uint64_t live_bytes_max = 0;
  // Chunks that the heap has besides the live ones of the trace; by its own count at the start.
  int64_t untraced = 0;
  bool finished = false;  // the library wrote down, at the end, how many chunks are live
  uint64_t heap_chunks = 0, heap_bytes = 0, live_then = 0;
  int64_t untraced_then = 0;
};

class BlockTracker {
 public:
  BlockTracker(size_t processes, BlockVisitor& visitor) : heaps_(processes), visitor_(visitor) {}
  void take(const TraceReader& reader, const TraceEvent& event);
  const TracedCounts& counts(size_t process) const { return heaps_[process].counts; }
  // The live blocks, oldest first.
  std::vector<TracedBlock> live(size_t process) const;

 private:
  struct Waiting {
    uint64_t ns;
    size_t thread;
  };
  struct Heap {
    std::unordered_map<uint64_t, TracedBlock> blocks;
    std::unordered_map<uint64_t, std::deque<TracedBlock>> displaced;  // older ones at the same address
    std::unordered_map<uint64_t, Waiting> waiting;                    // frees
    uint64_t next_id = 1;
    TracedCounts counts;
  };

  void birth(const TraceReader& reader, const TraceEvent& event);
  void make(Heap& heap, const TraceEvent& event, uint64_t alignment);
  bool end(Heap& heap, uint64_t address, TracedBlock& out);
  void free(Heap& heap, const TraceEvent& event);
  void resize(Heap& heap, const TraceEvent& event);
  void insert(Heap& heap, const TracedBlock& block);
  void rare(Heap& heap, const TraceEvent& event);

  std::vector<Heap> heaps_;
  BlockVisitor& visitor_;
};

}  // namespace nonreuse::launcher
