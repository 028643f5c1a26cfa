// Where chunks were allocated and freed: a table of stacks, each kept once, and a record for each chunk.
//
// Stacks come from an unwinder in a companion library, found through a weak symbol, since this library
// depends on libc alone. Memory comes from the heap's own tables, is never a root, and is bounded: what does
// not fit is counted. Inserting takes no lock: space is taken by a counter, an entry is written, and one
// compare-and-swap makes it findable; who loses the race wastes its space.
//
// Thread-safety: everything may be called by any thread, but for start(). Nothing here changes errno. A call
// from inside the unwinder (which may allocate) gets kUnknownStack.
#pragma once

#include <atomic>

#include "base/heap_descriptor.hpp"

// At most `most` return addresses of the calling thread, innermost first; their number.
extern "C" __attribute__((weak, visibility("default"))) size_t nonreuse_capture_stack(uint64_t* out,
                                                                                      size_t most);
// From now on, when an access to memory faults and wants(address) says so, name(address, frames, count) is
// called with the stack of the fault, innermost first, the instruction's own address first of all. That
// happens before the program's own handler runs or the default action is taken, on a stack of the
// companion's.
extern "C" __attribute__((weak, visibility("default"))) void nonreuse_watch_faults(
    bool (*wants)(uint64_t address), void (*name)(uint64_t address, const uint64_t* frames, size_t count));
extern "C" __attribute__((visibility("default"))) nonreuse::HeapDescriptor nonreuse_heap_descriptor;

namespace nonreuse::stacks {

namespace detail {
extern std::atomic<bool> on;
}

inline bool recording() {
  return detail::on.load(std::memory_order_relaxed);
}

// Starts recording for a heap of `capacity` granules. `more(bytes)` gives zeroed memory, or nullptr. False,
// after one line on standard error: there is no memory. Call once, before the process has other threads.
bool start(void* (*more)(size_t bytes), Granules capacity);

// The calling thread's stack, without the library's own frames.
StackId capture();
void capture(RecordedStack& out);
void copy(StackId id, RecordedStack& out);

void note_made(Granule start, StackId stack);
// The first of two that free the same chunk is the one that counts.
void note_freed(Granule start, StackId stack);
// It was not freed after all.
void take_back(Granule start);
// The end of a chunk that was cut off: made as `of`, freed now.
void note_cut(Granule start, Granule of, StackId stack);
ChunkRecord record(Granule start);

inline void note_sweep() {
  if (recording()) __atomic_fetch_add(&nonreuse_heap_descriptor.epoch, 1, __ATOMIC_RELAXED);
}

// While a thread forks nobody is inside the unwinder, which has locks of its own.
void before_fork();
void after_fork_in_parent();
void after_fork_in_child();

}  // namespace nonreuse::stacks
