#include "launcher/replay.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/report.hpp"
#include "launcher/chart.hpp"
#include "launcher/heap_options.hpp"
#include "launcher/program.hpp"
#include "launcher/replay_plan.hpp"
#include "launcher/trace_commands.hpp"
#include "launcher/trace_file.hpp"
#include "launcher/trace_reader.hpp"

namespace nonreuse::launcher {

namespace {

// One replay to be made: how it is called, and with what.
struct Variant {
  std::string name, preload, options;
};

std::string bytes_text(uint64_t value) {
  return Line().bytes(value).c_str();
}
std::string time_text(uint64_t value) {
  return Line().nanoseconds(value).c_str();
}

[[noreturn]] void become_worker(int plan, const Variant& variant) {
  if (variant.preload.empty()) {
    unsetenv(kPreloadVariable);
  } else {
    setenv(kPreloadVariable, variant.preload.c_str(), 1);
  }
  if (variant.options.empty()) {
    unsetenv(kOptionsVariable);
  } else {
    setenv(kOptionsVariable, variant.options.c_str(), 1);
  }
  const std::string number = std::to_string(plan);
  execl("/proc/self/exe", "nonreuse", "replay-worker", number.c_str(), nullptr);
  _exit(kCannotRunStatus);
}

ReplayResult replay(const ReplayPlan& plan, const Variant& variant) {
  const int descriptor = write_plan(plan);
  const pid_t child = fork();
  if (child == 0) become_worker(descriptor, variant);
  int status = 0;
  while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  ReplayResult result{};
  void* memory = mmap(nullptr, sizeof(ReplayHeader), PROT_READ, MAP_SHARED, descriptor, 0);
  if (memory != MAP_FAILED) {
    result = static_cast<ReplayHeader*>(memory)->result;
    munmap(memory, sizeof(ReplayHeader));
  }
  close(descriptor);
  if (result.done == 1) return result;
  const std::string how = child < 0             ? strerror(errno)
                          : WIFSIGNALED(status) ? fmt::format("ended by {}", strsignal(WTERMSIG(status)))
                                                : fmt::format("ended with status {}", WEXITSTATUS(status));
  throw Failure(1, fmt::format("the replay ({}) {}", variant.name, how));
}

bool agrees(const ReplayPlan& plan, const ReplayResult& r) {
  return r.live_blocks == plan.live_blocks && r.live_bytes == plan.live_bytes && r.corrupted == 0 &&
         r.failed == 0;
}

std::string report(const ReplayPlan& plan, const Variant& variant, const ReplayResult& r) {
  std::string text = fmt::format("{}: {} calls by {} {}", variant.name, r.calls, plan.threads.size(),
                                 plan.threads.size() == 1 ? "thread" : "threads");
  if (plan.skipped != 0) text += fmt::format(" ({} on blocks older than the trace left out)", plan.skipped);
  text += fmt::format("\n  time        {} wall, {} CPU\n", time_text(r.wall_ns), time_text(r.cpu_ns));
  text += fmt::format("  peak RSS    {}, of which {} before the first call\n", bytes_text(r.peak_rss),
                      bytes_text(r.idle_rss));
  if (r.has_statistics != 0) {
    text += fmt::format("  sweeps      {}; footprint {} at most; {} held at the end\n", r.sweeps,
                        bytes_text(r.footprint_max), bytes_text(r.held_bytes));
    text += fmt::format("  pauses      {}, {} in all, 99 % below {}, max {}\n", r.pauses,
                        time_text(r.pause_ns_total), time_text(r.pause_p99), time_text(r.pause_ns_max));
  }
  text += fmt::format("  live        {} blocks, {} bytes at the end", r.live_blocks, r.live_bytes);
  if (agrees(plan, r)) return text + ", as recorded\n";
  return text + fmt::format("; recorded were {} blocks, {} bytes; {} calls failed, {} blocks were damaged\n",
                            plan.live_blocks, plan.live_bytes, r.failed, r.corrupted);
}

nlohmann::ordered_json json_of(const ReplayPlan& plan, const Variant& variant, const ReplayResult& r) {
  nlohmann::ordered_json one;
  one["name"] = variant.name;
  one["options"] = variant.options;
  one["threads"] = plan.threads.size();
  one["calls"] = r.calls;
  one["malloc"] = r.made;
  one["realloc"] = r.resized;
  one["free"] = r.freed;
  one["requested_bytes"] = r.requested_bytes;
  one["left_out"] = plan.skipped;
  one["wall_ns"] = r.wall_ns;
  one["cpu_ns"] = r.cpu_ns;
  one["peak_rss"] = r.peak_rss;
  one["idle_rss"] = r.idle_rss;
  if (r.has_statistics != 0) {
    one["sweeps"] = r.sweeps;
    one["footprint_max"] = r.footprint_max;
    one["pauses"] = r.pauses;
    one["pause_ns_total"] = r.pause_ns_total;
    one["pause_ns_p99"] = r.pause_p99;
    one["pause_ns_max"] = r.pause_ns_max;
  }
  one["live_blocks"] = r.live_blocks;
  one["live_bytes"] = r.live_bytes;
  one["live_bytes_recorded"] = plan.live_bytes;
  one["as_recorded"] = agrees(plan, r);
  return one;
}

std::string table_head() {
  return fmt::format("{:<22} {:>10} {:>10} {:>10} {:>8} {:>8} {:>10} {:>10}\n", "", "wall", "CPU", "peak RSS",
                     "sweeps", "pauses", "p99", "max");
}

std::string table_line(const Variant& variant, const ReplayResult& r) {
  return fmt::format("{:<22} {:>10} {:>10} {:>10} {:>8} {:>8} {:>10} {:>10}\n", variant.name,
                     time_text(r.wall_ns), time_text(r.cpu_ns), bytes_text(r.peak_rss), r.sweeps, r.pauses,
                     time_text(r.pause_p99), time_text(r.pause_ns_max));
}

void draw_trade_off(const std::vector<Variant>& variants, const std::vector<ReplayResult>& results,
                    const std::string& file) {
  std::string script =
      "set title 'CPU time and memory of each setting'\nset key off\nset grid\n"
      "set xlabel 'CPU time of the replay, s'\nset ylabel 'peak RSS, MiB'\n"
      "set offsets graph 0.1, graph 0.25, graph 0.1, graph 0.1\n$points << EOD\n";
  for (size_t i = 0; i < variants.size(); ++i) {
    script += fmt::format("{} {} \"{}\"\n", static_cast<double>(results[i].cpu_ns) / 1e9,
                          static_cast<double>(results[i].peak_rss) / 1048576.0, variants[i].name);
  }
  script +=
      "EOD\nplot $points using 1:2 with linespoints pt 7, $points using 1:2:3 with labels left offset 1,0.5 "
      "noenhanced\n";
  draw_chart(script, file, 900, 600);
}

// "percent=10,25" as variants of `base`.
std::vector<Variant> variants_of(const std::string& what_if, const Variant& base) {
  const size_t equals = what_if.find('=');
  if (equals == std::string::npos || equals + 1 == what_if.size()) {
    throw Failure(kUsageStatus, fmt::format("--what-if {}: write NAME=VALUE,VALUE,...", what_if));
  }
  std::vector<Variant> variants;
  for (size_t at = equals + 1; at <= what_if.size();) {
    const size_t end = std::min(what_if.find(',', at), what_if.size());
    const std::string item = what_if.substr(0, equals + 1) + what_if.substr(at, end - at);
    check_options(item);
    variants.push_back({item, base.preload, joined(base.options, item)});
    at = end + 1;
  }
  return variants;
}

}  // namespace

int run_replay(const ReplayRequest& s) {
  Variant base{"this heap", "", s.heap.text()};
  if (s.allocator.empty()) {
    base.preload = find_library(s.library);
    if (!base.options.empty()) base.name += " with " + base.options;
  } else {
    base.name = s.allocator;
    if (s.allocator != "glibc") base.preload = find_library(s.allocator);
    if (!base.options.empty() || !s.what_if.empty()) {
      throw Failure(kUsageStatus, "options of this heap mean nothing to another malloc (--allocator)");
    }
  }
  if (!s.chart.empty() && s.what_if.empty()) throw Failure(kUsageStatus, "--chart is of --what-if");
  const std::vector<Variant> variants = s.what_if.empty() ? std::vector{base} : variants_of(s.what_if, base);

  ReplayPlan plan;
  std::string problem;
  {
    const TraceContent content(s.file);
    TraceReader reader(content.bytes(), content.problem());
    plan = make_plan(reader, pick_process(reader, s.process, s.file));
    problem = reader.problem();
  }
  std::vector<ReplayResult> results;
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  bool good = true;
  if (!s.what_if.empty() && !s.json) fmt::print("{}", table_head());
  for (const Variant& variant : variants) {
    results.push_back(replay(plan, variant));
    good = good && agrees(plan, results.back());
    if (s.json) {
      all.push_back(json_of(plan, variant, results.back()));
    } else if (s.what_if.empty() || !agrees(plan, results.back())) {
      fmt::print("{}", report(plan, variant, results.back()));
    } else {
      fmt::print("{}", table_line(variant, results.back()));
    }
    std::fflush(stdout);
  }
  if (s.json) fmt::print("{}\n", (s.what_if.empty() ? all[0] : all).dump(2));
  if (!s.chart.empty()) draw_trade_off(variants, results, s.chart);
  if (problem.empty()) return good ? 0 : 1;
  std::fflush(stdout);
  fmt::print(stderr, "nonreuse: trace {}: {}; what was before that is replayed\n", s.file, problem);
  return 1;
}

}  // namespace nonreuse::launcher
