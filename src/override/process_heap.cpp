#include "override/process_heap.hpp"

#include <pthread.h>

#include "base/report.hpp"
#include "base/settings.hpp"
#include "override/history.hpp"
#include "override/process_statistics.hpp"
#include "platform/trace_file.hpp"

extern "C" char** environ;

namespace nonreuse {
namespace {

constinit SystemMemory memory;
constinit ProcessRevoker revoker;

enum class Stage : uint8_t { untouched, ready, failed };
constinit std::atomic<Stage> stage{Stage::untouched};
constinit Lock init_lock;

// For threads that have no front any more: their last frees come after their destructors.
constinit ThreadFront* shared_front = nullptr;
constinit Lock shared_lock;
// Misuse under the shared lock ends in abort(), and a handler of SIGABRT may come back here.
__thread bool in_shared __attribute__((tls_model("initial-exec"))) = false;

constinit pthread_key_t exit_key = 0;
constinit bool have_exit_key = false;
__thread bool thread_ending __attribute__((tls_model("initial-exec"))) = false;

// Destructors of other keys may still allocate and free. POSIX runs them in rounds; give up the front in the
// last one, and serve what comes after from the shared front.
void on_thread_exit(void* value) {
  auto* front = static_cast<ThreadFront*>(value);
  if (++front->exit_rounds < PTHREAD_DESTRUCTOR_ITERATIONS && pthread_setspecific(exit_key, front) == 0)
    return;
  thread_ending = true;
  thread_front = own_front = nullptr;
  process_heap.give_up_front(front);
  trace::thread_ends();
}

// Revokers that have switches of their own, outside of the options.
template <class R>
void configure(R& which) {
  if constexpr (requires { which.configure(environ, true, process_heap.options()); }) {
    which.configure(environ, os::runs_privileged(), process_heap.options());
  }
}

bool make_ready() {
  LockGuard guard(init_lock);
  if (stage.load(std::memory_order_relaxed) == Stage::untouched) {
    const bool ok = process_heap.init(default_options());
    configure(revoker);
    if (ok) publish_descriptor(revoker);
    stage.store(ok ? Stage::ready : Stage::failed, std::memory_order_release);
  }
  return stage.load(std::memory_order_relaxed) == Stage::ready;
}

bool ready() {
  const Stage now = stage.load(std::memory_order_acquire);
  return now == Stage::ready || (now == Stage::untouched && make_ready());
}

void before_fork() {
  trace::before_fork();
  stacks::before_fork();
  init_lock.lock();
  process_heap.announce_fork();  // a thread in the shared front may be waiting for a sweep
  if (!in_shared) shared_lock.lock();
  process_heap.before_fork();
}

void after_fork_in_parent() {
  process_heap.after_fork_in_parent();
  if (!in_shared) shared_lock.unlock();
  init_lock.unlock();
  stacks::after_fork_in_parent();
}

void after_fork_in_child() {
  shared_lock.reset();
  in_shared = false;
  init_lock.reset();
  process_heap.after_fork_in_child(own_front);
  trace::after_fork_in_child();
  stacks::after_fork_in_child();
  if (shared_front != own_front) shared_front = nullptr;  // given up with the other threads' fronts
  if (stage.load(std::memory_order_relaxed) == Stage::ready) restart_statistics_in_child();
}

void say_line(const char* complete) {
  Line line;
  line.text(complete).text("\n");
  os::write_error(line.c_str(), line.size());
}

// From here on every call of this thread, and of threads to come, is recorded.
void start_trace() {
  const char* path = process_heap.options().trace;
  if constexpr (kMallocUtrace && os::kKernelTraces) {
    if (strcmp(path, kDefaultTrace) == 0) {
      trace::start_kernel();
      thread_front = nullptr;
      return;
    }
  }
  if (path[0] == '\0') return;
  const HeapCount live = process_heap.count_live();
  if (trace::start(path, live.chunks, live.bytes)) thread_front = nullptr;
}

// Before main, and before most other constructors; the heap may have served allocations already.
__attribute__((constructor(101))) void at_start() {
  if (!ready()) return;
  configure(revoker);  // the environment may not have been there before
  if (!os::runs_privileged()) parse_environment(environ, process_heap.options(), say_line);
  start_trace();
  if (start_history()) thread_front = nullptr;
  start_statistics();
  pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

// After the program's exit handlers. The heap goes on serving whatever still runs.
__attribute__((destructor(101))) void at_exit() {
  if (stage.load(std::memory_order_relaxed) != Stage::ready) return;
  if (trace::recording()) {
    const HeapCount live = process_heap.count_live();
    trace::finish(live.chunks, live.bytes);
  }
  finish_statistics();
  report_at_exit();
  if constexpr (kDebug) {
    if (count_threads() == 1) process_heap.check();  // others may be inside malloc
  }
}

}  // namespace

constinit ProcessAllocator process_heap(memory, revoker);
__thread ThreadFront* thread_front __attribute__((tls_model("initial-exec"))) = nullptr;
__thread ThreadFront* own_front __attribute__((tls_model("initial-exec"))) = nullptr;

ThreadFront* attach_thread() {
  if (own_front != nullptr) return own_front;
  if (thread_ending || !ready()) return nullptr;
  {
    LockGuard guard(init_lock);
    if (!have_exit_key) have_exit_key = pthread_key_create(&exit_key, on_thread_exit) == 0;
  }
  ThreadFront* front = process_heap.make_front();
  if (front == nullptr) return nullptr;
  own_front = front;
  if (!watching()) thread_front = front;
  // Where this fails the front is not given up when the thread ends: memory is kept, nothing is unsafe.
  if (have_exit_key) pthread_setspecific(exit_key, front);
  return front;
}

ThreadFront* lock_shared_front() {
  if (in_shared || !ready()) return nullptr;
  shared_lock.lock();
  if (shared_front == nullptr) shared_front = process_heap.make_front();
  if (shared_front == nullptr)
    shared_lock.unlock();
  else
    in_shared = true;
  return shared_front;
}

void unlock_shared_front() {
  in_shared = false;
  shared_lock.unlock();
}

}  // namespace nonreuse
