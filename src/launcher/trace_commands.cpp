#include "launcher/trace_commands.hpp"

#include <fmt/format.h>

#include <csignal>
#include <cstdio>
#include <filesystem>

#include "base/options.hpp"
#include "base/report.hpp"
#include "launcher/program.hpp"
#include "launcher/trace_file.hpp"
#include "launcher/trace_html.hpp"
#include "launcher/trace_plot.hpp"
#include "launcher/trace_print.hpp"
#include "launcher/trace_reader.hpp"
#include "launcher/trace_stats.hpp"
#include "launcher/trace_timeline.hpp"

namespace nonreuse::launcher {

namespace {

// What is wrong with a trace is said after what could be read of it.
int verdict(const std::string& path, const TraceReader& reader) {
  if (reader.problem().empty()) return 0;
  std::fflush(stdout);
  fmt::print(stderr, "nonreuse: trace {}: {}; what was before that is shown\n", path, reader.problem());
  return 1;
}

}  // namespace

size_t pick_process(TraceReader& reader, uint32_t wanted, const std::string& file) {
  std::vector<uint64_t> calls(reader.processes().size());
  TraceEvent event;
  while (reader.next(event)) calls[event.process] += event.birth ? 0 : 1;
  size_t best = calls.size();
  for (size_t i = 0; i < calls.size(); ++i) {
    if (wanted != 0 && reader.processes()[i].process != wanted) continue;
    if (best == calls.size() || calls[i] > calls[best]) best = i;
  }
  if (best != calls.size()) return best;
  if (wanted != 0 && !calls.empty())
    throw Failure(kUsageStatus, fmt::format("trace {}: there is no process {}", file, wanted));
  throw Failure(
      1, fmt::format("trace {}: {}", file, reader.problem().empty() ? "it is empty" : reader.problem()));
}

int run_trace(const TraceRequest& s) {
  signal(SIGPIPE, SIG_IGN);
  if (s.action == TraceAction::pack) {
    const std::string reason = pack_trace(s.file);
    if (!reason.empty()) throw Failure(1, fmt::format("trace {}: is not packed: {}", s.file, reason));
    return 0;
  }
  const TraceContent content(s.file);
  TraceReader reader(content.bytes(), content.problem());
  if (s.action == TraceAction::print) {
    if (!print_trace(reader, s.printing, stdout)) return 1;
  } else if (s.action == TraceAction::stats && (!reader.processes().empty() || reader.problem().empty())) {
    const std::string text = s.json ? trace_stats_json(reader, content.size_on_disk())
                                    : trace_stats_text(reader, content.size_on_disk());
    std::fputs(text.c_str(), stdout);
  }
  const auto made = [&](const char* ending) { return s.picture.empty() ? s.file + ending : s.picture; };
  if (s.action == TraceAction::plot)
    plot_trace(reader, pick_process(reader, s.process, s.file), made(".svg"));
  if (s.action == TraceAction::timeline || s.action == TraceAction::html) {
    if (reader.processes().empty()) pick_process(reader, 0, s.file);  // says why there is nothing
    if (s.action == TraceAction::timeline)
      write_timeline(reader, s.file, made(".json"));
    else
      write_trace_html(reader, s.file, content.size_on_disk(), made(".html"));
  }
  return verdict(s.file, reader);
}

std::string prepare_trace(const std::string& options, std::string& path) {
  Options parsed = default_options();
  parsed.trace[0] = '\0';
  parse_options(options.c_str(), parsed, [](const char*) {});
  if (parsed.trace[0] == '\0') return "";
  path = std::filesystem::absolute(parsed.trace).lexically_normal();
  if (path.find(':') != std::string::npos || path.size() >= sizeof(Options::trace)) {
    throw Failure(kUsageStatus, fmt::format("trace {}: the path is too long, or has a colon", path));
  }
  remove_old_trace(path);
  return "trace=" + path;
}

std::string conclude_trace(const std::string& path) {
  std::error_code failed;
  const uint64_t before = std::filesystem::file_size(path, failed);
  if (failed) return fmt::format("nonreuse: trace {}: nothing was recorded\n", path);
  const std::string reason = pack_trace(path);
  if (!reason.empty()) return fmt::format("nonreuse:   trace       {} (not packed: {})\n", path, reason);
  return fmt::format("nonreuse:   trace       {}, {} (packed from {})\n", path,
                     Line().bytes(std::filesystem::file_size(path, failed)).c_str(),
                     Line().bytes(before).c_str());
}

}  // namespace nonreuse::launcher
