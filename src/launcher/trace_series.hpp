// What the pictures of a trace are made of: memory over time, sizes, lifetimes, sweeps; for each process.
#pragma once

#include <vector>

#include "launcher/trace_blocks.hpp"

namespace nonreuse::launcher {

// Bytes at a moment. `live` is what the program asked for; the rest is as of the last sweep, quarantine with
// what was sealed since. footprint is 0 before the first sweep.
struct MemoryPoint {
  uint64_t ns, live, quarantined, held, footprint;
};

struct TracedSweep {
  uint64_t begin_ns, end_ns;
  uint64_t quarantined, live, released;  // bytes; the first two at its beginning
  uint64_t held_chunks, held_bytes, pause_ns;
  uint64_t stop_ns;  // when its stop began; 0: none, or a trace of version 1, which does not tell
  bool done;
};

// Keeps a limited number of points: where there are too many, every second one goes, and fewer are taken from
// then on.
class MemorySeries {
 public:
  void add(const MemoryPoint& point, bool important);
  const std::vector<MemoryPoint>& points() const { return points_; }

 private:
  std::vector<MemoryPoint> points_;
  uint64_t every_ = 1, skipped_ = 0;
};

struct ProcessSeries {
  static constexpr size_t kShortest = 12;  // 4 us: the clock of processes with one thread is no finer
  MemorySeries memory;
  uint64_t sizes[65] = {}, lifetimes[65] = {};  // of blocks, up to 2^i bytes and nanoseconds
  std::vector<TracedSweep> sweeps;
};

class SeriesCollector : public BlockVisitor {
 public:
  explicit SeriesCollector(size_t processes) : now_(processes), open_(processes), series_(processes) {}

  void born(size_t process, uint64_t ns, const std::vector<TracedBlock>& inherited) override;
  void made(size_t process, size_t thread, const TracedBlock& block) override;
  void resized(size_t process, size_t thread, const TracedBlock& now, const TracedBlock& before) override;
  void freed(size_t process, size_t thread, const TracedBlock& block, uint64_t ns) override;
  void noted(const TraceEvent& event) override;
  void finish();  // behind the last event

  const ProcessSeries& of(size_t process) const { return series_[process]; }

 private:
  void add(size_t process, uint64_t ns, bool important);
  std::vector<MemoryPoint> now_;
  std::vector<TracedSweep> open_;  // begin_ns 0: none
  std::vector<ProcessSeries> series_;
};

struct TracePicture {
  SeriesCollector series;
  std::vector<TracedCounts> counts;  // of each process
  uint64_t first_ns = 0, last_ns = 0;
};
// Reads all of the trace.
TracePicture read_picture(TraceReader& reader);

}  // namespace nonreuse::launcher
