// Stopping the other threads of this process, and reading their registers.
//
// A sweep must see every register of every thread, and nothing may move while it looks. Two mechanisms:
// a ptrace helper (a short-lived child that shares our memory, seizes and interrupts every thread, as
// LeakSanitizer does: fewer interrupted system calls, and it stops threads that block every signal), and
// a signal where ptrace is not permitted. Every wait is bounded: a thread that does not stop in time makes
// the whole stop fail, and the caller releases nothing. Allocates nothing, leaves errno alone.
//
// What the caller has to know:
// - Stopped threads may be anywhere, also inside malloc, stdio, the dynamic linker or a sanitizer's runtime,
//   holding its lock. Between stop() and resume() take no lock that another thread may hold, call nothing
//   that takes one, start no process, and do not let the code be instrumented.
// - All signals but those that report a fault of the thread itself are blocked in the calling thread
//   from prepare() or stop() to resume(): a handler of the program might wait for a stopped thread. (Where a
//   stop by signal is tried again, a change of user may come in between: nobody is stopped then.)
// - A stopped thread's system calls are finished or will be restarted; what the kernel itself writes
//   (io_uring, asynchronous I/O) and what another process writes into shared memory goes on.
// - Tasks that share this memory without being threads of the process (a vfork child, CLONE_VM without
//   CLONE_THREAD) are not stopped. A thread waiting for its vfork child cannot be stopped: timed_out.
#pragma once

#include "base/types.hpp"

namespace nonreuse {

// One stopped thread. `registers` are words: general registers, then vector state, in no promised order.
// `stack_pointer` is the lowest address of the stack in use: on x86-64 it lies 128 bytes below the register,
// where the red zone of a leaf function ends. It may point a little below the stack's mapping when the stack
// is almost full, or into another stack than the thread's first (alternate signal stack, coroutine).
struct StoppedThread {
  int tid;
  uintptr_t stack_pointer;
  uintptr_t thread_pointer;  // fs base, tpidr_el0, tp
  const uint64_t* registers;
  size_t register_count;
};

enum class StopResult : uint8_t {
  stopped,    // every other thread is stopped; resume() must follow
  alone,      // there is no other thread; resume() need not follow
  timed_out,  // some thread did not stop in time, or descriptors, memory, processes are short now; all run
  refused,    // neither ptrace nor signals may be used, or the thread list may not be read; all run
};

enum class StopMethod : uint8_t { automatic, ptrace_helper, signal };

struct StopArea;

// Whether all locks that a stop is to hold must be taken before prepare(), where otherwise after is better.
// In musl a thread that has taken the signal for a change of user stands still until all others have, with
// the locks that it holds: waiting for one of them without taking the signal would be waiting for ever.
#if defined(__GLIBC__)
constexpr bool kLocksBeforePrepare = false;
#else
constexpr bool kLocksBeforePrepare = true;
#endif

// One stop at a time in the whole process: the caller holds a lock of its own. The same thread that stopped
// resumes. Constant-initialised, never destroyed: fit for a static object.
class ThreadStopper {
 public:
  // Stops all threads but the calling one within about `timeout_ns` nanoseconds. `memory` for the thread
  // table and the registers is grown by the stopper itself through anonymous mmap, before anything stops.
  // `automatic` uses the helper, and signals where that is refused; a refusal is remembered for the next
  // stops. It leaves PR_SET_PTRACER alone unless signals do not stop the threads either; `ptrace_helper` uses
  // it at once where the helper is refused. ptrace(2), clone(2), rt_sigaction(2), proc(5), prctl(2).
  StopResult stop(StopMethod method, uint64_t timeout_ns);
  // The part of stop() that takes time while everybody still runs: a new helper waits for a processor first,
  // and on a busy machine that is longer than the stop. stop() by the same method must follow, within half a
  // second (later another helper is started); the calling thread's signals are blocked from here on, so that
  // a change of user waits until no helper with the rights of before is left.
  void prepare(StopMethod method, uint64_t timeout_ns);

  // Lets all threads run. False when the threads did not stay stopped until now, because something killed the
  // helper: what was read since stop() proves nothing, so nothing may be released.
  bool resume();
  // When the first was asked to stop, and when all were let go: CLOCK_MONOTONIC, of the last stop. The caller
  // may wait for a processor before the one, and notice the other late, while the others run.
  uint64_t began_ns() const { return began_ns_; }
  uint64_t resumed_ns() const { return resumed_ns_; }

  size_t thread_count() const { return thread_count_; }
  const StoppedThread& thread(size_t index) const { return threads_[index]; }

  // The mapping in which helper stack, thread table and registers live; empty before the first stop. A stop
  // may replace it: ask again after each.
  Range own_memory() const { return own_memory_; }
  // Which mechanism the last successful stop used, for the statistics.
  StopMethod last_method() const { return last_method_; }
  // In a fork's child, before any other call: forgets the parent's helper and threads.
  void after_fork_in_child();

 private:
  bool reserve(size_t capacity);
  bool make_ready(size_t known, uint64_t deadline_ns);
  bool helper_goes_first(StopMethod method) const;
  enum class Attempt : uint8_t { stopped, timed_out, lacking, refused };
  StopResult stop_listed(StopMethod method, uint64_t deadline_ns);
  StopResult stop_by_either(uint64_t deadline_ns);
  Attempt attempt(StopMethod method, uint64_t deadline_ns);
  Attempt attempt_helper(bool may_ask, uint64_t deadline_ns);
  StopResult conclude(StopMethod method);
  bool resume_threads();
  void block_signals();
  void unblock_signals();

  const StoppedThread* threads_ = nullptr;
  size_t thread_count_ = 0;
  Range own_memory_;
  StopArea* area_ = nullptr;
  uint64_t began_ns_ = 0, resumed_ns_ = 0;
  uint64_t signals_before_ = 0;        // the calling thread's mask, while stopped
  uint32_t stops_without_ptrace_ = 0;  // so many automatic stops go by before the helper is tried again
  uint32_t stops_by_permission_ = 0;   // so many more use PR_SET_PTRACER at once, because signals do not do
  uint32_t stops_without_asking_ = 0;  // so many go by before it is used again, because it did not help
  long numbering_ = 0;                 // 0, or why /proc does not speak of us
  enum class Prepared : uint8_t { no, alone, failed, ready } prepared_ = Prepared::no;
  bool permission_missing_ = false;  // the helper was refused for want of it, perhaps
  StopMethod last_method_ = StopMethod::automatic;
  StopMethod running_ = StopMethod::automatic;  // how the threads are held now; automatic: not at all
};

// Threads of this process as the kernel counts them, or 0 where that cannot be known. Cheap (one stat call).
size_t count_threads();

}  // namespace nonreuse
