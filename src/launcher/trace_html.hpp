// `nonreuse trace html`: what a trace holds as a page for a browser.
#pragma once

#include <string>

#include "launcher/trace_reader.hpp"

namespace nonreuse::launcher {

// Writes the page to `file`. Throws Failure where that is not possible.
void write_trace_html(TraceReader& reader, const std::string& trace, size_t bytes_on_disk,
                      const std::string& file);

}  // namespace nonreuse::launcher
