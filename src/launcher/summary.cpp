#include "launcher/summary.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/histogram.hpp"
#include "base/report.hpp"
#include "base/statistics_fields.hpp"

namespace nonreuse::launcher {
namespace {

std::string bytes(uint64_t value) {
  return Line().bytes(value).c_str();
}

std::string duration(uint64_t nanoseconds) {
  return Line().nanoseconds(nanoseconds).c_str();
}

std::string count(uint64_t number, const char* one, const char* many) {
  return fmt::format("{} {}", number, number == 1 ? one : many);
}

// Four lines under a heading.
std::string block(const std::string& heading, const nonreuse_statistics& s) {
  const uint64_t pause_mean = s.stops == 0 ? 0 : s.pause_ns_total / s.stops;
  std::string text = fmt::format("nonreuse: {}\n", heading);
  text += fmt::format("nonreuse:   heap        {} at most, {} live at the end\n", bytes(s.footprint_max),
                      bytes(s.live_bytes));
  text += fmt::format("nonreuse:   quarantine  {} waiting; {} held, {}; {} freed in all\n",
                      bytes(s.quarantined_bytes), count(s.held_chunks, "chunk", "chunks"),
                      bytes(s.held_bytes), bytes(s.freed_bytes));
  text += fmt::format("nonreuse:   sweeps      {}, {} abandoned, {} in all; {} released\n", s.sweeps,
                      s.sweeps_abandoned, duration(s.sweep_ns_total), bytes(s.released_bytes));
  text += fmt::format("nonreuse:   pauses      {}, mean {}, 99 % below {}, max {}\n", s.stops,
                      duration(pause_mean), duration(histogram_percentile(s.pause_histogram, 99)),
                      duration(s.pause_ns_max));
  return text;
}

bool read_page(const std::filesystem::path& path, StatsPage& page) {
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(&page), sizeof(page));
  return file.gcount() == sizeof(page) && page.magic == kStatsPageMagic;
}

std::string command_of(const StatsPage& page) {
  return {page.command, strnlen(page.command, sizeof(page.command))};
}

}  // namespace

std::vector<StatsPage> read_pages(const std::string& folder, uint64_t not_before_ns) {
  std::vector<StatsPage> pages;
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator(folder, failed)) {
    StatsPage page;
    if (read_page(entry.path(), page) && page.started_ns >= not_before_ns) pages.push_back(page);
  }
  std::sort(pages.begin(), pages.end(),
            [](const StatsPage& a, const StatsPage& b) { return a.started_ns < b.started_ns; });
  return pages;
}

nonreuse_statistics total_of(const std::vector<StatsPage>& pages) {
  nonreuse_statistics sum = {};
  for (const StatsPage& page : pages) {
    const nonreuse_statistics own = less_inherited(page.statistics, page.inherited);
    sum.version = own.version;
    for (const Figure& figure : kFigures) {
      uint64_t& into = sum.*figure.field;
      if (figure.kind == FigureKind::largest)
        into = std::max(into, own.*figure.field);
      else
        into += own.*figure.field;
    }
    for (const FigureHistogram& histogram : kFigureHistograms) {
      for (size_t i = 0; i < NONREUSE_HISTOGRAM_BUCKETS; ++i)
        (sum.*histogram.counts)[i] += (own.*histogram.counts)[i];
    }
  }
  return sum;
}

std::string summary_text(const std::vector<StatsPage>& pages, pid_t main_process) {
  if (pages.empty()) return "nonreuse: no process left statistics (was the library loaded?)\n";
  std::string text;
  for (const StatsPage& page : pages) {
    if (page.process_id != static_cast<uint64_t>(main_process)) continue;
    text += block(fmt::format("{} (process {})", command_of(page), page.process_id), page.statistics);
  }
  if (text.empty() || pages.size() > 1) {
    text += block(fmt::format("all {} protected processes together", pages.size()), total_of(pages));
  } else {
    text += "nonreuse:   protected   1 process\n";
  }
  return text;
}

}  // namespace nonreuse::launcher
