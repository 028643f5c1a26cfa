#include "launcher/top.hpp"

#include <fmt/format.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/histogram.hpp"
#include "base/report.hpp"
#include "base/statistics_fields.hpp"
#include "launcher/program.hpp"

namespace nonreuse::launcher {

const TopColumn kTopColumns[static_cast<size_t>(TopKey::count)] = {
    {"PID", "pid", 'i', 8},       {"COMMAND", "command", 'n', -15},
    {"HEAP", "heap", 'h', 9},     {"QUARANT.", "quarantine", 'u', 9},
    {"HELD", "held", 'd', 9},     {"FOOTPR.", "footprint", 'f', 9},
    {"SWEEPS", "sweeps", 's', 8}, {"SWEEP/S", "rate", 'r', 8},
    {"%CPU", "cpu", 'c', 6},      {"P99", "p99", 'p', 8},
    {"MAX", "max", 'm', 8},
};

namespace {

uint64_t wall_clock_ns() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// Fit for a terminal: a process may call itself anything.
std::string printable(const StatsPage& page) {
  std::string name(page.command, strnlen(page.command, sizeof page.command));
  for (char& c : name) {
    if (c < ' ' || c > '~') c = '?';
  }
  return name;
}

double ratio(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

uint64_t grown(uint64_t now, uint64_t before) {
  return now > before ? now - before : 0;
}

std::string bytes(uint64_t value) {
  return Line().bytes(value).c_str();
}

std::string time_text(uint64_t nanoseconds) {
  return nanoseconds == 0 ? "-" : Line().nanoseconds(nanoseconds).c_str();
}

std::string padded(const std::string& text, int width) {
  return width < 0 ? fmt::format("{:<{}.{}}", text, -width, -width) : fmt::format("{:>{}}", text, width);
}

}  // namespace

TopRow TopSampler::row_of(const StatsPage& page, uint64_t now_ns, std::map<pid_t, Before>& samples) {
  const nonreuse_statistics own = less_inherited(page.statistics, page.inherited);
  const auto process = static_cast<pid_t>(page.process_id);
  const Before now{page.started_ns, now_ns, own.sweeps, own.sweep_cpu_ns_total,
                   cpu_ns_of(process).value_or(0)};
  Before since{page.started_ns, page.started_ns, 0, 0, 0};
  const auto known = before_.find(process);
  if (known != before_.end() && known->second.started_ns == page.started_ns) since = known->second;
  samples.emplace(process, now);
  TopRow row{};
  row.process = process;
  row.command = printable(page);
  row.heap = own.live_bytes;
  row.quarantine = own.quarantined_bytes;
  row.held = own.held_bytes;
  row.footprint = own.footprint_bytes;
  row.sweeps = own.sweeps;
  row.pause_max_ns = own.pause_ns_max;
  // The end of a bucket, which may lie beyond the longest.
  row.pause_p99_ns = std::min(histogram_percentile(own.pause_histogram, 99), own.pause_ns_max);
  row.sweeps_a_second = ratio(grown(now.sweeps, since.sweeps), grown(now.now_ns, since.now_ns)) * 1e9;
  // The kernel counts CPU time in ticks, the library in nanoseconds.
  const double share = ratio(grown(now.sweep_cpu_ns, since.sweep_cpu_ns), grown(now.cpu_ns, since.cpu_ns));
  row.cpu_share = std::min(share, 1.0);
  return row;
}

std::vector<TopRow> TopSampler::sample() {
  seen_ = observe_all();
  const uint64_t now_ns = wall_clock_ns();
  std::map<pid_t, Before> samples;
  std::vector<TopRow> rows;
  for (const StatsPage& page : seen_.pages) rows.push_back(row_of(page, now_ns, samples));
  before_.swap(samples);
  return rows;
}

// The largest first; names and process ids from the beginning.
void sort_rows(std::vector<TopRow>& rows, TopKey key, bool reverse) {
  const auto value = [key](const TopRow& row) -> double {
    switch (key) {
      case TopKey::heap:
        return static_cast<double>(row.heap);
      case TopKey::quarantine:
        return static_cast<double>(row.quarantine);
      case TopKey::held:
        return static_cast<double>(row.held);
      case TopKey::footprint:
        return static_cast<double>(row.footprint);
      case TopKey::sweeps:
        return static_cast<double>(row.sweeps);
      case TopKey::rate:
        return row.sweeps_a_second;
      case TopKey::cpu:
        return row.cpu_share;
      case TopKey::pause_p99:
        return static_cast<double>(row.pause_p99_ns);
      case TopKey::pause_max:
        return static_cast<double>(row.pause_max_ns);
      case TopKey::process:
      case TopKey::command:
      case TopKey::count:
        break;
    }
    return -static_cast<double>(row.process);
  };
  std::stable_sort(rows.begin(), rows.end(), [&](const TopRow& a, const TopRow& b) {
    if (key == TopKey::command) return a.command < b.command;
    return value(a) > value(b);
  });
  if (reverse) std::reverse(rows.begin(), rows.end());
}

std::string top_heading() {
  std::string text;
  for (const TopColumn& column : kTopColumns) text += padded(column.title, column.width) + " ";
  text.pop_back();
  return text;
}

std::string top_line(const TopRow& row) {
  const std::string cells[] = {std::to_string(row.process),
                               row.command,
                               bytes(row.heap),
                               bytes(row.quarantine),
                               bytes(row.held),
                               bytes(row.footprint),
                               std::to_string(row.sweeps),
                               fmt::format("{:.1f}", row.sweeps_a_second),
                               fmt::format("{:.1f}", row.cpu_share * 100),
                               time_text(row.pause_p99_ns),
                               time_text(row.pause_max_ns)};
  static_assert(std::size(cells) == static_cast<size_t>(TopKey::count));
  std::string text;
  for (size_t i = 0; i < std::size(cells); ++i) text += padded(cells[i], kTopColumns[i].width) + " ";
  text.pop_back();
  return text;
}

int run_top(const TopRequest& request) {
  size_t key = 0;
  std::string known;
  for (const TopColumn& column : kTopColumns)
    known += fmt::format("{}{}", known.empty() ? "" : ", ", column.name);
  while (key < std::size(kTopColumns) && request.sort != kTopColumns[key].name) ++key;
  if (key == std::size(kTopColumns))
    throw Failure(kUsageStatus,
                  fmt::format("--sort={}: there is no such column (known: {})", request.sort, known));
  if (!(request.delay >= 0.1 && request.delay <= 3600))
    throw Failure(kUsageStatus, "--delay: 0.1 to 3600 seconds");
  if (!request.once) {
    if (isatty(STDOUT_FILENO) == 0 || isatty(STDIN_FILENO) == 0)
      throw Failure(kUsageStatus, "top needs a terminal; `nonreuse top --once` prints one table");
    show_top(static_cast<TopKey>(key), request.delay);
    return 0;
  }
  TopSampler sampler;
  std::vector<TopRow> rows = sampler.sample();
  if (rows.empty()) throw Failure(1, nothing_seen(sampler.seen()));
  sort_rows(rows, static_cast<TopKey>(key), false);
  fmt::print("{}\n", top_heading());
  for (const TopRow& row : rows) fmt::print("{}\n", top_line(row));
  return 0;
}

}  // namespace nonreuse::launcher
