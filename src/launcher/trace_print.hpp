// `nonreuse trace print`: what kdump(1) prints of a FreeBSD program's utrace(2) records, a line a call.
#pragma once

#include <cstdio>
#include <string>

#include "launcher/trace_reader.hpp"

namespace nonreuse::launcher {

struct PrintRequest {
  bool calls_only = false;  // only what FreeBSD's malloc records
  bool times = false;       // seconds since the trace began, before each line's type
};

// Writes all records in order of time. False: the output is gone.
bool print_trace(TraceReader& reader, const PrintRequest& request, std::FILE* out);

// "0x45e00000 = malloc(50708)"; "" for what has no text in this form.
std::string call_text(const trace::Record& record, bool calls_only);

}  // namespace nonreuse::launcher
