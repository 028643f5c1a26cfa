#include "launcher/trace_series.hpp"

#include <algorithm>
#include <bit>
#include <utility>

namespace nonreuse::launcher {
namespace {

using trace::Rare;

constexpr size_t kMostPoints = 4000;

}  // namespace

void MemorySeries::add(const MemoryPoint& point, bool important) {
  if (!important && ++skipped_ < every_) return;
  skipped_ = 0;
  points_.push_back(point);
  if (points_.size() < kMostPoints) return;
  for (size_t i = 0; 2 * i < points_.size(); ++i) points_[i] = points_[2 * i];
  points_.resize(points_.size() / 2);
  every_ *= 2;
}

void SeriesCollector::add(size_t process, uint64_t ns, bool important) {
  now_[process].ns = std::max(now_[process].ns, ns);
  series_[process].memory.add(now_[process], important);
}

void SeriesCollector::born(size_t process, uint64_t ns, const std::vector<TracedBlock>& inherited) {
  for (const TracedBlock& block : inherited) now_[process].live += block.size;
  add(process, ns, true);
}

void SeriesCollector::made(size_t process, size_t, const TracedBlock& block) {
  now_[process].live += block.size;
  ++series_[process].sizes[static_cast<size_t>(std::bit_width(block.size - (block.size != 0)))];
  add(process, block.made_ns, false);
}

void SeriesCollector::resized(size_t process, size_t, const TracedBlock& now, const TracedBlock& before) {
  now_[process].live += now.size - before.size;
}

void SeriesCollector::freed(size_t process, size_t, const TracedBlock& block, uint64_t ns) {
  now_[process].live -= block.size;
  const uint64_t age = ns > block.made_ns ? ns - block.made_ns : 0;
  ++series_[process].lifetimes[std::max(ProcessSeries::kShortest, static_cast<size_t>(std::bit_width(age)))];
  add(process, ns, false);
}

void SeriesCollector::noted(const TraceEvent& event) {
  const uint64_t* f = event.record.fields;
  const uint64_t ns = event.record.time;
  MemoryPoint& now = now_[event.process];
  TracedSweep& sweep = open_[event.process];
  switch (event.record.rare) {
    case Rare::seal:
      now.quarantined += f[1];
      add(event.process, ns, true);
      break;
    case Rare::gauges:
      now.quarantined = f[1];
      now.held = f[2];
      now.footprint = f[3];
      add(event.process, ns, true);
      break;
    case Rare::sweep_begin:
      sweep = {};
      sweep.begin_ns = ns;
      sweep.quarantined = f[0];
      sweep.live = f[1];
      break;
    case Rare::release:
      sweep.released += f[0];
      break;
    case Rare::stop:
      sweep.stop_ns = f[0];
      break;
    case Rare::sweep_end:
      sweep.end_ns = ns;
      if (sweep.begin_ns == 0) sweep.begin_ns = ns - std::min(ns, f[3]);  // its beginning is not recorded
      sweep.done = f[0] != 0;
      sweep.held_chunks = f[1];
      sweep.held_bytes = f[2];
      sweep.pause_ns = f[3];
      series_[event.process].sweeps.push_back(std::exchange(sweep, {}));
      break;
    default:
      break;
  }
}

void SeriesCollector::finish() {
  for (size_t i = 0; i < series_.size(); ++i) {
    if (now_[i].ns != 0) series_[i].memory.add(now_[i], true);
  }
}

TracePicture read_picture(TraceReader& reader) {
  TracePicture picture{SeriesCollector(reader.processes().size()), {}};
  BlockTracker tracker(reader.processes().size(), picture.series);
  reader.rewind();
  TraceEvent event;
  while (reader.next(event)) {
    if (picture.first_ns == 0) picture.first_ns = event.record.time;
    picture.last_ns = std::max(picture.last_ns, event.record.time);
    tracker.take(reader, event);
  }
  picture.series.finish();
  for (size_t i = 0; i < reader.processes().size(); ++i) picture.counts.push_back(tracker.counts(i));
  return picture;
}

}  // namespace nonreuse::launcher
