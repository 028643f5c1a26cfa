// `nonreuse trace timeline`: sweeps, stops and memory of a trace as Chrome's JSON trace events, which
// ui.perfetto.dev and chrome://tracing open.
#pragma once

#include <string>

#include "launcher/trace_reader.hpp"

namespace nonreuse::launcher {

// Writes the file. Throws Failure where that is not possible.
void write_timeline(TraceReader& reader, const std::string& trace, const std::string& file);

}  // namespace nonreuse::launcher
