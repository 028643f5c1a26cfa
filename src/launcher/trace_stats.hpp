// `nonreuse trace stats`: what a trace holds, as a table by size and lifetime, or as JSON.
#pragma once

#include <string>

#include "launcher/trace_reader.hpp"

namespace nonreuse::launcher {

struct SizeClass {
  static constexpr size_t kLifetimes = 6;  // below 10 us, 1 ms, 100 ms, 10 s; longer; never freed
  uint64_t made = 0, bytes = 0;
  uint64_t lifetimes[kLifetimes] = {};
};

std::string trace_stats_text(TraceReader& reader, size_t bytes_on_disk);
std::string trace_stats_json(TraceReader& reader, size_t bytes_on_disk);

}  // namespace nonreuse::launcher
