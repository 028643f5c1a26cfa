#include "launcher/dangling_report.hpp"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <map>

#include "base/report.hpp"
#include "launcher/dangling.hpp"
#include "launcher/program.hpp"
#include "launcher/report_html.hpp"
#include "launcher/symbols.hpp"
#include "platform/linux_registers.hpp"

namespace nonreuse::launcher {
namespace {

using nlohmann::json;

std::string hex(uint64_t value) {
  return fmt::format("0x{:x}", value);
}

std::string last_part(const std::string& path) {
  return path.substr(path.find_last_of('/') + 1);
}

json text_or_null(const std::string& text) {
  return text.empty() ? json(nullptr) : json(text);
}

// A frame of the JSON in one line.
std::string frame_line(const json& frame) {
  const auto text = [&](const char* key) {
    return frame[key].is_null() ? "" : frame[key].get<std::string>();
  };
  const auto number = [&](const char* key) { return strtoull(text(key).c_str(), nullptr, 16); };
  CodeFrame code;
  code.address = number("address");
  code.offset = number("module_offset");
  code.module = text("module");
  code.symbol = text("symbol");
  code.file = text("file");
  code.line = frame["line"].is_null() ? 0 : frame["line"].get<int>();
  return frame_text(code);
}

std::string time_text() {
  const time_t now = time(nullptr);
  tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

// Where the thread-local blocks of a thread are: number of the module, and its block.
struct ThreadBlocks {
  pid_t thread = 0;
  uint64_t pointer = 0;
  std::vector<std::pair<uint64_t, size_t>> blocks;  // in ascending order
};

class Reporter {
 public:
  Reporter(pid_t process, uint64_t descriptor, pid_t asking) : process_(process), asking_(asking) {
    process_.stop();
    mappings_ = process_.mappings();
    if (descriptor == 0) descriptor = find_descriptor(process_, mappings_);
    leave_out_library(descriptor);
    heap_.emplace(process_, descriptor);
    symbols_.emplace(process);
    for (const ObservedThread& thread : process_.threads()) {
      frames_.push_back(symbols_->frames(thread.id));
      blocks_.push_back(blocks_of(thread));
    }
  }

  json report() {
    json result;
    result["program"] = process_.command();
    result["pid"] = process_.id();
    result["time"] = time_text();
    std::map<std::pair<StackId, StackId>, Group> groups;
    uint64_t chunks = 0, bytes = 0;
    for (DanglingChunk& dangling : find_dangling(process_, mappings_, *heap_)) {
      if (!leave_out_own(dangling)) continue;
      const HeapChunk& which = heap_->chunks()[dangling.chunk];
      const ChunkRecord record = heap_->record(which);
      ++chunks;
      bytes += which.bytes();
      add(groups[{stack_of(record.made), stack_of(record.freed)}], record, which.bytes(),
          std::move(dangling));
    }
    result["chunks_dangling"] = chunks;
    result["bytes_dangling"] = bytes;
    result["stacks_recorded"] = heap_->has_stacks() && heap_->descriptor().unwinder != 0;
    result["stacks_dropped"] = heap_->descriptor().dropped;
    json list = json::array();
    std::vector<const std::pair<const std::pair<StackId, StackId>, Group>*> sorted;
    sorted.reserve(groups.size());
    for (const auto& group : groups) sorted.push_back(&group);
    const auto larger = [](const auto* a, const auto* b) { return a->second.bytes > b->second.bytes; };
    std::stable_sort(sorted.begin(), sorted.end(), larger);
    for (const auto* group : sorted) list.push_back(group_json(group->first, group->second));
    result["groups"] = std::move(list);
    return result;
  }

 private:
  // The library's own variables are no roots.
  void leave_out_library(uint64_t descriptor) {
    std::string name;
    uint64_t end = 0;
    for (const ObservedMapping& mapping : mappings_) {
      if (mapping.range.contains(descriptor) && !mapping.name.empty()) name = mapping.name;
    }
    // The descriptor may lie in the module's nameless tail.
    for (size_t i = 1; name.empty() && i < mappings_.size(); ++i) {
      if (mappings_[i].range.contains(descriptor)) name = mappings_[i - 1].name;
    }
    if (last_part(name).find("dlmalloc_nonreuse") == std::string::npos) return;  // linked to the program
    for (ObservedMapping& mapping : mappings_) {
      const bool tail = mapping.name.empty() && mapping.range.begin == end;
      const bool companion = last_part(mapping.name) == "libnonreuse_stacks.so";
      if (mapping.name != name && !companion && !tail) continue;
      end = mapping.range.end;
      mapping.kind = MappingKind::ignored;
    }
  }

  ThreadBlocks blocks_of(const ObservedThread& thread) const {
    ThreadBlocks found;
    found.thread = thread.id;
    found.pointer = thread.thread_pointer;
    uint64_t table = 0, count = 0;
    if (!process_.read_value(thread.thread_pointer + static_cast<uint64_t>(kRegisterLayout.table_offset),
                             table) ||
        !process_.read_value(table - 16, count))
      return found;
    for (size_t number = 1; number <= std::min<uint64_t>(count, 64); ++number) {
      uint64_t block = 0;
      if (process_.read_value(table + 16 * number, block) && block != 0 && block + 1 != 0)
        found.blocks.emplace_back(block, number);
    }
    std::sort(found.blocks.begin(), found.blocks.end());
    return found;
  }

  json frame(const CodeFrame& code) {
    return {{"address", hex(code.address)},
            {"module", text_or_null(code.module)},
            {"module_offset", code.module.empty() ? json(nullptr) : json(hex(code.offset))},
            {"symbol", text_or_null(code.symbol)},
            {"file", text_or_null(code.file)},
            {"line", code.file.empty() ? json(nullptr) : json(code.line)}};
  }

  json stack(StackId id, size_t most = ~size_t{0}) {
    json frames = json::array();
    for (const uint64_t address : heap_->stack(id)) {
      if (frames.size() >= most) break;
      for (const CodeFrame& code : symbols_->frames_at(address)) frames.push_back(frame(code));
    }
    return frames;
  }

  static constexpr size_t kMostChunks = 16;  // of a group that are told one by one

  // Chunks that were allocated at the same place and freed at the same place.
  struct Group {
    uint64_t count = 0, bytes = 0, size_min = 0, size_max = 0, age_min = 0, age_max = 0;
    std::vector<DanglingChunk> chunks;  // the first of them
  };

  uint64_t age(const ChunkRecord& record) const {
    return record.freed == 0 ? 0 : age_of(record.freed, heap_->descriptor().epoch);
  }

  void add(Group& group, const ChunkRecord& record, uint64_t bytes, DanglingChunk chunk) const {
    const bool first = group.count++ == 0;
    group.bytes += bytes;
    group.size_min = first ? bytes : std::min(group.size_min, bytes);
    group.size_max = std::max(group.size_max, bytes);
    group.age_min = first ? age(record) : std::min(group.age_min, age(record));
    group.age_max = std::max(group.age_max, age(record));
    if (group.chunks.size() < kMostChunks) group.chunks.push_back(std::move(chunk));
  }

  json group_json(const std::pair<StackId, StackId>& stacks, const Group& group) {
    json chunks = json::array();
    for (const DanglingChunk& chunk : group.chunks) chunks.push_back(chunk_json(chunk));
    return {{"count", group.count},
            {"bytes", group.bytes},
            {"size_min", group.size_min},
            {"size_max", group.size_max},
            {"age_sweeps_min", group.age_min},
            {"age_sweeps_max", group.age_max},
            {"allocated", stack(stacks.first)},
            {"freed", stack(stacks.second)},
            {"chunks", std::move(chunks)}};
  }

  // Takes out what lies in the library's own frames. False: nothing is left.
  bool leave_out_own(DanglingChunk& dangling) {
    const size_t before = dangling.pointers.size();
    std::erase_if(dangling.pointers, [&](const PointerPlace& place) { return is_own(place); });
    dangling.pointer_count -= before - dangling.pointers.size();
    return !dangling.pointers.empty();
  }

  bool is_own(const PointerPlace& place) {
    if (place.kind != PointerPlace::Kind::register_ && place.kind != PointerPlace::Kind::stack) return false;
    const pid_t thread = process_.threads()[place.thread].id;
    // It is inside the library, and exit(3) does not return.
    if (place.kind == PointerPlace::Kind::register_) return thread == asking_;
    if (is_thread_local(place.address)) return false;
    const std::vector<LiveFrame>& frames = frames_[place.thread];
    size_t in = frames.size();
    for (size_t i = 0; i < frames.size(); ++i) {
      if (frames[i].stack_pointer <= place.address) in = i;
    }
    if (in == frames.size()) return thread == asking_;
    return (thread == asking_ && in < first_own_frame(place.thread)) ||
           is_library_code(frames[in].program_counter);
  }

  // Index of the frame that called exit(3), or that follows the library's.
  size_t first_own_frame(size_t thread) {
    const std::vector<LiveFrame>& frames = frames_[thread];
    constexpr std::array kExit = {"exit", "__run_exit_handlers", "_dl_fini", "_dl_call_fini"};
    size_t first = 0;
    for (size_t i = 0; i < frames.size(); ++i) {
      const std::string& name = symbols_->function(frames[i].program_counter, frames[i].exact).symbol;
      if (std::find(kExit.begin(), kExit.end(), name) != kExit.end()) first = i + 1;
    }
    return first;
  }

  json chunk_json(const DanglingChunk& dangling) {
    const HeapChunk& which = heap_->chunks()[dangling.chunk];
    const ChunkRecord record = heap_->record(which);
    const auto thread = [](uint64_t word) { return word == 0 ? json(nullptr) : json(thread_of(word)); };
    json pointers = json::array();
    for (const PointerPlace& place : dangling.pointers) pointers.push_back(pointer(place));
    return {{"address", hex(heap_->address(which))},
            {"size", which.bytes()},
            {"age_sweeps", record.freed == 0 ? json(nullptr) : json(age(record))},
            {"allocated_thread", thread(record.made)},
            {"freed_thread", thread(record.freed)},
            {"pointer_count", dangling.pointer_count},
            {"pointers", std::move(pointers)}};
  }

  json pointer(const PointerPlace& place) {
    json result = {
        {"kind", "mapping"}, {"where", ""},       {"address", nullptr},       {"value_offset", place.offset},
        {"module", nullptr}, {"symbol", nullptr}, {"symbol_offset", nullptr}, {"thread", nullptr},
        {"frame", nullptr},  {"owner", nullptr}};
    if (place.address != 0) result["address"] = hex(place.address);
    switch (place.kind) {
      case PointerPlace::Kind::register_:
        describe_register(place, result);
        break;
      case PointerPlace::Kind::heap:
        describe_owner(place, result);
        break;
      case PointerPlace::Kind::stack:
        if (!describe_thread_local(place, result)) describe_stack(place, result);
        break;
      case PointerPlace::Kind::memory:
        if (!describe_thread_local(place, result)) describe_memory(place, result);
        break;
    }
    return result;
  }

  bool is_library_code(uint64_t address) {
    const std::string name = last_part(symbols_->code(address).module);
    return name.starts_with("libdlmalloc_nonreuse") || name.starts_with("libnonreuse_stacks");
  }

  // The innermost frame that is the program's.
  const LiveFrame* top_frame(size_t thread) {
    for (const LiveFrame& live : frames_[thread]) {
      if (!is_library_code(live.program_counter)) return &live;
    }
    return nullptr;
  }

  void describe_register(const PointerPlace& place, json& result) {
    const pid_t thread = process_.threads()[place.thread].id;
    const std::string name =
        place.number < kRegisterNames.size() ? kRegisterNames[place.number] : "a vector register";
    std::string where = fmt::format("{}{} of thread {}",
                                    place.number < kRegisterNames.size() ? "register " : "", name, thread);
    if (const LiveFrame* live = top_frame(place.thread); live != nullptr) {
      const CodeFrame& code = symbols_->code(live->program_counter, live->exact);
      where += ", in " + frame_text(code);
      result["frame"] = frame(code);
    }
    result["kind"] = "register";
    result["where"] = where;
    result["symbol"] = name;
    result["thread"] = thread;
  }

  void describe_owner(const PointerPlace& place, json& result) {
    const HeapChunk& owner = heap_->chunks()[place.owner];
    constexpr size_t kMostOwnerFrames = 8;
    json allocated = stack(stack_of(heap_->record(owner).made), kMostOwnerFrames);
    std::string where =
        fmt::format("{} bytes into the {} chunk {} of {} bytes", place.address - heap_->address(owner),
                    owner.freed ? "freed" : "live", hex(heap_->address(owner)), owner.bytes());
    if (!allocated.empty()) where += ", allocated by " + frame_line(allocated.front());
    result["kind"] = "heap";
    result["where"] = where;
    result["owner"] = {{"address", hex(heap_->address(owner))},
                       {"size", owner.bytes()},
                       {"freed", owner.freed},
                       {"allocated", std::move(allocated)}};
  }

  bool is_thread_local(uint64_t address) {
    PointerPlace place;
    place.address = address;
    json ignored;
    return describe_thread_local(place, ignored);
  }

  bool describe_thread_local(const PointerPlace& place, json& result) {
    for (const ThreadBlocks& thread : blocks_) {
      constexpr uint64_t kDescriptorBytes = 2304, kMostBytes = 65536;
      const auto above = std::upper_bound(thread.blocks.begin(), thread.blocks.end(),
                                          std::pair<uint64_t, size_t>{place.address, ~size_t{0}});
      const bool in_block = above != thread.blocks.begin() && place.address - (above - 1)->first < kMostBytes;
      const bool below = place.address < thread.pointer;
      if (place.address - thread.pointer < kDescriptorBytes && kRegisterLayout.table_offset > 0) {
        result["where"] = fmt::format("the C library's descriptor of thread {}", thread.thread);
      } else if (in_block && below == ((above - 1)->first < thread.pointer)) {
        const auto [block, number] = *(above - 1);
        const DataName name = symbols_->thread_local_data(number, place.address - block);
        result["module"] = text_or_null(name.module);
        result["symbol"] = text_or_null(name.symbol);
        result["symbol_offset"] = name.symbol.empty() ? json(nullptr) : json(name.offset);
        const std::string what = name.symbol.empty()
                                     ? fmt::format("thread-local data+{}", place.address - block)
                                     : fmt::format("thread-local {}+{}", name.symbol, name.offset);
        result["where"] =
            fmt::format("{}{} of thread {}", what, name.module.empty() ? "" : " in " + last_part(name.module),
                        thread.thread);
      } else {
        continue;
      }
      result["kind"] = "static";
      result["thread"] = thread.thread;
      return true;
    }
    return false;
  }

  void describe_stack(const PointerPlace& place, json& result) {
    const ObservedThread& thread = process_.threads()[place.thread];
    const std::vector<LiveFrame>& frames = frames_[place.thread];
    const LiveFrame* in = nullptr;
    for (const LiveFrame& live : frames) {
      if (live.stack_pointer <= place.address) in = &live;
    }
    result["kind"] = "stack";
    result["thread"] = thread.id;
    std::string where = fmt::format("stack of thread {}", thread.id);
    if (in != nullptr) {
      const CodeFrame& code = symbols_->code(in->program_counter, in->exact);
      where += ", frame of " + frame_text(code);
      result["frame"] = frame(code);
    } else {
      where += place.address < thread.stack_pointer ? ", below its stack pointer" : "";
    }
    result["where"] = where;
  }

  // An address in the module that the mapping belongs to: zeroed data follow the file's mappings, nameless.
  uint64_t module_around(size_t index) const {
    const ObservedMapping& mapping = mappings_[index];
    if (mapping.name.empty() && index > 0 && mappings_[index - 1].range.end == mapping.range.begin &&
        mappings_[index - 1].name.starts_with('/'))
      return mapping.range.begin - 1;
    return mapping.range.begin;
  }

  void describe_memory(const PointerPlace& place, json& result) {
    const DataName name = symbols_->data(place.address, module_around(place.mapping));
    const ObservedMapping& mapping = mappings_[place.mapping];
    if (!name.module.empty()) {
      result["kind"] = "static";
      result["module"] = name.module;
      result["symbol"] = text_or_null(name.symbol);
      result["symbol_offset"] = name.symbol.empty() ? json(nullptr) : json(name.offset);
      result["where"] = name.symbol.empty()
                            ? fmt::format("{}+{}", name.module, hex(name.offset))
                            : fmt::format("{}+{} in {}", name.symbol, name.offset, name.module);
      return;
    }
    result["module"] = mapping.name;
    const std::string what = !mapping.name.empty() ? mapping.name
                             : mapping.shared      ? "shared memory"
                                                   : "private memory";
    result["where"] = fmt::format("{} {}-{}, {} bytes from its start", what, hex(mapping.range.begin),
                                  hex(mapping.range.end), place.address - mapping.range.begin);
  }

  ObservedProcess process_;
  const pid_t asking_;
  std::vector<ObservedMapping> mappings_;
  std::optional<HeapImage> heap_;
  std::optional<Symbols> symbols_;
  std::vector<std::vector<LiveFrame>> frames_;  // of each thread
  std::vector<ThreadBlocks> blocks_;
};

// "1 chunk", "2 chunks"
std::string count_text(uint64_t number, const char* one) {
  return fmt::format("{} {}{}", number, one, number == 1 ? "" : "s");
}

std::string stack_lines(const char* heading, const json& frames) {
  if (frames.empty()) return fmt::format("  {}: where is not known\n", heading);
  std::string text = fmt::format("  {}\n", heading);
  for (const json& frame : frames) text += "    " + frame_line(frame) + "\n";
  return text;
}

std::string age_text(uint64_t from, uint64_t to) {
  if (to == 0) return "since the last sweep";
  if (from == to) return fmt::format("{} ago", count_text(to, "sweep"));
  return fmt::format("{} to {} sweeps ago", from, to);
}

std::string group_text(const json& group) {
  constexpr size_t kMostShown = 4, kMostPointers = 8;
  const auto range = [](uint64_t from, uint64_t to) {
    return from == to ? fmt::format("{}", from) : fmt::format("{} to {}", from, to);
  };
  std::string text = fmt::format(
      "\n{} of {} bytes ({} in all), freed {}\n", count_text(group["count"].get<uint64_t>(), "chunk"),
      range(group["size_min"], group["size_max"]), Line().bytes(group["bytes"]).c_str(),
      age_text(group["age_sweeps_min"], group["age_sweeps_max"]));
  text += stack_lines("allocated", group["allocated"]);
  text += stack_lines("freed", group["freed"]);
  size_t shown = 0;
  for (const json& chunk : group["chunks"]) {
    if (shown++ == kMostShown) break;
    text += fmt::format("  {} of {} bytes is pointed to by\n", chunk["address"].get<std::string>(),
                        chunk["size"].get<uint64_t>());
    size_t pointers = 0;
    for (const json& pointer : chunk["pointers"]) {
      if (pointers++ == kMostPointers) break;
      const uint64_t offset = pointer["value_offset"];
      text += "    " + pointer["where"].get<std::string>();
      if (!pointer["address"].is_null())
        text += fmt::format(" (at {})", pointer["address"].get<std::string>());
      text += offset == 0 ? "\n" : fmt::format(", {} bytes into it\n", offset);
    }
    if (const uint64_t all = chunk["pointer_count"]; all > kMostPointers)
      text += fmt::format("    and {} besides\n", count_text(all - kMostPointers, "word"));
  }
  if (const uint64_t all = group["count"]; all > kMostShown)
    text += fmt::format("  and {} like it\n", count_text(all - kMostShown, "chunk"));
  return text;
}

}  // namespace

json report_on(pid_t process, uint64_t descriptor, pid_t reporter) {
  return Reporter(process, descriptor, reporter).report();
}

std::string report_text(const json& report) {
  const uint64_t chunks = report["chunks_dangling"];
  std::string text =
      fmt::format("{} (process {}): ", report["program"].get<std::string>(), report["pid"].get<int>());
  if (chunks == 0) return text + "no freed chunk is pointed to\n";
  text += fmt::format("{}, {}, {} freed and still pointed to\n", count_text(chunks, "chunk"),
                      Line().bytes(report["bytes_dangling"]).c_str(), chunks == 1 ? "is" : "are");
  if (!report["stacks_recorded"].get<bool>())
    text += "where they were allocated and freed is not recorded (nonreuse run --stacks=1)\n";
  if (const uint64_t dropped = report["stacks_dropped"]; dropped != 0)
    text += fmt::format("{} stacks or records were not kept for lack of memory\n", dropped);
  for (const json& group : report["groups"]) text += group_text(group);
  return text;
}

// Paths need not be UTF-8.
std::string json_text(const json& report) {
  return report.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

std::string reports_text(const std::vector<json>& reports) {
  std::string text;
  for (const json& report : reports) text += (text.empty() ? "" : "\n") + report_text(report);
  return text;
}

void write_report(const std::string& path, const std::vector<json>& reports) {
  const json all = reports.size() == 1 ? reports.front() : json(reports);
  std::ofstream file(path);
  if (path.ends_with(".json"))
    file << json_text(all);
  else if (path.ends_with(".html"))
    file << report_html(all);
  else
    file << reports_text(reports);
  file.close();
  if (!file) throw Failure(kCannotRunStatus, fmt::format("report file {}: cannot be written", path));
}

std::string history_text(const ReportMessage& message) {
  Symbols symbols(static_cast<pid_t>(message.process));
  std::string text;
  const auto stack = [&](const std::string& heading, const RecordedStack& recorded, bool exact) {
    text += fmt::format("nonreuse:   {}", heading);
    if (recorded.thread != 0) text += fmt::format(" by thread {}", recorded.thread);
    text += recorded.count == 0 ? ": where is not known\n" : "\n";
    size_t number = 0;
    for (size_t i = 0; i < std::min<size_t>(recorded.count, kMostFrames); ++i) {
      for (const CodeFrame& frame : symbols.frames_at(recorded.frames[i], exact && i == 0))
        text += fmt::format("nonreuse:     #{} {}\n", number++, frame_text(frame));
    }
  };
  if (message.chunk != 0) {
    text += message.chunk_is_freed == 0 ? "nonreuse:   the chunk is live\n"
                                        : fmt::format("nonreuse:   the chunk is in quarantine, freed {}\n",
                                                      age_text(message.age, message.age));
    stack("allocated", message.made, false);
    if (message.chunk_is_freed != 0) stack("freed", message.freed, false);
  }
  stack("now", message.now, message.kind == ReportKind::fault);
  return text;
}

}  // namespace nonreuse::launcher
