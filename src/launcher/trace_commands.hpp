// The commands `nonreuse trace ...`, and what `nonreuse run --trace` does around the program.
#pragma once

#include <string>

#include "launcher/trace_print.hpp"
#include "launcher/trace_reader.hpp"

namespace nonreuse::launcher {

enum class TraceAction : uint8_t { print, stats, plot, timeline, html, pack };

// What `nonreuse trace` was told.
struct TraceRequest {
  TraceAction action = TraceAction::print;
  std::string file;
  PrintRequest printing;
  bool json = false;     // stats
  uint32_t process = 0;  // plot
  std::string picture;   // plot, timeline, html: the file that is made; "" for the trace's name and an ending
};

// The exit status: 0, or 1 where the trace is damaged or cut off.
int run_trace(const TraceRequest& request);

// The process with this number, or, for 0, the one with most records. Throws Failure where there is none.
size_t pick_process(TraceReader& reader, uint32_t wanted, const std::string& file);

// The option `trace` in `options` made ready for a program: an absolute path at which no old trace is.
// Returns the options to add, "" if nothing is to be recorded.
std::string prepare_trace(const std::string& options, std::string& path);
// After the program: packs the trace. A line for the summary.
std::string conclude_trace(const std::string& path);

}  // namespace nonreuse::launcher
