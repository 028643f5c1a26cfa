// The recorder: writes what the heap is asked for to the file of the option `trace`.
//
// Every thread writes records to a window of its own, a piece of the file mapped shared: no lock, no line
// that another thread writes, no buffer that a killed process, exec or _exit could lose, and nothing that
// fork could copy. Windows are handed out by a counter in the file's header, which all processes that write
// share. A thread that ends closes its block and leaves the rest of its window to the next.
//
// Order between threads: malloc and realloc are stamped after the call, free before it, by a clock that all
// threads of the machine share; while the process has one thread the clock is read every kClockEvery records
// only. What cannot be recorded (disk full, ...) is counted in the file's header, and said once.
//
// Thread-safety: everything may be called by any thread at any time, but in signal handlers. Nothing here
// takes a lock, allocates from the heap, or changes errno.
#pragma once

#include <atomic>

#include "platform/attributes.hpp"
#include "platform/os.hpp"
#include "trace/encode.hpp"

namespace nonreuse::trace {

namespace detail {

inline constexpr uint32_t kClockEvery = 32;

// What a thread has in hand.
struct Writer {
  uint8_t* at = nullptr;     // where the next record goes
  uint8_t* limit = nullptr;  // no record starts behind it
  uint32_t epoch = 0;        // of the process when the window was taken
  uint32_t until_clock = 0;  // records until the clock is read again
  Context context;
  BlockHeader* block = nullptr;  // the open one, or nullptr
  uint8_t* window = nullptr;     // where it is mapped
  uint8_t* window_end = nullptr;
  uint64_t window_end_offset = 0;  // in the file
  uint64_t index = 0;              // of the next block
  uint32_t windows = 0;            // taken so far: later ones are larger
  bool ending = false;             // the thread is past its destructors
};

extern __thread Writer writer __attribute__((tls_model("initial-exec")));
// The number of the process: it reads 0 in a process that was copied behind the library's back.
extern const volatile uint32_t* epoch;
extern std::atomic<bool> on;
extern bool to_kernel;

// A window for this thread. False: there is none, and the call, if it is one, is counted.
NONREUSE_NOINLINE bool renew(bool call = true);
void settle();  // behind a record of an ending thread

}  // namespace detail

// Whether calls are to be handed to the functions below.
inline bool recording() {
  return detail::on.load(std::memory_order_relaxed);
}

// Starts recording to `path`. `live_chunks` and `live_bytes` are in the heap already. False, after one line
// on standard error: it cannot be done. Call once, before the process has other threads.
bool start(const char* path, uint64_t live_chunks, uint64_t live_bytes);

// Starts handing calls to the kernel's own trace of the process, where it has one (os::kKernelTraces).
void start_kernel();

void note_malloc(size_t size, uint64_t made);
void note_aligned(size_t alignment, size_t size, uint64_t made);
void note_realloc(uint64_t old, size_t size, uint64_t made);
void note_free(uint64_t old);  // before the chunk is free

void note_fields(Rare kind, const uint64_t* fields);
// One of the rarer records. Does nothing where nothing is recorded.
template <class... Fields>
void note(Rare kind, Fields... fields) {
  static_assert(sizeof...(fields) <= kMostFields);
  if (!recording() || detail::to_kernel) return;
  const uint64_t values[kMostFields + 1] = {static_cast<uint64_t>(fields)...};
  note_fields(kind, values);
}

void before_fork();
void after_fork_in_child();
void thread_ends();  // records that follow are of its last frees
// The program's exit handlers have run; the heap holds so much by its own count.
void finish(uint64_t live_chunks, uint64_t live_bytes);

}  // namespace nonreuse::trace
