// The heap of this process, and the fronts of its threads.
#pragma once

#include <type_traits>

#include "front/allocator.hpp"
#include "platform/probes.hpp"
#include "platform/system.hpp"
#include "revoke/cheribsd_kernel.hpp"
#include "revoke/conservative.hpp"
#include "revoke/none.hpp"
#include "trace/recorder.hpp"
#include "trace/stacks.hpp"

namespace nonreuse {

template <RevocationBy kBy>
using RevokerBy =
    std::conditional_t<kBy == RevocationBy::sweep, ConservativeRevoker,
                       std::conditional_t<kBy == RevocationBy::kernel, CheriBsdRevoker, NoRevoker>>;
using ProcessRevoker = RevokerBy<kFreebufMode ? kRevocation : RevocationBy::nobody>;
using ProcessAllocator = Allocator<SystemMemory, ProcessRevoker>;

extern ProcessAllocator process_heap;

// The calling thread's front; nullptr before its first allocation, and after its last destructor has run, and
// while calls are recorded: then every call takes the way of threads without a front, which looks for it and
// records. So calls that are not recorded cost what they cost without a recorder.
extern __thread ThreadFront* thread_front __attribute__((tls_model("initial-exec")));
// The same, whether or not calls are recorded.
extern __thread ThreadFront* own_front __attribute__((tls_model("initial-exec")));

// Makes the heap ready and gives the thread its front. nullptr where it can have none (the thread is ending,
// or memory is out): then call with the shared front, under its lock.
ThreadFront* attach_thread();
ThreadFront* lock_shared_front();  // nullptr: no memory for even that, or held already; nothing is locked
void unlock_shared_front();

// Whether calls are to be recorded, by the trace or by the table of stacks.
inline bool watching() {
  return trace::recording() || stacks::recording();
}

// What the table of stacks is told of a call. An address that is no live chunk's is passed over.
void note_made(const void* made);
void note_freed(const void* old);
struct OldChunk {  // of realloc
  Run run;
  StackId stack = kNoStack;
};
OldChunk note_resizing(const void* old);
void note_resized(const OldChunk& old, const void* given, const void* made);

// What is recorded of a call: before() it is made, or after() it with its result. The same for probes, while
// somebody is attached to one: probed().
struct Unwatched {
  void before() const {}
  template <class Result>
  void after(const Result&) const {}
  static constexpr bool probed() { return false; }
  void probe_before() const {}
  template <class Result>
  void probe_after(const Result&) const {}
};
inline uint64_t number_of(const void* pointer) {
  return static_cast<uint64_t>(reinterpret_cast<uintptr_t>(pointer));
}
struct WatchedMalloc : Unwatched {
  explicit WatchedMalloc(size_t bytes) : size(bytes) {}
  template <class Made>
  void after(const Made& made) const {
    if (trace::recording()) trace::note_malloc(size, number_of(made.get()));
    if (stacks::recording()) note_made(made.get());
  }
  static bool probed() { return probes::malloc_wanted(); }
  template <class Made>
  void probe_after(const Made& made) const {
    probes::note_malloc(size, number_of(made.get()));
  }
  size_t size;
};
struct WatchedAligned : Unwatched {
  WatchedAligned(size_t step, size_t bytes) : alignment(step), size(bytes) {}
  template <class Made>
  void after(const Made& made) const {
    if (trace::recording()) trace::note_aligned(alignment, size, number_of(made.get()));
    if (stacks::recording()) note_made(made.get());
  }
  static bool probed() { return probes::malloc_wanted(); }
  template <class Made>
  void probe_after(const Made& made) const {
    probes::note_malloc(size, number_of(made.get()));
  }
  size_t alignment, size;
};
struct WatchedRealloc : Unwatched {
  WatchedRealloc(const void* given, size_t bytes) : old(given), size(bytes) {}
  void before() {
    if (stacks::recording()) chunk = note_resizing(old);
  }
  template <class Made>
  void after(const Made& made) const {
    if (trace::recording()) trace::note_realloc(number_of(old), size, number_of(made.get()));
    if (stacks::recording()) note_resized(chunk, old, made.get());
  }
  static bool probed() { return probes::realloc_wanted(); }
  template <class Made>
  void probe_after(const Made& made) const {
    probes::note_realloc(number_of(old), size, number_of(made.get()));
  }
  const void* old;
  size_t size;
  OldChunk chunk;
};
struct WatchedFree : Unwatched {
  explicit WatchedFree(const void* given) : old(given) {}
  void before() const {
    if (trace::recording()) trace::note_free(number_of(old));
    if (stacks::recording()) note_freed(old);
  }
  static bool probed() { return probes::free_wanted(); }
  void probe_before() const { probes::note_free(number_of(old)); }
  const void* old;
};

// Runs body(front) with a front of this thread, or the shared one; `otherwise` where there is neither.
template <class Body, class Result>
NONREUSE_ALWAYS_INLINE Result with_found_front(Body&& body, Result otherwise) {
  ThreadFront* own = own_front;
  if (own == nullptr) own = attach_thread();
  if (own != nullptr) [[likely]]
    return body(*own);
  ThreadFront* shared = lock_shared_front();
  if (shared == nullptr) return otherwise;
  const Result result = body(*shared);
  unlock_shared_front();
  return result;
}

template <class Body, class Result, class Watch>
NONREUSE_NOINLINE Result with_some_front(Body&& body, Result otherwise, Watch watch) {
  const bool watched = watching();
  if (watched) watch.before();
  const Result result = with_found_front(body, otherwise);
  if (watched) watch.after(result);
  return result;
}

template <class Body, class Result, class Watch>
NONREUSE_NOINLINE Result with_probe(Body&& body, Result otherwise, Watch watch) {
  watch.probe_before();
  const Result result = with_some_front(body, otherwise, watch);
  watch.probe_after(result);
  return result;
}

template <class Body, class Result, class Watch = Unwatched>
NONREUSE_ALWAYS_INLINE Result with_front(Body&& body, Result otherwise, Watch watch = {}) {
  if (Watch::probed()) [[unlikely]]
    return with_probe(body, otherwise, watch);
  if (ThreadFront* front = thread_front) [[likely]]
    return body(*front);
  return with_some_front(body, otherwise, watch);
}

}  // namespace nonreuse
