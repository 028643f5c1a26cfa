// nonreuse: runs an unmodified program on the heap that never reuses memory still pointed to.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/options.hpp"
#include "launcher/child.hpp"
#include "launcher/dangling_report.hpp"
#include "launcher/heap_options.hpp"
#include "launcher/live_statistics.hpp"
#include "launcher/program.hpp"
#include "launcher/replay.hpp"
#include "launcher/replay_plan.hpp"
#include "launcher/reporter.hpp"
#include "launcher/summary.hpp"
#include "launcher/top.hpp"
#include "launcher/trace_commands.hpp"
#include "launcher/write_all.hpp"
#include "nonreuse_version.hpp"

namespace nonreuse::launcher {
namespace {

// What `nonreuse run` was told.
struct RunRequest {
  HeapOptions heap;
  std::string library;
  std::string summary_file;
  bool no_summary = false;
  std::string report;  // "" or "dangling"
  std::string report_file;
  std::vector<std::string> command;
};

// The values in force with the text `options` (the last one of each counts).
Options parsed(const std::string& options) {
  Options values = default_options();
  parse_options(options.c_str(), values, [](const char*) {});
  return values;
}

// A folder that only this user can use, for the statistics pages; removed with everything in it.
class PrivateFolder {
 public:
  PrivateFolder() {
    std::string parent = variable("TMPDIR");
    // The path goes through the option table: it must fit, and a colon would end it.
    if (parent.empty() || parent.find(':') != std::string::npos || parent.size() > 400) parent = "/tmp";
    std::string pattern = parent + "/nonreuse.XXXXXX";
    if (mkdtemp(pattern.data()) == nullptr) {
      throw Failure(kCannotRunStatus,
                    fmt::format("no folder {}: {} (--no-summary needs none)", pattern, strerror(errno)));
    }
    path_ = pattern;
  }
  ~PrivateFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  PrivateFolder(const PrivateFolder&) = delete;
  PrivateFolder& operator=(const PrivateFolder&) = delete;
  const std::string& path() const { return path_; }
  std::string socket() const { return path_ + "/report"; }  // where a reporter may listen

 private:
  std::string path_;
};

uint64_t wall_clock_ns() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

int open_summary(const RunRequest& request) {
  if (request.summary_file.empty()) return STDERR_FILENO;
  const int descriptor = open(request.summary_file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor < 0) {
    throw Failure(kUsageStatus, fmt::format("summary file {}: {}", request.summary_file, strerror(errno)));
  }
  return descriptor;
}

void set_preload(const std::string& library) {
  if (library.find_first_of(" \t:") != std::string::npos) {
    throw Failure(kCannotRunStatus,
                  fmt::format("library {}: {} cannot name a path with a space or colon in it", library,
                              kPreloadVariable));
  }
  setenv(kPreloadVariable, joined(library, variable(kPreloadVariable)).c_str(), 1);
}

// The companion that records stacks, if it is beside the library. Without it the library says what is
// missing.
void preload_companion(const std::string& library) {
  const std::string companion = std::filesystem::path(library).parent_path() / "libnonreuse_stacks.so";
  if (std::filesystem::exists(companion)) set_preload(companion);
}

// Before the program runs, not when it is over.
void check_writable(const std::string& path) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
  if (file < 0)
    throw Failure(kUsageStatus, fmt::format("report file {}: cannot be written: {}", path, strerror(errno)));
  close(file);
}

[[noreturn]] void run(const RunRequest& request) {
  const std::string requested = request.heap.text();
  if (request.command.empty()) throw Failure(kUsageStatus, "no program given (nonreuse run -- PROGRAM ...)");
  const std::string program = find_program(request.command.front());
  const std::string library = find_library(request.library);
  const FileHead library_head = read_file_head(library);
  if (library_head.kind != FileKind::elf) {
    throw Failure(kCannotRunStatus, "library " + library + ": is not a shared library");
  }
  check_program(program, library_head.elf);
  std::string options = joined(variable(kOptionsVariable), requested);
  const ReportRequest reporting{!request.report.empty(), request.report_file};
  if (!reporting.file.empty()) check_writable(reporting.file);
  if (reporting.dangling) options = joined(options, "stacks=1");
  if (parsed(options).stacks) preload_companion(library);
  set_preload(library);

  Ended ended;
  {
    const bool summary = !request.no_summary;
    const int output = summary ? open_summary(request) : -1;
    std::optional<PrivateFolder> folder;
    std::string pages = parsed(options).stats_dir;
    if (summary && pages.empty()) {
      pages = folder.emplace().path();
      options = joined(options, "stats_dir=" + pages);
    }
    ReporterProcess reporter;
    if (parsed(options).stacks && parsed(options).report_socket[0] == '\0') {
      if (!folder) folder.emplace();
      reporter.start(folder->socket(), reporting);
      options = joined(options, "report_socket=" + folder->socket());
    }
    std::string trace;
    options = joined(options, prepare_trace(options, trace));
    if (!options.empty()) setenv(kOptionsVariable, options.c_str(), 1);
    const uint64_t started = wall_clock_ns();
    ended = run_child(program, request.command);
    reporter.finish();
    const std::string traced = trace.empty() ? "" : conclude_trace(trace);
    if (summary) {
      signal(SIGPIPE, SIG_IGN);
      write_all(output, summary_text(read_pages(pages, started), ended.process) + traced);
    }
  }
  end_like(ended);
}

// One command-line option for each entry of the table: the help is the table.
void add_heap_options(CLI::App& command, HeapOptions& heap) {
  command.add_option("--options", heap.raw, "Options of the heap as one text: name=value:...")
      ->type_name("TEXT");
  heap.values.resize(option_specs().size());
  heap.given.resize(option_specs().size());
  size_t index = 0;
  for (const OptionSpec& spec : option_specs()) {
    std::string name = spec.name;
    std::string dashed = name;
    for (char& c : dashed) c = c == '_' ? '-' : c;
    const std::string names = name == dashed ? "--" + name : fmt::format("--{},--{}", dashed, name);
    std::string& value = heap.values[index];
    const std::string standard = default_text(spec);
    const std::string help =
        fmt::format("{} ({})", spec.help, standard.empty() ? "default: none" : "default: " + standard);
    const auto callback = [&heap, &value, i = index](const std::string& text) {
      value = text;
      heap.given[i] = true;
    };
    CLI::Option* option = command.add_option_function<std::string>(names, callback, help);
    option->type_name(values_text(spec))->group("Options of the heap")->take_last();
    ++index;
  }
}

CLI::App* add_trace_action(CLI::App& parent, const char* name, const char* help, TraceAction action,
                           TraceRequest& request) {
  CLI::App* command = parent.add_subcommand(name, help);
  command->add_option("FILE", request.file, "The trace")->required();
  command->callback([&request, action] { request.action = action; });
  return command;
}

CLI::App* add_trace_commands(CLI::App& app, TraceRequest& request) {
  CLI::App* trace = app.add_subcommand("trace", "Show what `nonreuse run --trace=FILE` has recorded");
  trace->require_subcommand(1);
  CLI::App* print = add_trace_action(*trace, "print", "A line for each call, as kdump(1) prints them",
                                     TraceAction::print, request);
  print->add_flag("--calls", request.printing.calls_only, "Only malloc, realloc and free");
  print->add_flag("--times", request.printing.times, "Seconds since the beginning");
  CLI::App* stats =
      add_trace_action(*trace, "stats", "Calls, sizes, lifetimes, sweeps", TraceAction::stats, request);
  stats->add_flag("--json", request.json, "As JSON");
  CLI::App* plot = add_trace_action(*trace, "plot", "Memory over time, sizes, lifetimes, as a picture",
                                    TraceAction::plot, request);
  plot->add_option("-o,--output", request.picture,
                   "The picture: .svg or .png (default: the trace's name and .svg)");
  plot->add_option("--process", request.process, "Of this process (default: the one with most calls)")
      ->type_name("PID");
  CLI::App* timeline =
      add_trace_action(*trace, "timeline", "Sweeps, stops and memory as a file that ui.perfetto.dev opens",
                       TraceAction::timeline, request);
  timeline->add_option("-o,--output", request.picture, "The file (default: the trace's name and .json)");
  CLI::App* html = add_trace_action(
      *trace, "html", "Memory over time, sizes, lifetimes, sweeps and pauses as a page for a browser",
      TraceAction::html, request);
  html->add_option("-o,--output", request.picture, "The page (default: the trace's name and .html)");
  add_trace_action(*trace, "pack", "Compress the file in place; the other commands read it as before",
                   TraceAction::pack, request);
  return trace;
}

CLI::App* add_replay_command(CLI::App& app, ReplayRequest& request) {
  CLI::App* command =
      app.add_subcommand("replay", "Make the recorded calls again, on this heap or another malloc");
  command->add_option("FILE", request.file, "The trace")->required();
  command
      ->add_option("--process", request.process,
                   "Replay this process of the trace (default: the one with most calls)")
      ->type_name("PID");
  command
      ->add_option("--allocator", request.allocator,
                   "Instead of this heap: a library with another malloc, or `glibc` for the C library's")
      ->type_name("PATH");
  command->add_option("--library", request.library, "This heap's library")->type_name("PATH");
  command
      ->add_option("--what-if", request.what_if, "Replay with each value of an option: percent=10,25,50,100")
      ->type_name("NAME=VALUES");
  command->add_option("--chart", request.chart, "With --what-if: draw CPU time and memory, as .svg or .png")
      ->type_name("FILE");
  command->add_flag("--json", request.json, "As JSON");
  add_heap_options(*command, request.heap);
  return command;
}

CLI::App* add_stats_command(CLI::App& app, StatsRequest& request) {
  CLI::App* command = app.add_subcommand(
      "stats", "Statistics of protected processes that run, without stopping or signalling them");
  command->add_option("PID", request.processes, "The processes")->type_name("");
  CLI::Option* all = command->add_flag("--all", request.all, "All protected processes of this system");
  command->add_option("--dir", request.folder, "What processes left in the folder of the option stats_dir")
      ->type_name("DIR")
      ->excludes(all);
  CLI::Option* json = command->add_flag("--json", request.json, "As JSON");
  command->add_flag("--prometheus", request.prometheus, "In Prometheus' text format")->excludes(json);
  return command;
}

CLI::App* add_top_command(CLI::App& app, TopRequest& request) {
  CLI::App* command = app.add_subcommand("top", "Watch all protected processes in a table");
  command->add_flag("--once", request.once, "Print the table once");
  command->add_option("--delay", request.delay, "Seconds between two looks (default: 2)")
      ->type_name("SECONDS");
  command->add_option("--sort", request.sort, "The column to sort by (default: heap)")->type_name("COLUMN");
  return command;
}

// What `nonreuse report` was told.
struct LiveReportRequest {
  int process = 0;
  bool json = false;
  std::string file;
};

CLI::App* add_report_command(CLI::App& app, LiveReportRequest& request) {
  CLI::App* command = app.add_subcommand(
      "report", "Which freed chunks of a running process are still pointed to, and from where");
  command->add_option("PID", request.process, "The process")->required()->check(CLI::PositiveNumber);
  command->add_flag("--json", request.json, "As JSON");
  command->add_option("-o,--output", request.file, "Write to this file, by its name as text, .json or .html")
      ->type_name("FILE");
  return command;
}

int report_live(const LiveReportRequest& request) {
  if (!request.file.empty()) check_writable(request.file);
  const nlohmann::json report = report_on(request.process);
  if (!request.file.empty())
    write_report(request.file, {report});
  else
    write_all(STDOUT_FILENO, request.json ? json_text(report) : report_text(report));
  return 0;
}

// CLI11 does not know that a command follows.
class RunFormatter : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App*, std::string) const override {
    return "Usage: nonreuse run [OPTIONS] -- PROGRAM [ARGUMENTS...]\n";
  }
};

// Where the program begins in the words behind `run`: after "--", or at the first word that is neither an
// option nor an option's value. What follows belongs to the program, whatever it looks like.
size_t command_start(const CLI::App& run_command, const std::vector<std::string>& words, size_t at) {
  for (; at < words.size() && words[at] != "--" && words[at].starts_with('-'); ++at) {
    const CLI::Option* option = run_command.get_option_no_throw(words[at]);
    const bool value_follows = option != nullptr && option->get_items_expected_min() > 0;
    if (value_follows && at + 1 < words.size() && words[at + 1] != "--") ++at;
  }
  return std::min(at, words.size());
}

int start(std::vector<std::string> words) {
  CLI::App app(
      "Runs programs on a heap that never hands freed memory out again while anything still points "
      "to it.",
      "nonreuse");
  app.set_version_flag("--version", fmt::format("nonreuse {}", kVersion));
  app.require_subcommand(1);

  RunRequest request;
  CLI::App* run_command = app.add_subcommand("run", "Run a program on this heap");
  run_command->formatter(std::make_shared<RunFormatter>());
  run_command->add_option("--library", request.library, "The library to preload")->type_name("PATH");
  run_command->add_flag("--no-summary", request.no_summary, "Print no summary at the end");
  run_command
      ->add_option("--summary-file", request.summary_file,
                   "Write the summary to this file instead of standard error")
      ->type_name("FILE");
  run_command
      ->add_option("--report", request.report,
                   "Report at exit which freed chunks are still pointed to, and from where")
      ->type_name("dangling")
      ->check(CLI::IsMember({"dangling"}));
  run_command
      ->add_option("--report-file", request.report_file,
                   "Write the report to this file, by its name as text, .json or .html (standard error)")
      ->type_name("FILE")
      ->needs("--report");
  add_heap_options(*run_command, request.heap);
  TraceRequest trace_request;
  const CLI::App* trace_command = add_trace_commands(app, trace_request);
  ReplayRequest replay_request;
  const CLI::App* replay_command = add_replay_command(app, replay_request);
  StatsRequest stats_request;
  const CLI::App* stats_command = add_stats_command(app, stats_request);
  TopRequest top_request;
  const CLI::App* top_command = add_top_command(app, top_request);
  LiveReportRequest report_request;
  const CLI::App* report_command = add_report_command(app, report_request);
  CLI::App* options_command = app.add_subcommand("options", "Print the table of options with their defaults");

  const bool is_command = !words.empty() && !words.front().starts_with('-');
  constexpr std::array kCommands = {"run", "report", "stats", "top", "trace", "replay", "options"};
  if (is_command && std::find(kCommands.begin(), kCommands.end(), words.front()) == kCommands.end()) {
    throw Failure(kUsageStatus, fmt::format("there is no command '{}' (known: {})", words.front(),
                                            fmt::join(kCommands, ", ")));
  }
  if (!words.empty() && words.front() == "run") {
    const auto first = words.begin() + static_cast<ptrdiff_t>(command_start(*run_command, words, 1));
    request.command.assign(first != words.end() && *first == "--" ? first + 1 : first, words.end());
    words.erase(first, words.end());
  }
  try {
    std::reverse(words.begin(), words.end());  // CLI11 takes them from the back
    app.parse(std::move(words));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    throw Failure(kUsageStatus, fmt::format("{} (see: nonreuse --help)", error.what()));
  }
  if (options_command->parsed()) {
    print_option_table();
    return 0;
  }
  if (trace_command->parsed()) return run_trace(trace_request);
  if (report_command->parsed()) return report_live(report_request);
  if (replay_command->parsed()) return run_replay(replay_request);
  if (stats_command->parsed()) return run_stats(stats_request);
  if (top_command->parsed()) return run_top(top_request);
  run(request);
}

}  // namespace
}  // namespace nonreuse::launcher

int main(int argc, char** argv) {
  // Before anything allocates: `nonreuse replay` starts this program so.
  if (argc == 3 && strcmp(argv[1], "replay-worker") == 0)
    nonreuse::launcher::replay_worker(static_cast<int>(strtol(argv[2], nullptr, 10)));
  try {
    return nonreuse::launcher::start({argv + std::min(argc, 1), argv + argc});
  } catch (const nonreuse::launcher::Failure& failure) {
    fmt::print(stderr, "nonreuse: {}\n", failure.what());
    return failure.status();
  } catch (const std::exception& error) {
    fmt::print(stderr, "nonreuse: {}\n", error.what());
    return nonreuse::launcher::kCannotRunStatus;
  }
}
