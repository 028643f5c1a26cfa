// `nonreuse trace plot`: pictures of one process of a trace.
#pragma once

#include <string>

#include "launcher/trace_reader.hpp"

namespace nonreuse::launcher {

// Memory over time (live, quarantined, held, footprint), sizes, lifetimes, as one picture: .svg or .png.
void plot_trace(TraceReader& reader, size_t process, const std::string& file);

}  // namespace nonreuse::launcher
