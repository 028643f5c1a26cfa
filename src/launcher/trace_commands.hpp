// The commands `nonreuse trace ...`, and what `nonreuse run --trace` does around the program.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "launcher/trace_reader.hpp"

namespace nonreuse::launcher {

class TraceCommands {
 public:
  explicit TraceCommands(CLI::App& app);
  ~TraceCommands();
  TraceCommands(const TraceCommands&) = delete;
  TraceCommands& operator=(const TraceCommands&) = delete;

  // Whether the command line was one of these.
  bool given() const;
  // Runs it; the exit status: 0, or 1 where the trace is damaged or cut off.
  int run();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The process with this number, or, for 0, the one with most records. Throws Failure where there is none.
size_t pick_process(TraceReader& reader, uint32_t wanted, const std::string& file);

// The option `trace` in `options` made ready for a program: an absolute path at which no old trace is.
// Returns the options to add, "" if nothing is to be recorded.
std::string prepare_trace(const std::string& options, std::string& path);
// After the program: packs the trace. A line for the summary.
std::string conclude_trace(const std::string& path);

}  // namespace nonreuse::launcher
