// What the figures of nonreuse_statistics are, for everything that adds them up or shows them.
#pragma once

#include <dlmalloc_nonreuse.h>

#include <cstddef>

#include "base/histogram.hpp"
#include "base/types.hpp"

namespace nonreuse {

enum class FigureKind : uint8_t { counter, gauge, largest };
enum class FigureUnit : uint8_t { count, bytes, nanoseconds };

struct Figure {
  const char* name;  // of the field
  uint64_t nonreuse_statistics::*field;
  FigureKind kind;
  FigureUnit unit;
  const char* metric;  // Prometheus' name; nullptr: part of a histogram
  const char* help;    // one sentence without the full stop
};

struct FigureHistogram {
  const char* name;
  uint64_t (nonreuse_statistics::*counts)[NONREUSE_HISTOGRAM_BUCKETS];
  uint64_t nonreuse_statistics::*total_ns;
  const char* metric;
  const char* help;
};

inline constexpr Figure kFigures[] = {
    {"sweeps", &nonreuse_statistics::sweeps, FigureKind::counter, FigureUnit::count, "nonreuse_sweeps_total",
     "Sweeps completed"},
    {"sweeps_abandoned", &nonreuse_statistics::sweeps_abandoned, FigureKind::counter, FigureUnit::count,
     "nonreuse_sweeps_abandoned_total", "Sweeps that could release nothing"},
    {"swept_bytes", &nonreuse_statistics::swept_bytes, FigureKind::counter, FigureUnit::bytes,
     "nonreuse_swept_bytes_total", "Bytes of quarantined chunks that sweeps asked about"},
    {"swept_chunks", &nonreuse_statistics::swept_chunks, FigureKind::counter, FigureUnit::count,
     "nonreuse_swept_chunks_total", "Quarantined chunks that sweeps asked about"},
    {"frees", &nonreuse_statistics::frees, FigureKind::counter, FigureUnit::count,
     "nonreuse_freed_chunks_total", "Chunks freed into quarantine"},
    {"freed_bytes", &nonreuse_statistics::freed_bytes, FigureKind::counter, FigureUnit::bytes,
     "nonreuse_freed_bytes_total", "Bytes freed into quarantine"},
    {"released_bytes", &nonreuse_statistics::released_bytes, FigureKind::counter, FigureUnit::bytes,
     "nonreuse_released_bytes_total", "Bytes that went from quarantine back to the free pool"},
    {"bits_painted", &nonreuse_statistics::bits_painted, FigureKind::counter, FigureUnit::count,
     "nonreuse_painted_granules_total", "Granules painted for sweeps"},
    {"bits_cleared", &nonreuse_statistics::bits_cleared, FigureKind::counter, FigureUnit::count,
     "nonreuse_cleared_granules_total", "Granules unpainted by release"},
    {"held_chunks", &nonreuse_statistics::held_chunks, FigureKind::gauge, FigureUnit::count,
     "nonreuse_held_chunks", "Freed chunks that the last sweep found still pointed to"},
    {"held_bytes", &nonreuse_statistics::held_bytes, FigureKind::gauge, FigureUnit::bytes,
     "nonreuse_held_bytes", "Bytes of freed chunks that the last sweep found still pointed to"},
    {"quarantined_bytes", &nonreuse_statistics::quarantined_bytes, FigureKind::gauge, FigureUnit::bytes,
     "nonreuse_quarantined_bytes", "Freed bytes that wait for a sweep"},
    {"decommitted_bytes", &nonreuse_statistics::decommitted_bytes, FigureKind::gauge, FigureUnit::bytes,
     "nonreuse_decommitted_bytes", "Bytes in quarantine whose pages were given back"},
    {"scanned_root_bytes", &nonreuse_statistics::scanned_root_bytes, FigureKind::counter, FigureUnit::bytes,
     "nonreuse_scanned_root_bytes_total", "Bytes of roots read by sweeps"},
    {"scanned_heap_bytes", &nonreuse_statistics::scanned_heap_bytes, FigureKind::counter, FigureUnit::bytes,
     "nonreuse_scanned_heap_bytes_total", "Bytes of heap read by sweeps"},
    {"concurrent_sweeps", &nonreuse_statistics::concurrent_sweeps, FigureKind::counter, FigureUnit::count,
     "nonreuse_concurrent_sweeps_total", "Sweeps that read most memory beside running threads"},
    {"reread_bytes", &nonreuse_statistics::reread_bytes, FigureKind::counter, FigureUnit::bytes,
     "nonreuse_reread_bytes_total", "Bytes that those read again in the stop"},
    {"stops", &nonreuse_statistics::stops, FigureKind::counter, FigureUnit::count, "nonreuse_stops_total",
     "Times that the other threads were stopped"},
    {"pause_ns_total", &nonreuse_statistics::pause_ns_total, FigureKind::counter, FigureUnit::nanoseconds,
     nullptr, "Time that threads stood still"},
    {"pause_ns_max", &nonreuse_statistics::pause_ns_max, FigureKind::largest, FigureUnit::nanoseconds,
     "nonreuse_pause_max_seconds", "Longest time that threads stood still"},
    {"sweep_ns_total", &nonreuse_statistics::sweep_ns_total, FigureKind::counter, FigureUnit::nanoseconds,
     nullptr, "Wall time of sweeps"},
    {"sweep_ns_max", &nonreuse_statistics::sweep_ns_max, FigureKind::largest, FigureUnit::nanoseconds,
     "nonreuse_sweep_max_seconds", "Longest sweep"},
    {"sweep_cpu_ns_total", &nonreuse_statistics::sweep_cpu_ns_total, FigureKind::counter,
     FigureUnit::nanoseconds, "nonreuse_sweep_cpu_seconds_total", "CPU time of sweeps"},
    {"heap_bytes", &nonreuse_statistics::heap_bytes, FigureKind::gauge, FigureUnit::bytes,
     "nonreuse_heap_bytes", "Bytes in use, quarantined or cached"},
    {"live_bytes", &nonreuse_statistics::live_bytes, FigureKind::gauge, FigureUnit::bytes,
     "nonreuse_live_bytes", "Bytes in use or cached"},
    {"footprint_bytes", &nonreuse_statistics::footprint_bytes, FigureKind::gauge, FigureUnit::bytes,
     "nonreuse_footprint_bytes", "Bytes of address space committed for chunks"},
    {"footprint_max", &nonreuse_statistics::footprint_max, FigureKind::gauge, FigureUnit::bytes,
     "nonreuse_footprint_max_bytes", "Highest footprint so far"},
};

inline constexpr FigureHistogram kFigureHistograms[] = {
    {"pause_histogram", &nonreuse_statistics::pause_histogram, &nonreuse_statistics::pause_ns_total,
     "nonreuse_pause_seconds", "Times that threads stood still for a sweep"},
    {"sweep_histogram", &nonreuse_statistics::sweep_histogram, &nonreuse_statistics::sweep_ns_total,
     "nonreuse_sweep_seconds", "Wall times of sweeps"},
};

static_assert(sizeof(nonreuse_statistics) / sizeof(uint64_t) ==
                  1 + sizeof kFigures / sizeof kFigures[0] +
                      sizeof kFigureHistograms / sizeof kFigureHistograms[0] * NONREUSE_HISTOGRAM_BUCKETS,
              "a field of nonreuse_statistics is missing here");

// What a process itself has done: a fork's child goes on from the counters of its parent.
inline nonreuse_statistics less_inherited(const nonreuse_statistics& all,
                                          const nonreuse_statistics& inherited) {
  nonreuse_statistics own = all;
  const auto less = [](uint64_t& value, uint64_t before) { value -= before < value ? before : value; };
  for (const Figure& figure : kFigures) {
    if (figure.kind == FigureKind::counter) less(own.*figure.field, inherited.*figure.field);
  }
  for (const FigureHistogram& histogram : kFigureHistograms) {
    for (size_t i = 0; i < NONREUSE_HISTOGRAM_BUCKETS; ++i)
      less((own.*histogram.counts)[i], (inherited.*histogram.counts)[i]);
  }
  // The longest may have been the parent's: no longer than what the own counts allow.
  const auto bound = [](uint64_t& longest, const uint64_t(&counts)[NONREUSE_HISTOGRAM_BUCKETS]) {
    const uint64_t most = histogram_percentile(counts, 100);
    if (longest > most) longest = most;
  };
  bound(own.pause_ns_max, own.pause_histogram);
  bound(own.sweep_ns_max, own.sweep_histogram);
  return own;
}

}  // namespace nonreuse
