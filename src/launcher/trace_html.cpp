#include "launcher/trace_html.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/report.hpp"
#include "launcher/assets.hpp"
#include "launcher/program.hpp"
#include "launcher/report_html.hpp"
#include "launcher/trace_series.hpp"
#include "launcher/trace_stats.hpp"

namespace nonreuse::launcher {
namespace {

using Json = nlohmann::ordered_json;

double seconds(uint64_t ns, uint64_t first_ns) {
  return ns > first_ns ? static_cast<double>(ns - first_ns) / 1e9 : 0;
}

Json memory_json(const std::vector<MemoryPoint>& points, uint64_t first_ns) {
  Json all = {{"seconds", Json::array()},
              {"live", Json::array()},
              {"quarantined", Json::array()},
              {"held", Json::array()},
              {"footprint", Json::array()}};
  for (const MemoryPoint& point : points) {
    all["seconds"].push_back(seconds(point.ns, first_ns));
    all["live"].push_back(point.live);
    all["quarantined"].push_back(point.quarantined);
    all["held"].push_back(point.held);
    all["footprint"].push_back(point.footprint == 0 ? Json(nullptr) : Json(point.footprint));
  }
  return all;
}

// From the first class that has any to the last.
template <class Name>
Json classes_json(const uint64_t (&counts)[65], Name&& name) {
  Json all = Json::array();
  size_t last = 64;
  while (last > 0 && counts[last] == 0) --last;
  for (size_t i = 0; i <= last; ++i) {
    if (counts[i] != 0 || !all.empty())
      all.push_back({name(uint64_t{1} << std::min<size_t>(i, 63)), counts[i]});
  }
  return all;
}

Json sweeps_json(const std::vector<TracedSweep>& sweeps, uint64_t first_ns) {
  Json all = Json::array();
  for (const TracedSweep& sweep : sweeps) {
    all.push_back({{"at", seconds(sweep.begin_ns, first_ns)},
                   {"took_ns", sweep.end_ns > sweep.begin_ns ? sweep.end_ns - sweep.begin_ns : 0},
                   {"pause_ns", sweep.pause_ns},
                   {"quarantined", sweep.quarantined},
                   {"released", sweep.released},
                   {"held_chunks", sweep.held_chunks},
                   {"done", sweep.done}});
  }
  return all;
}

}  // namespace

void write_trace_html(TraceReader& reader, const std::string& trace, size_t bytes_on_disk,
                      const std::string& file) {
  // Both read all of the trace; the figures are those of `trace stats`.
  reader.rewind();
  Json all = Json::parse(trace_stats_json(reader, bytes_on_disk));
  const TracePicture picture = read_picture(reader);
  const std::string name = std::filesystem::path(trace).filename();
  all["trace"] = name;
  all["problem"] = reader.problem();
  for (size_t i = 0; i < reader.processes().size(); ++i) {
    const ProcessSeries& series = picture.series.of(i);
    Json& process = all["processes"][i];
    process["memory"] = memory_json(series.memory.points(), picture.first_ns);
    process["sizes"] =
        classes_json(series.sizes, [](uint64_t n) { return std::string(Line().bytes(n).c_str()); });
    process["lifetimes"] =
        classes_json(series.lifetimes, [](uint64_t n) { return std::string(Line().nanoseconds(n).c_str()); });
    process["sweeps"] = sweeps_json(series.sweeps, picture.first_ns);
  }
  const std::string page = html_page("Trace " + name, assets::trace_script(),
                                     all.dump(-1, ' ', false, Json::error_handler_t::replace));
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  out << page << std::flush;
  if (!out) throw Failure(1, fmt::format("page {}: {}", file, strerror(errno)));
}

}  // namespace nonreuse::launcher
