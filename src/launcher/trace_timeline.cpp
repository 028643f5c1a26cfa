#include "launcher/trace_timeline.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "launcher/program.hpp"
#include "launcher/trace_series.hpp"

namespace nonreuse::launcher {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint32_t kSweepTrack = 0;                      // no thread has this number
constexpr uint64_t kProcessNumbers = uint64_t{1} << 22;  // there are no more; pid_max, proc_sys_kernel(5)

class EventFile {
 public:
  explicit EventFile(const std::string& path) : path_(path), file_(std::fopen(path.c_str(), "we")) {
    if (file_ == nullptr) fail();
  }
  ~EventFile() {
    if (file_ != nullptr) std::fclose(file_);
  }
  EventFile(const EventFile&) = delete;
  EventFile& operator=(const EventFile&) = delete;

  void begin(const Json& about) {
    put("{\"displayTimeUnit\":\"ms\",\"otherData\":" + text_of(about) + ",\n\"traceEvents\":[");
  }
  void add(const Json& event) {
    put((first_ ? "\n" : ",\n") + text_of(event));
    first_ = false;
  }
  void end() {
    put("\n]}\n");
    std::FILE* file = file_;
    file_ = nullptr;
    if (std::fclose(file) != 0) fail();
  }

 private:
  // A process may call itself anything: what is no UTF-8 is replaced.
  static std::string text_of(const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  void put(const std::string& text) {
    if (std::fwrite(text.data(), 1, text.size(), file_) != text.size()) fail();
  }
  [[noreturn]] void fail() const { throw Failure(1, fmt::format("timeline {}: {}", path_, strerror(errno))); }
  std::string path_;
  std::FILE* file_;
  bool first_ = true;
};

class Timeline {
 public:
  Timeline(EventFile& file, uint64_t first_ns) : file_(file), first_ns_(first_ns) {}

  // A process number that no other process of the trace has: after exec it is another one with the same.
  void process(const TracedProcess& process) {
    const uint64_t again = seen_[process.process]++;
    process_ = process.process + again * kProcessNumbers;
    name("process_name", 0, fmt::format("{} (process {})", process.command, process.process));
    name("thread_name", kSweepTrack, "sweeps");
  }
  void sweep(const TracedSweep& sweep) {
    Json event = slice(sweep.done ? "sweep" : "abandoned sweep", sweep.begin_ns, sweep.end_ns);
    event["args"] = {{"quarantined_bytes", sweep.quarantined}, {"live_bytes", sweep.live},
                     {"released_bytes", sweep.released},       {"held_chunks", sweep.held_chunks},
                     {"held_bytes", sweep.held_bytes},         {"pause_ns", sweep.pause_ns}};
    file_.add(event);
    if (sweep.pause_ns == 0) return;
    // A trace of version 1 does not say when the stop began; most of what follows it is the release.
    const bool known = sweep.stop_ns != 0;
    const uint64_t begin = known ? sweep.stop_ns : sweep.begin_ns;
    Json stop = slice("stop", begin, begin + sweep.pause_ns);
    stop["args"] = {{"threads", "stopped"},
                    {"begin", known ? "recorded" : "not recorded: that of the sweep"}};
    file_.add(stop);
  }
  // Counters keep their value until they get another one.
  void memory(const MemoryPoint& point, const MemoryPoint* before) {
    const auto changed = [&](uint64_t MemoryPoint::*value) {
      return before == nullptr || before->*value != point.*value;
    };
    if (changed(&MemoryPoint::live)) counter("live", point.ns, point.live);
    if (changed(&MemoryPoint::quarantined)) counter("quarantined", point.ns, point.quarantined);
    if (changed(&MemoryPoint::held)) counter("held", point.ns, point.held);
    if (point.footprint != 0 && changed(&MemoryPoint::footprint))
      counter("footprint", point.ns, point.footprint);
  }

 private:
  // Microseconds since the first event, to the nanosecond.
  double since_begin(uint64_t ns) const {
    return static_cast<double>(static_cast<int64_t>(ns - first_ns_)) / 1e3;
  }
  Json slice(const char* title, uint64_t begin, uint64_t end) const {
    return {{"name", title},
            {"cat", "heap"},
            {"ph", "X"},
            {"pid", process_},
            {"tid", kSweepTrack},
            {"ts", since_begin(begin)},
            {"dur", static_cast<double>(end > begin ? end - begin : 0) / 1e3}};
  }
  void counter(const char* title, uint64_t ns, uint64_t value) {
    file_.add({{"name", title},
               {"ph", "C"},
               {"pid", process_},
               {"ts", since_begin(ns)},
               {"args", {{"bytes", value}}}});
  }
  void name(const char* what, uint32_t track, const std::string& text) {
    file_.add({{"name", what}, {"ph", "M"}, {"pid", process_}, {"tid", track}, {"args", {{"name", text}}}});
  }

  EventFile& file_;
  uint64_t first_ns_, process_ = 0;
  std::map<uint32_t, uint64_t> seen_;
};

}  // namespace

void write_timeline(TraceReader& reader, const std::string& trace, const std::string& file) {
  const TracePicture picture = read_picture(reader);
  EventFile events(file);
  events.begin({{"trace", trace}, {"recorded by", "dlmalloc_nonreuse"}});
  Timeline timeline(events, picture.first_ns);
  for (size_t i = 0; i < reader.processes().size(); ++i) {
    timeline.process(reader.processes()[i]);
    for (const TracedSweep& sweep : picture.series.of(i).sweeps) timeline.sweep(sweep);
    const MemoryPoint* before = nullptr;
    for (const MemoryPoint& point : picture.series.of(i).memory.points()) {
      timeline.memory(point, before);
      before = &point;
    }
  }
  events.end();
}

}  // namespace nonreuse::launcher
