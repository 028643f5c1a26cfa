#include "launcher/trace_print.hpp"

#include <fmt/format.h>

namespace nonreuse::launcher {
namespace {

using trace::Kind;
using trace::Rare;
using trace::Record;

std::string rare_call(const Record& r, bool calls_only) {
  switch (r.rare) {
    case Rare::aligned:
    case Rare::failed:
      if (r.alignment > 16 && !calls_only) {
        return fmt::format("{:#x} = aligned_alloc({}, {})", r.address, r.alignment, r.size);
      }
      return fmt::format("{:#x} = malloc({})", r.address, r.size);
    case Rare::failed_realloc:
    case Rare::raw_realloc:
      return fmt::format("{:#x} = realloc({:#x}, {})", r.address, r.old, r.size);
    case Rare::free_raw:
      return fmt::format("free({:#x})", r.old);
    default:
      return "";
  }
}

std::string heap_text(const Record& r) {
  const uint64_t* f = r.fields;
  switch (r.rare) {
    case Rare::start:
      return fmt::format("start(chunks {}, bytes {})", f[0], f[1]);
    case Rare::seal:
      return fmt::format("quarantine(chunks {}, bytes {})", f[0], f[1]);
    case Rare::sweep_begin:
      return fmt::format("sweep_begin(quarantined {}, live {})", f[0], f[1]);
    case Rare::sweep_end:
      return fmt::format("sweep_end({}, held chunks {}, held {}, pause {} ns)",
                         f[0] != 0 ? "done" : "abandoned", f[1], f[2], f[3]);
    case Rare::release:
      return fmt::format("release(bytes {})", f[0]);
    case Rare::gauges:
      return fmt::format("heap(live {}, quarantined {}, held {}, footprint {})", f[0], f[1], f[2], f[3]);
    case Rare::stop:
      return fmt::format("stop(pause {} ns)", f[1]);
    case Rare::finish:
      return fmt::format("finish(chunks {}, bytes {})", f[0], f[1]);
    default:
      return "";
  }
}

}  // namespace

std::string call_text(const Record& r, bool calls_only) {
  switch (r.kind) {
    case Kind::malloc:
      return fmt::format("{:#x} = malloc({})", r.address, r.size);
    case Kind::free:
      return fmt::format("free({:#x})", r.old);
    case Kind::realloc:
      return fmt::format("{:#x} = realloc({:#x}, {})", r.address, r.old, r.size);
    case Kind::rare:
      break;
  }
  std::string text = rare_call(r, calls_only);
  if (text.empty() && !calls_only) text = heap_text(r);
  return text;
}

bool print_trace(TraceReader& reader, const PrintRequest& request, std::FILE* out) {
  uint64_t first = 0;
  TraceEvent event;
  while (reader.next(event)) {
    if (first == 0) first = event.record.time;
    const TracedProcess& process = reader.processes()[event.process];
    // A fork's child did not initialise its malloc; exec did.
    if (event.birth && process.parent != 0) continue;
    const std::string text = event.birth ? "malloc_init()" : call_text(event.record, request.calls_only);
    if (text.empty()) continue;
    const uint32_t thread = event.birth ? process.process : reader.threads()[event.thread].thread;
    std::string line = fmt::format("{:>6} {:>6} {:<8} ", process.process, thread, process.command);
    if (request.times) {
      const uint64_t passed = event.record.time - first;
      line += fmt::format("{}.{:09} ", passed / 1'000'000'000, passed % 1'000'000'000);
    }
    line += "USER  " + text + "\n";
    if (std::fwrite(line.data(), 1, line.size(), out) != line.size()) return false;
  }
  return std::fflush(out) == 0;
}

}  // namespace nonreuse::launcher
