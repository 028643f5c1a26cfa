// The heap of this process, and the fronts of its threads.
#pragma once

#include <type_traits>

#include "front/allocator.hpp"
#include "platform/system.hpp"
#include "revoke/cheribsd_kernel.hpp"
#include "revoke/conservative.hpp"
#include "revoke/none.hpp"

namespace nonreuse {

template <RevocationBy kBy>
using RevokerBy =
    std::conditional_t<kBy == RevocationBy::sweep, ConservativeRevoker,
                       std::conditional_t<kBy == RevocationBy::kernel, CheriBsdRevoker, NoRevoker>>;
using ProcessRevoker = RevokerBy<kFreebufMode ? kRevocation : RevocationBy::nobody>;
using ProcessAllocator = Allocator<SystemMemory, ProcessRevoker>;

extern ProcessAllocator process_heap;

// The calling thread's front; nullptr before its first allocation, and after its last destructor has run.
extern __thread ThreadFront* thread_front __attribute__((tls_model("initial-exec")));

// Makes the heap ready and gives the thread its front. nullptr where it can have none (the thread is ending,
// or memory is out): then call with the shared front, under its lock.
ThreadFront* attach_thread();
ThreadFront* lock_shared_front();  // nullptr: no memory for even that, or held already; nothing is locked
void unlock_shared_front();

// Runs body(front) with a front of this thread, or the shared one; `otherwise` where there is neither.
template <class Body, class Result>
NONREUSE_NOINLINE Result with_some_front(Body&& body, Result otherwise) {
  if (ThreadFront* front = attach_thread()) return body(*front);
  ThreadFront* shared = lock_shared_front();
  if (shared == nullptr) return otherwise;
  const Result result = body(*shared);
  unlock_shared_front();
  return result;
}

template <class Body, class Result>
NONREUSE_ALWAYS_INLINE Result with_front(Body&& body, Result otherwise) {
  if (ThreadFront* front = thread_front) [[likely]]
    return body(*front);
  return with_some_front(body, otherwise);
}

// Prints the statistics on standard error.
void print_statistics();

}  // namespace nonreuse
