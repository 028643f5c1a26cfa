// What the two ways of stopping threads on Linux share: the area they work in, the list of threads, small
// system-call wrappers. Internal to linux_thread_stop.cpp, linux_stop_ptrace.cpp, linux_stop_signal.cpp.
//
// All of this runs while other threads stand still with unknown locks held, partly in a helper process that
// borrows the caller's TLS, partly in a signal handler. So: raw system calls, no libc, no sanitizer.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <time.h>

#include "base/types.hpp"
#include "platform/attributes.hpp"
#include "platform/linux_syscall.hpp"
#include "platform/thread_stop.hpp"

// For every function here: see above. (An inline function that takes the address of a local has to say so,
// too: g++ 12 fails on it otherwise when it is inlined into one that opts out of AddressSanitizer.)
#define NONREUSE_UNINSTRUMENTED NONREUSE_READS_ANY_MEMORY
#define NONREUSE_STOP_INLINE NONREUSE_UNINSTRUMENTED NONREUSE_ALWAYS_INLINE

namespace nonreuse {

// States of one listed thread. In a stop by signals the handler moves signalled → saving → stopped with the
// first step as a compare-and-swap, and the caller may move signalled → gone or zombie with one, too.
enum StopState : uint32_t {
  kFresh,      // listed, nothing done yet
  kSignalled,  // asked to stop
  kSaving,     // in the handler, writing its registers
  kStopped,
  kZombie,  // ended but still listed: a thread group leader that called pthread_exit. Has no registers
  kGone,    // ended; the entry, and the tid, may be used again
};

struct StopEntry {
  int tid;
  uint32_t state;
  int held_signal;  // taken from the kernel by a ptrace stop, to be given back on resuming
  uint32_t register_count;
  uintptr_t stack_pointer;
  uintptr_t thread_pointer;
};

enum class StopOutcome : uint32_t {
  refused,
  stopped,
  timed_out,
  table_full,
  lacking,  // descriptors, memory or processes are short now: no reason to believe that it stays so
};

// The helper's life, as its futex word tells it. The kernel itself writes helper_ended (CLONE_CHILD_CLEARTID)
// and does so before it releases the threads that the helper held.
enum HelperPhase : uint32_t {
  kHelperEnded,
  kHelperWorking,
  kHelperAsksWhetherToGo,  // ends with its caller from now on; is the caller still there?
  kHelperAsksForPermission,
  kHelperHolds
};
enum HelperCommand : uint32_t { kNoCommand, kGo, kPermissionGiven, kPermissionNotGiven, kResume };

// Head of the own mapping; tables follow it.
struct StopArea {
  // Fixed when the mapping is made.
  size_t capacity;        // entries
  size_t register_words;  // words for the registers of one thread
  StopEntry* entries;
  StoppedThread* threads;
  uint64_t* registers;  // capacity * register_words
  char* listing;        // buffer for getdents64(2)
  size_t listing_bytes;
  uintptr_t helper_stack_top;

  // Set before each stop.
  int process;
  int caller;
  uint64_t deadline_ns;

  size_t entry_count;
  uint32_t phase;    // HelperPhase, futex word
  uint32_t command;  // HelperCommand, futex word
  StopOutcome outcome;
  uint64_t began_ns;        // when the first attempt began to ask threads to stop, 0 before
  uint64_t released_ns;     // when the helper let go of all, or was about to; 0 before
  int helper;               // its process id, 0 when there is none
  bool may_ask;             // for the permission of PR_SET_PTRACER; set before each stop by the helper
  bool permission_missing;  // the helper was refused and may not ask: the permission might have helped
  bool permission_set;      // PR_SET_PTRACER names the helper
  bool helper_was_killed;   // by a seccomp filter

  NONREUSE_STOP_INLINE uint64_t* words(size_t index) const { return registers + index * register_words; }
};

namespace stop {

constexpr uint64_t kMicrosecond = 1000;
constexpr uint64_t kMillisecond = 1000 * kMicrosecond;
constexpr size_t kSignalSetBytes = 8;
constexpr uint64_t kAllSignals = ~uint64_t{0};

template <class T>
NONREUSE_STOP_INLINE T load(const T* word) {
  return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}
template <class T>
NONREUSE_STOP_INLINE void store(T* word, T value) {
  __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}
template <class T>
NONREUSE_STOP_INLINE bool replace(T* word, T from, T to) {
  return __atomic_compare_exchange_n(word, &from, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

NONREUSE_STOP_INLINE uint64_t now_ns() {
  timespec t{0, 0};
  sys::call(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(t.tv_nsec);
}

NONREUSE_STOP_INLINE timespec to_timespec(uint64_t ns) {
  timespec t{0, 0};
  t.tv_sec = static_cast<time_t>(ns / 1'000'000'000u);
  t.tv_nsec = static_cast<long>(ns % 1'000'000'000u);
  return t;
}

NONREUSE_STOP_INLINE void sleep_ns(uint64_t ns) {
  const timespec t = to_timespec(ns);
  sys::call(SYS_nanosleep, &t, nullptr);
}

NONREUSE_STOP_INLINE void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Not the private kind: the kernel wakes the word of CLONE_CHILD_CLEARTID as a shared one.
NONREUSE_STOP_INLINE void futex_wait(const uint32_t* word, uint32_t expected, uint64_t at_most_ns) {
  const timespec t = to_timespec(at_most_ns);
  sys::call(SYS_futex, word, FUTEX_WAIT, expected, &t);
}
NONREUSE_STOP_INLINE void futex_wake(const uint32_t* word) {
  sys::call(SYS_futex, word, FUTEX_WAKE, 0x7fffffff);
}

NONREUSE_STOP_INLINE StopOutcome outcome_of_error(long error) {
  return sys::may_pass(error) ? StopOutcome::lacking : StopOutcome::refused;
}

// /proc/<process>/task: the threads of the process. A zombie leader is among them.
class TaskList {
 public:
  NONREUSE_STOP_INLINE TaskList() : fd_(-1), cursor_(0) {}
  // 0 or -errno. close() must follow.
  long open(int process);
  void close();

  struct Pass {
    long error;  // 0 or -errno: the list cannot be read
    bool table_full;
    size_t fresh;  // threads that were not known before this pass, or ended and listed again
  };
  // Adds the threads that are not in the table yet. A pass may miss some: when a thread ends while the kernel
  // stands at it, the walk ends there, and goes on one place too far at the next call.
  Pass read(StopArea& area);

  enum class Completeness { complete, more_to_come, cannot_be_told };
  // Whether the threads that stand still are all there are: this rests on the kernel's count, not on passes.
  //
  // Once no entry is fresh or signalled, every thread in the table that is stopped stays in the kernel's
  // count, and so does the caller, and a leader that has ended. Where the count is no more than these, no
  // other thread exists, and who stands still creates none. A higher count means an unknown thread, or one
  // that is just ending: read once more.
  Completeness compare_with_count(const StopArea& area) const;

  // True when `tid` is a thread of the process now. Asks /proc: a sandbox may forbid tgkill(2).
  bool has(int tid) const;

  // The letter of /proc/<process>/task/<tid>/stat: R, S, D, Z, X …; 0 when there is no such thread.
  static char state_of(int process, int tid);
  // True when `signal` waits in the queue of thread `tid`.
  static bool is_pending(int process, int tid, int signal);

 private:
  bool note(StopArea& area, int tid, Pass& pass);

  long fd_;
  size_t cursor_;
};

// Words that one thread's registers may take, by either mechanism.
size_t register_words();

// Mechanism one. stop_by_ptrace() returns with the helper holding all threads, or with nobody stopped. It
// starts the helper if prepare_for_ptrace() has not; that one returns when the helper is ready, or may never
// be.
void prepare_for_ptrace(StopArea& area);
StopOutcome stop_by_ptrace(StopArea& area);
bool resume_from_ptrace(StopArea& area);
// False while a helper that was killed has not ended yet; the kernel still writes its end into the area.
bool helper_has_left(StopArea& area);

// Mechanism two; the same contract.
StopOutcome stop_by_signal(StopArea& area);
void resume_from_signal();
// True when no handler works on the area any more: it may be reset or unmapped.
bool handlers_have_left(uint64_t deadline_ns);
void forget_signal_stop();

}  // namespace stop
}  // namespace nonreuse
