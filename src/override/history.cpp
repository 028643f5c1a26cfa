#include "override/history.hpp"

#include <cstring>

#include "base/report.hpp"
#include "platform/report_channel.hpp"

namespace nonreuse {
namespace {

constexpr uint64_t kPatience = 60'000'000'000;  // nanoseconds until a reporter is given up
constexpr uint32_t kMostFaults = 8;             // named; a program may go on faulting for ever

// The granule where a live chunk starts at `pointer`.
bool find_live(const void* pointer, Granule* start) {
  const Address address = number_of(pointer);
  if (!process_heap.space().heap().contains(address) || address % kGranule != 0) return false;
  *start = process_heap.space().granule(address);
  return *start < process_heap.heap().top() && TagMap::is_live(process_heap.heap().tags().load(*start));
}

void* more_memory(size_t bytes) {
  return process_heap.space().arena_allocate(bytes);
}

}  // namespace

// ---- recording --------------------------------------------------------------------------------------------

void note_made(const void* made) {
  Granule start;
  if (made != nullptr && find_live(made, &start)) stacks::note_made(start, stacks::capture());
}

// Before the call: afterwards the chunk may be somebody else's. What turns out to be freed already keeps its
// first record.
void note_freed(const void* old) {
  Granule start;
  if (find_live(old, &start)) stacks::note_freed(start, stacks::capture());
}

OldChunk note_resizing(const void* old) {
  Granule start;
  if (!find_live(old, &start)) return {};
  const OldChunk chunk{{start, process_heap.heap().tags().length(start)}, stacks::capture()};
  stacks::note_freed(start, chunk.stack);
  return chunk;
}

void note_resized(const OldChunk& old, const void* given, const void* made) {
  if (old.run.empty()) return note_made(made);
  const bool moved = made != nullptr && made != given;
  if (!moved) stacks::take_back(old.run.start);
  Granule start;
  if (made == nullptr || !find_live(made, &start)) return;
  if (moved) return stacks::note_made(start, old.stack);
  TagMap& tags = process_heap.heap().tags();
  const Granule end = start + tags.length(start);
  if (end < old.run.end() && TagMap::is_freed(tags.load(end))) stacks::note_cut(end, start, old.stack);
}

// ---- misuse -----------------------------------------------------------------------------------------------

namespace {

void fill(const ChunkRecord& record, ReportMessage& message) {
  stacks::copy(stack_of(record.made), message.made);
  stacks::copy(stack_of(record.freed), message.freed);
  message.made.thread = thread_of(record.made);
  message.freed.thread = record.freed == 0 ? 0 : thread_of(record.freed);
  message.age = age_of(record.freed, __atomic_load_n(&nonreuse_heap_descriptor.epoch, __ATOMIC_RELAXED));
}

void say(Line& line) {
  line.text("\n");
  os::write_error(line.c_str(), line.size());
}

void print_stack(const char* heading, const RecordedStack& stack) {
  Line head;
  head.text("nonreuse:   ").text(heading);
  if (stack.thread != 0) head.text(" by thread ").number(stack.thread);
  if (stack.count == 0) head.text(": where is not known");
  say(head);
  os::CodePlace places[kMostFrames];
  const bool found = os::find_code(stack.frames, stack.count, places);
  for (size_t i = 0; i < stack.count; ++i) {
    Line line;
    line.text("nonreuse:     #").number(i).text(" ").hex(stack.frames[i]);
    if (found && places[i].module[0] != '\0')
      line.text(" ").text(places[i].module).text("+").hex(places[i].offset);
    say(line);
  }
}

void add_age(Line& line, uint64_t sweeps) {
  if (sweeps == 0)
    line.text("since the last sweep");
  else
    line.number(sweeps).text(sweeps == 1 ? " sweep ago" : " sweeps ago");
}

// Without a reporter: modules and offsets, for addr2line(1).
void print_here(const ReportMessage& message) {
  if (message.chunk == 0) return print_stack("now", message.now);
  Line line;
  line.text("nonreuse:   the chunk ");
  if (message.chunk_is_freed == 0)
    line.text("is live");
  else
    add_age(line.text("is in quarantine, freed "), message.age);
  say(line);
  print_stack("allocated", message.made);
  if (message.chunk_is_freed != 0) print_stack("freed", message.freed);
  print_stack("now", message.now);
}

void tell(ReportMessage& message) {
  message.magic = kReportMagic;
  message.descriptor = address_of(&nonreuse_heap_descriptor);
  message.process = static_cast<uint32_t>(os::process_id());
  message.thread = static_cast<uint32_t>(os::thread_id());
  const char* socket = process_heap.options().report_socket;
  if (socket[0] != '\0' && os::ask_reporter(socket, &message, sizeof message, kPatience)) return;
  if (message.kind != ReportKind::at_exit) print_here(message);
}

void tell_misuse(Address address, misuse::Found found, Address chunk, size_t bytes) {
  const bool freed = found == misuse::Found::freed_start || found == misuse::Found::freed_inside;
  ReportMessage message;
  memset(&message, 0, sizeof message);
  message.kind = ReportKind::misuse;
  message.address = address;
  message.chunk = chunk;
  message.bytes = bytes;
  message.chunk_is_freed = freed ? 1 : 0;
  if (chunk != 0) fill(stacks::record(process_heap.space().granule(chunk)), message);
  stacks::capture(message.now);
  tell(message);
}

// The freed chunk around `address`, or an empty run. Takes no lock: these are called in a handler of a
// signal.
Run freed_chunk_at(uint64_t address) {
  if (!process_heap.space().heap().contains(address)) return {};
  const Granule granule = process_heap.space().granule(address);
  if (granule >= process_heap.heap().top()) return {};
  TagMap& tags = process_heap.heap().tags();
  const Run chunk = tags.covering(granule, granule);
  return !chunk.empty() && TagMap::is_freed(tags.load(chunk.start)) ? chunk : Run{};
}

bool is_use_after_free(uint64_t address) {
  static constinit std::atomic<uint32_t> named{0};
  return !freed_chunk_at(address).empty() && named.fetch_add(1, std::memory_order_relaxed) < kMostFaults;
}

void name_fault(uint64_t address, const uint64_t* frames, size_t count) {
  const Run chunk = freed_chunk_at(address);
  ReportMessage message;
  memset(&message, 0, sizeof message);
  message.kind = ReportKind::fault;
  message.address = address;
  message.chunk = process_heap.space().address(chunk.start);
  message.bytes = chunk.length << kGranuleShift;
  message.chunk_is_freed = 1;
  fill(stacks::record(chunk.start), message);
  message.now.thread = static_cast<uint64_t>(os::thread_id());
  message.now.count = count < kMostFrames ? count : kMostFrames;
  for (size_t i = 0; i < message.now.count; ++i) message.now.frames[i] = frames[i];
  Line line;
  line.text("nonreuse: use after free: ").hex(address).text(" is ").number(address - message.chunk);
  line.text(" bytes into the freed chunk ")
      .hex(message.chunk)
      .text(" of ")
      .number(message.bytes)
      .text(" bytes");
  say(line);
  tell(message);
}

}  // namespace

// ---- what observers find ----------------------------------------------------------------------------------

namespace {
template <class R>
void publish_own(const R& revoker, HeapDescriptor& descriptor) {
  if constexpr (requires { revoker.own_ranges(); }) {
    descriptor.own_at = address_of(revoker.own_ranges().data());
    descriptor.own_count = revoker.own_ranges().size();
  }
}
}  // namespace

void publish_descriptor(const ProcessRevoker& revoker) {
  HeapDescriptor& d = nonreuse_heap_descriptor;
  AddressSpace<SystemMemory>& space = process_heap.space();
  d.magic = kDescriptorMagic;
  d.version = kDescriptorVersion;
  d.top_at = address_of(process_heap.heap().top_word());
  d.tags = address_of(space.tags());
  d.heap = space.heap();
  d.tables = space.tables();
  publish_own(revoker, d);
  d.base = space.address(0);
}

bool start_history() {
  if (!process_heap.options().stacks) return false;
  if (!stacks::start(more_memory, process_heap.space().capacity())) return false;
  misuse::tell_history(tell_misuse);
  if (nonreuse_watch_faults != nullptr) nonreuse_watch_faults(is_use_after_free, name_fault);
  return true;
}

void report_at_exit() {
  if (process_heap.options().report_socket[0] == '\0') return;
  ReportMessage message;
  memset(&message, 0, sizeof message);
  message.kind = ReportKind::at_exit;
  tell(message);
}

}  // namespace nonreuse
