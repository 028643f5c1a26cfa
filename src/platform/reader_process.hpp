// A short-lived process that shares the program's memory and reads it while the program runs.
//
// Why no thread: a program that has one thread must keep one (unshare(2), setns(2), signal masks, counts of
// its own); a thread would outlive pthread_exit in main, have the credentials and filters of another moment,
// and take its faults with the program's own handlers. This process has handlers, descriptors and credentials
// of its own, no program code runs in it, and between two jobs it does not exist. It is no child that wait(2)
// would find, and it gets no signal of the program.
#pragma once

#include "base/types.hpp"

namespace nonreuse {

// One job at a time. Thread-safety: start(), reap() under a lock of the caller's; running(), wait() from any
// thread; guarded(), abandoned() only within the job. Allocates nothing, leaves errno alone. clone(2).
class ReaderProcess {
 public:
  using Job = void (*)(void* context);

  // Runs job(context) in the process; of the program's descriptors it keeps only `keep` (or none: -1). False
  // where there cannot be such a process: limits, filters, sanitizers, or one of before has not been reaped.
  // What the job finds behind the thread pointer is zero: it may use no thread-local variable.
  bool start(Job job, void* context, const int (&keep)[2]);
  // True once the program may close those of `keep`: the process has descriptors of its own, or has ended.
  // Waits at most so many nanoseconds.
  bool has_own_descriptors(uint64_t at_most_ns) const;
  // False once the process has ended. What the job wrote is visible then.
  bool running() const { return __atomic_load_n(&alive_, __ATOMIC_ACQUIRE) != 0; }
  // Until it has ended, or nanoseconds have passed.
  void wait(uint64_t at_most_ns) const;
  // Ends it, soon. False where the program may not, any more: it has dropped its rights since.
  bool kill() const;
  // It has ended, and was not reaped. Any thread.
  bool leftover() const { return __atomic_load_n(&process_, __ATOMIC_RELAXED) != 0 && !running(); }
  // After its end. True where the job returned; false where the process was killed, or faulted.
  bool reap();
  // Calls read(context). False where that touched memory that cannot be read; it ended there.
  bool guarded(void (*read)(void*), void* context);
  // True where the program has ended, or has become another (execve): nobody wants the result.
  bool abandoned() const;
  // CPU time that the calling process has spent outside the system, in nanoseconds. Right on average only: it
  // may be counted in ticks.
  static uint64_t user_ns();
  // Processors that the calling thread may use; 1 under a system call filter.
  static size_t processors();
  // Stack and all: full of heap addresses, no root. Empty before the first start.
  Range own_memory() const;
  void after_fork_in_child();

 private:
  struct Area;
  static long main_of_process(void* self);
  static void on_fault(int);
  bool map_area();
  bool leave_the_program() const;

  Area* area_ = nullptr;
  Job job_ = nullptr;
  void* context_ = nullptr;
  int keep_[2] = {-1, -1};
  int program_ = 0;                          // process id
  const uint32_t* thread_number_ = nullptr;  // of the thread that started it; the kernel clears it at its end
  int process_ = 0;                          // 0: none, or reaped
  uint32_t alive_ = 0;                       // cleared by the kernel; futex word
  uint32_t apart_ = 0;                       // set when it has descriptors of its own; futex word
  bool returned_ = false;
};

}  // namespace nonreuse
