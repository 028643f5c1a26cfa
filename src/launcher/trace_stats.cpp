#include "launcher/trace_stats.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <nlohmann/json.hpp>

#include "base/report.hpp"
#include "launcher/trace_blocks.hpp"

namespace nonreuse::launcher {
namespace {

using trace::Rare;

constexpr const char* kLifetimeNames[SizeClass::kLifetimes] = {"<10 us", "<1 ms",  "<100 ms",
                                                               "<10 s",  "longer", "never"};
constexpr uint64_t kLifetimeLimits[SizeClass::kLifetimes - 2] = {10'000, 1'000'000, 100'000'000,
                                                                 10'000'000'000};
constexpr size_t kClasses = 61;

// 0: up to 16 bytes, 1: up to 32, ...
size_t class_of(uint64_t size) {
  if (size <= 16) return 0;
  const auto index = static_cast<size_t>(std::bit_width(size - 1)) - 4;
  return std::min(index, kClasses - 1);
}

struct Totals {
  SizeClass classes[kClasses];
  uint64_t events = 0, calls = 0;
  uint64_t sweeps = 0, sweeps_abandoned = 0, released = 0, pause_ns = 0, pause_ns_max = 0;
  uint64_t first_ns = 0, last_ns = 0;
};

class Collector : public BlockVisitor {
 public:
  explicit Collector(Totals& totals) : totals_(totals) {}
  void made(size_t, size_t, const TracedBlock& block) override {
    SizeClass& of = totals_.classes[class_of(block.size)];
    ++of.made;
    of.bytes += block.size;
    ++of.lifetimes[SizeClass::kLifetimes - 1];
  }
  void resized(size_t process, size_t thread, const TracedBlock& now, const TracedBlock& before) override {
    freed(process, thread, before, now.made_ns);  // a block of another size; its age goes on
    SizeClass& old = totals_.classes[class_of(before.size)];
    --old.made;
    old.bytes -= before.size;
    --old.lifetimes[0];
    made(process, thread, now);
  }
  void freed(size_t, size_t, const TracedBlock& block, uint64_t ns) override {
    SizeClass& of = totals_.classes[class_of(block.size)];
    const uint64_t age = ns > block.made_ns ? ns - block.made_ns : 0;
    size_t lifetime = 0;
    while (lifetime < std::size(kLifetimeLimits) && age >= kLifetimeLimits[lifetime]) ++lifetime;
    ++of.lifetimes[lifetime];
    --of.lifetimes[SizeClass::kLifetimes - 1];
  }
  void noted(const TraceEvent& event) override {
    const trace::Record& r = event.record;
    if (r.rare == Rare::release) totals_.released += r.fields[0];
    if (r.rare != Rare::sweep_end) return;
    ++(r.fields[0] != 0 ? totals_.sweeps : totals_.sweeps_abandoned);
    totals_.pause_ns += r.fields[3];
    totals_.pause_ns_max = std::max(totals_.pause_ns_max, r.fields[3]);
  }

 private:
  Totals& totals_;
};

BlockTracker collect(TraceReader& reader, Totals& totals, Collector& collector) {
  BlockTracker tracker(reader.processes().size(), collector);
  TraceEvent event;
  while (reader.next(event)) {
    if (totals.first_ns == 0) totals.first_ns = event.record.time;
    totals.last_ns = std::max(totals.last_ns, event.record.time);
    if (!event.birth) ++totals.events;
    tracker.take(reader, event);
  }
  return tracker;
}

// Whether the heap's own count of live chunks at the end is what the records say.
std::string agreement(const TracedCounts& counts) {
  if (!counts.finished) return "did not end by exit()";
  const int64_t expected = static_cast<int64_t>(counts.live_then) + counts.untraced_then;
  const int64_t more = static_cast<int64_t>(counts.heap_chunks) - expected;
  if (more == 0) return "complete";
  return fmt::format("the heap has {} {} than recorded", more > 0 ? more : -more,
                     more > 0 ? "more" : "fewer");
}

std::string bytes_text(uint64_t value) {
  return Line().bytes(value).c_str();
}

std::string class_name(size_t index) {
  return bytes_text(uint64_t{16} << index);
}

uint64_t calls_of(const TracedCounts& c) {
  return c.made + c.resized + c.freed + c.failed + c.unknown;
}

}  // namespace

std::string trace_stats_text(TraceReader& reader, size_t bytes_on_disk) {
  Totals totals;
  Collector collector(totals);
  const BlockTracker tracker = collect(reader, totals, collector);
  std::string text = fmt::format("{} records of {} processes and {} threads, {} long\n", totals.events,
                                 reader.processes().size(), reader.threads().size(),
                                 Line().nanoseconds(totals.last_ns - totals.first_ns).c_str());
  const double events = static_cast<double>(std::max<uint64_t>(totals.events, 1));
  text += fmt::format(
      "{} of records, {:.2f} bytes each; {} on disk, {:.2f} bytes a record; {} calls not recorded\n",
      bytes_text(reader.record_bytes()), static_cast<double>(reader.record_bytes()) / events,
      bytes_text(bytes_on_disk), static_cast<double>(bytes_on_disk) / events, reader.dropped());
  text += fmt::format("{} sweeps, {} abandoned, {} released; pauses {} in all, longest {}\n\n", totals.sweeps,
                      totals.sweeps_abandoned, bytes_text(totals.released),
                      Line().nanoseconds(totals.pause_ns).c_str(),
                      Line().nanoseconds(totals.pause_ns_max).c_str());
  text += fmt::format("{:>7} {:<15} {:>10} {:>10} {:>10} {:>9} {:>10} {:>10}  {}\n", "process", "command",
                      "malloc", "realloc", "free", "live", "bytes", "at most", "record");
  for (size_t i = 0; i < reader.processes().size(); ++i) {
    const TracedCounts& c = tracker.counts(i);
    text += fmt::format("{:>7} {:<15} {:>10} {:>10} {:>10} {:>9} {:>10} {:>10}  {}\n",
                        reader.processes()[i].process, reader.processes()[i].command, c.made, c.resized,
                        c.freed + c.unknown, c.live, c.live_bytes, c.live_bytes_max, agreement(c));
  }
  text += fmt::format("\n{:>9} {:>10} {:>10}  freed after", "up to", "blocks", "bytes");
  text += "\n" + std::string(32, ' ');
  for (const char* name : kLifetimeNames) text += fmt::format("{:>10}", name);
  text += "\n";
  for (size_t i = 0; i < kClasses; ++i) {
    const SizeClass& of = totals.classes[i];
    if (of.made == 0) continue;
    text += fmt::format("{:>9} {:>10} {:>10} ", class_name(i), of.made, bytes_text(of.bytes));
    for (const uint64_t count : of.lifetimes) text += fmt::format("{:>10}", count);
    text += "\n";
  }
  return text;
}

std::string trace_stats_json(TraceReader& reader, size_t bytes_on_disk) {
  Totals totals;
  Collector collector(totals);
  const BlockTracker tracker = collect(reader, totals, collector);
  nlohmann::ordered_json all;
  all["records"] = totals.events;
  all["record_bytes"] = reader.record_bytes();
  all["bytes_on_disk"] = bytes_on_disk;
  all["not_recorded"] = reader.dropped();
  all["duration_ns"] = totals.last_ns - totals.first_ns;
  all["threads"] = reader.threads().size();
  all["sweeps"] = totals.sweeps;
  all["sweeps_abandoned"] = totals.sweeps_abandoned;
  all["released_bytes"] = totals.released;
  all["pause_ns_total"] = totals.pause_ns;
  all["pause_ns_max"] = totals.pause_ns_max;
  all["processes"] = nlohmann::ordered_json::array();
  for (size_t i = 0; i < reader.processes().size(); ++i) {
    const TracedProcess& process = reader.processes()[i];
    const TracedCounts& c = tracker.counts(i);
    nlohmann::ordered_json one;
    one["process"] = process.process;
    one["command"] = process.command;
    one["forked"] = process.parent != 0;
    one["calls"] = calls_of(c);
    one["malloc"] = c.made;
    one["realloc"] = c.resized;
    one["free"] = c.freed;
    one["failed"] = c.failed;
    one["older_than_the_trace"] = c.unknown;
    one["live_blocks"] = c.live;
    one["live_bytes"] = c.live_bytes;
    one["live_bytes_max"] = c.live_bytes_max;
    one["record"] = agreement(c);
    all["processes"].push_back(one);
  }
  all["size_classes"] = nlohmann::ordered_json::array();
  for (size_t i = 0; i < kClasses; ++i) {
    const SizeClass& of = totals.classes[i];
    if (of.made == 0) continue;
    nlohmann::ordered_json one;
    one["up_to"] = uint64_t{16} << i;
    one["blocks"] = of.made;
    one["bytes"] = of.bytes;
    for (size_t l = 0; l < SizeClass::kLifetimes; ++l)
      one["freed_after"][kLifetimeNames[l]] = of.lifetimes[l];
    all["size_classes"].push_back(one);
  }
  return all.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace nonreuse::launcher
