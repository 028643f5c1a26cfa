#include "trace/recorder.hpp"

#include "base/report.hpp"
#include "platform/trace_file.hpp"

namespace nonreuse::trace {

namespace detail {
__thread Writer writer __attribute__((tls_model("initial-exec")));
constinit const volatile uint32_t* epoch = nullptr;
constinit std::atomic<bool> on{false};
constinit bool to_kernel = false;
}  // namespace detail

using detail::writer;
using detail::Writer;

namespace {

constexpr size_t kLargestWindow = 16 * kWindowUnit;
constexpr size_t kRoom = 2 * kLongestRecord + 8;  // a record may have one that tells the time before it
constexpr size_t kWorthKeeping = 1024;            // of a window that its thread leaves

constinit os::TraceFile file;
constinit uint32_t own_epoch = 0;  // used where the kernel wipes no pages: fork's handler counts it up
constinit uint32_t* epoch_word = &own_epoch;
constinit uint32_t epochs = 0;

// This process. Written by start() and after a fork, when there is one thread.
constinit uint64_t instance = 0, parent = 0, forked_ns = 0;
constinit bool said_start = false;  // the record `start` is to be the first
constinit uint64_t start_chunks = 0, start_bytes = 0;
constinit uint64_t fork_began_ns = 0;

constinit std::atomic<bool> stopped{false};  // no more windows: calls are counted only
constinit std::atomic<uint64_t> dropped_here{0};

FileHeader& header() {
  return *static_cast<FileHeader*>(file.header());
}

// Windows whose threads are gone, for others to go on in.
struct Spare {
  std::atomic<uint32_t> state;  // 0 empty, 1 somebody is at it, 2 full
  uint8_t *at, *window, *window_end;
  uint64_t window_end_offset;
};
constinit Spare spares[8] = {};

bool keep_spare(const Spare& spare) {
  for (Spare& place : spares) {
    uint32_t empty = 0;
    if (!place.state.compare_exchange_strong(empty, 1, std::memory_order_acquire)) continue;
    place.at = spare.at;
    place.window = spare.window;
    place.window_end = spare.window_end;
    place.window_end_offset = spare.window_end_offset;
    place.state.store(2, std::memory_order_release);
    return true;
  }
  return false;
}

bool take_spare(Writer& w, uint8_t** at) {
  for (Spare& place : spares) {
    uint32_t full = 2;
    if (!place.state.compare_exchange_strong(full, 1, std::memory_order_acquire)) continue;
    *at = place.at;
    w.window = place.window;
    w.window_end = place.window_end;
    w.window_end_offset = place.window_end_offset;
    place.state.store(0, std::memory_order_release);
    return true;
  }
  return false;
}

void say_stopped(os::FileTrouble trouble) {
  if (stopped.exchange(true)) return;
  Line line;
  line.text("nonreuse: trace ").text(file.path()).text(": ").text(os::trouble_text(trouble));
  line.text("; what process ").number(static_cast<uint64_t>(os::process_id()));
  line.text(" does from now on is counted, not recorded\n");
  os::write_error(line.c_str(), line.size());
}

void count_dropped() {
  dropped_here.fetch_add(1, std::memory_order_relaxed);
  __atomic_fetch_add(&header().dropped, 1, __ATOMIC_RELAXED);
}

// Ends the thread's open block. Returns where another one may start; nullptr where the window is full.
uint8_t* close_block(Writer& w) {
  BlockHeader* block = w.block;
  if (block == nullptr) return nullptr;
  auto* payload = reinterpret_cast<uint8_t*>(block + 1);
  const size_t length = static_cast<size_t>(w.at - payload);
  block->check = checksum(payload, length);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  block->length = length;
  w.block = nullptr;
  w.limit = w.at = nullptr;
  uint8_t* next = w.window + align_up(static_cast<uint64_t>(payload + length - w.window), kBlockAlign);
  return next + kWorthKeeping <= w.window_end ? next : nullptr;
}

void leave_window(Writer& w) {
  if (w.window != nullptr) os::TraceFile::unmap(w.window, static_cast<size_t>(w.window_end - w.window));
  w.window = w.window_end = nullptr;
}

void open_block(Writer& w, uint8_t* at) {
  auto* block = reinterpret_cast<BlockHeader*>(at);
  const uint64_t now = os::now_ns();
  block->instance = instance;
  block->parent = parent;
  block->forked_ns = forked_ns;
  block->process = static_cast<uint32_t>(os::process_id());
  block->thread = static_cast<uint32_t>(os::thread_id());
  block->begin_ns = now;
  block->wall_ns = os::wall_clock_ns();
  block->index = w.index++;
  block->window_end = w.window_end_offset;
  os::command_name(block->command);
  block->header_check = header_check(*block);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  block->magic = kBlockMagic;
  w.block = block;
  w.at = at + sizeof(BlockHeader);
  w.limit = w.window_end - kRoom;
  w.context = {};
  w.context.time = now;
  w.until_clock = detail::kClockEvery;
}

// A window of the file, of its own. Later ones of a thread are larger.
bool take_window(Writer& w, uint8_t** at) {
  size_t size = kWindowUnit << (w.windows < 4 ? w.windows : 4);
  if (size > kLargestWindow) size = kLargestWindow;
  size = align_up(size, os::page_size());
  const uint64_t offset = __atomic_fetch_add(&header().next, size, __ATOMIC_RELAXED);
  void* window = nullptr;
  const os::FileTrouble trouble = file.map(offset, size, &window);
  if (trouble != os::FileTrouble::none) {
    say_stopped(trouble);
    return false;
  }
  ++w.windows;
  *at = w.window = static_cast<uint8_t*>(window);
  w.window_end = w.window + size;
  w.window_end_offset = offset + size;
  return true;
}

// This process is a copy of the one that wrote so far.
void become_another() {
  ++epochs;
  *epoch_word = epochs;
  parent = instance;
  instance = os::random_word() | 1;
  forked_ns = fork_began_ns != 0 ? fork_began_ns : os::now_ns();
  said_start = true;  // of a child there is none: its heap is its parent's
  dropped_here.store(0, std::memory_order_relaxed);
  for (Spare& spare : spares) spare.state.store(0, std::memory_order_relaxed);
}

uint32_t time_passed(Writer& w) {
  if (os::single_threaded() && --w.until_clock != 0) return 0;
  w.until_clock = detail::kClockEvery;
  const uint64_t now = os::now_ns();
  const uint64_t passed = now - w.context.time;
  if (passed > 0xffff'ffff) [[unlikely]] {
    Encoder record(w.at);
    record.start(Rare::pause, passed);
    w.at = record.finish();
    w.context.time = now;
    return 0;
  }
  w.context.time = now;
  return static_cast<uint32_t>(passed);
}

// The thread's writer with room for a record, or nullptr.
NONREUSE_ALWAYS_INLINE Writer* ready_writer(bool call = true) {
  Writer& w = writer;
  if (w.at >= w.limit || w.epoch != *detail::epoch) [[unlikely]] {
    if (!detail::renew(call)) return nullptr;
  }
  return &w;
}

NONREUSE_ALWAYS_INLINE void done(Writer& w, uint8_t* at) {
  w.at = at;
  if (w.ending) [[unlikely]]
    detail::settle();
}

// True: the kernel has the record. Elsewhere nothing is compiled.
NONREUSE_ALWAYS_INLINE bool in_kernel(uint64_t old, size_t size, uint64_t made) {
  if constexpr (os::kKernelTraces) {
    if (detail::to_kernel) {
      os::kernel_trace(old, size, made);
      return true;
    }
  }
  return false;
}

void note_failed(size_t alignment, size_t size) {
  uint64_t shift = 0;
  for (; alignment > 1; alignment >>= 1) ++shift;
  const uint64_t fields[] = {size, shift};
  note_fields(Rare::failed, fields);
}

}  // namespace

namespace detail {

bool renew(bool call) {
  Writer& w = writer;
  if (*epoch == 0) become_another();
  uint8_t* at = nullptr;
  if (w.epoch != *epoch) {  // what it has belongs to the parent, and is not mapped here
    const bool ending = w.ending;
    w = {};
    w.ending = ending;
    w.epoch = *epoch;
  } else {
    at = close_block(w);
    // Full to the brim but for what close_block finds worth keeping.
    if (at == nullptr) leave_window(w);
  }
  if (stopped.load(std::memory_order_relaxed) ||
      (at == nullptr && !take_spare(w, &at) && !take_window(w, &at))) {
    if (call) count_dropped();
    return false;
  }
  open_block(w, at);
  if (!said_start) {
    said_start = true;
    Encoder record(w.at);
    record.start(Rare::start, 0);
    record.leb(start_chunks);
    record.leb(start_bytes);
    w.at = record.finish();
  }
  return true;
}

// Ending threads leave no block open and keep no window: nobody would close it.
void settle() {
  Writer& w = writer;
  if (w.block == nullptr || w.epoch != *epoch) return;
  uint8_t* rest = close_block(w);
  if (rest == nullptr || !keep_spare({{}, rest, w.window, w.window_end, w.window_end_offset}))
    leave_window(w);
  w.window = w.window_end = nullptr;
}

}  // namespace detail

bool start(const char* path, uint64_t live_chunks, uint64_t live_bytes) {
  FileHeader fresh{kFileMagic, kVersion, kFileHeaderBytes, kFileHeaderBytes, 0};
  const os::FileTrouble trouble =
      file.open(path, &fresh, sizeof fresh, offsetof(FileHeader, next), kFileHeaderBytes);
  if (trouble != os::FileTrouble::none) {
    Line line;
    line.text("nonreuse: trace ").text(path).text(": ").text(os::trouble_text(trouble));
    line.text("; nothing is recorded\n");
    os::write_error(line.c_str(), line.size());
    return false;
  }
  if (uint32_t* page = os::map_page_wiped_by_fork(); page != nullptr) epoch_word = page;
  detail::epoch = epoch_word;
  *epoch_word = epochs = 1;
  instance = os::random_word() | 1;
  start_chunks = live_chunks;
  start_bytes = live_bytes;
  detail::on.store(true, std::memory_order_relaxed);
  ready_writer(false);  // a process that allocates nothing is in the trace as well
  return true;
}

void start_kernel() {
  detail::to_kernel = true;
  detail::on.store(true, std::memory_order_relaxed);
  os::kernel_trace(0, 0, 0);
}

void note_malloc(size_t size, uint64_t made) {
  if (in_kernel(0, size, made)) return;
  if (made == 0) return note_failed(1, size);
  Writer* w = ready_writer();
  if (w == nullptr) return;
  const uint32_t passed = time_passed(*w);
  const uint64_t granule = made >> kGranuleShift;
  Encoder record(w->at);
  record.start(Kind::malloc, passed);
  record.size(size);
  record.address(granule - w->context.made);
  w->context.made = granule;
  done(*w, record.finish());
}

void note_free(uint64_t old) {
  if (in_kernel(old, 0, 0)) return;
  if (old % kGranule != 0) {
    const uint64_t fields[] = {old};
    return note_fields(Rare::free_raw, fields);
  }
  Writer* w = ready_writer();
  if (w == nullptr) return;
  const uint32_t passed = time_passed(*w);
  const uint64_t granule = old >> kGranuleShift;
  Encoder record(w->at);
  record.start(Kind::free, passed);
  record.address(granule - w->context.dropped);
  w->context.dropped = granule;
  done(*w, record.finish());
}

void note_realloc(uint64_t old, size_t size, uint64_t made) {
  if (in_kernel(old, size, made)) return;
  if (old % kGranule != 0) {
    const uint64_t fields[] = {old, size, made};
    return note_fields(Rare::raw_realloc, fields);
  }
  Writer* w = ready_writer();
  if (w == nullptr) return;
  const uint32_t passed = time_passed(*w);
  const uint64_t granule = old >> kGranuleShift;
  const uint64_t difference = granule - w->context.dropped;
  w->context.dropped = granule;
  Encoder record(w->at);
  if (made == 0) {
    record.start(Rare::failed_realloc, passed);
    record.leb(zigzag(difference));
    record.leb(size);
  } else {
    record.start(Kind::realloc, passed);
    record.size(size);
    record.address(difference);
    w->context.made = made >> kGranuleShift;
    record.moved(w->context.made - granule);
  }
  done(*w, record.finish());
}

void note_aligned(size_t alignment, size_t size, uint64_t made) {
  if (in_kernel(0, size, made)) return;
  if (made == 0) return note_failed(alignment, size);
  Writer* w = ready_writer();
  if (w == nullptr) return;
  const uint32_t passed = time_passed(*w);
  const uint64_t granule = made >> kGranuleShift;
  uint64_t shift = 0;
  for (; alignment > 1; alignment >>= 1) ++shift;
  Encoder record(w->at);
  record.start(Rare::aligned, passed);
  record.leb(zigzag(granule - w->context.made));
  record.leb(size);
  record.leb(shift);
  w->context.made = granule;
  done(*w, record.finish());
}

void note_fields(Rare kind, const uint64_t* fields) {
  const bool call = kind == Rare::failed || kind == Rare::free_raw || kind == Rare::raw_realloc;
  Writer* w = ready_writer(call);
  if (w == nullptr) return;
  w->until_clock = 1;  // these are rare, and their times matter
  const uint32_t passed = time_passed(*w);
  Encoder record(w->at);
  record.start(kind, passed);
  for (size_t i = 0; i < kRareFields[static_cast<size_t>(kind)]; ++i) record.leb(fields[i]);
  done(*w, record.finish());
}

namespace {
bool writing() {
  return recording() && !detail::to_kernel;
}
}  // namespace

void before_fork() {
  if (writing()) fork_began_ns = os::now_ns();
}

void after_fork_in_child() {
  if (!writing()) return;
  *epoch_word = 0;
  detail::renew(false);  // now: a child that allocates nothing is in the trace as well
  fork_began_ns = 0;
}

void thread_ends() {
  if (!writing()) return;
  writer.ending = true;
  detail::settle();
}

void finish(uint64_t live_chunks, uint64_t live_bytes) {
  if (!writing()) return;
  note(Rare::finish, live_chunks, live_bytes);
  detail::settle();  // the block gets its check; what comes after exit handlers goes to another one
  const uint64_t lost = dropped_here.load(std::memory_order_relaxed);
  if (lost == 0) return;
  Line line;
  line.text("nonreuse: trace ").text(file.path()).text(": ").number(lost);
  line.text(" calls of process ").number(static_cast<uint64_t>(os::process_id())).text(" are not recorded\n");
  os::write_error(line.c_str(), line.size());
}

}  // namespace nonreuse::trace
