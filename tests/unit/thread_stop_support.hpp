// What the tests of ThreadStopper share: counting threads, children, the way a stop is tried.
//
// While threads are stopped they may hold any lock, malloc's and the test framework's included: the tests
// only read memory then, and judge after resume().
#pragma once

#include <dirent.h>
#include <errno.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "emulation.hpp"
#include "platform/thread_stop.hpp"

#if defined(__SANITIZE_THREAD__)
// Children of a fork start threads here.
extern "C" __attribute__((used)) inline const char* __tsan_default_options() {
  return "die_after_fork=0";
}
#endif

namespace nonreuse::thread_stop_test {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kTimeout = 10 * kSecond;
constexpr auto kRelaxed = std::memory_order_relaxed;

#if defined(__has_feature)  // clang
constexpr bool kThreadSanitizer = __has_feature(thread_sanitizer);
constexpr bool kAddressSanitizer = __has_feature(address_sanitizer);
#else
#if defined(__SANITIZE_THREAD__)
constexpr bool kThreadSanitizer = true;
#else
constexpr bool kThreadSanitizer = false;
#endif
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kAddressSanitizer = true;
#else
constexpr bool kAddressSanitizer = false;
#endif
#endif

inline uint64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * kSecond + static_cast<uint64_t>(t.tv_nsec);
}

inline void sleep_ms(long ms) {
  timespec t{ms / 1000, ms % 1000 * 1'000'000};
  while (nanosleep(&t, &t) != 0 && errno == EINTR) {
  }
}

inline int thread_id() {
  return static_cast<int>(syscall(SYS_gettid));
}

inline const char* name_of(StopMethod method) {
  return method == StopMethod::ptrace_helper ? "ptrace"
         : method == StopMethod::signal      ? "signal"
                                             : "automatic";
}

// For stops that are expected to fail: one that succeeds is undone at once, so that the test can say so.
inline StopResult try_stop(ThreadStopper& stopper, StopMethod method, uint64_t timeout_ns) {
  const StopResult result = stopper.stop(method, timeout_ns);
  if (result == StopResult::stopped) stopper.resume();
  return result;
}

// Stops and resumes; false where either failed, or another method did it.
inline bool stops_by(ThreadStopper& stopper, StopMethod method) {
  if (stopper.stop(method, kTimeout) != StopResult::stopped) return false;
  return stopper.resume() && (method == StopMethod::automatic || stopper.last_method() == method);
}

// Root becomes a user without rights and other processes, whom others of the same user may trace.
inline bool become_ordinary_user() {
  return syscall(SYS_setgid, 65534) == 0 && syscall(SYS_setuid, 65534) == 0 && prctl(PR_SET_DUMPABLE, 1) == 0;
}

// How many threads a stop holds when the test has started `count`: ThreadSanitizer may have one of its own.
inline size_t with_bystanders(size_t count) {
  return kThreadSanitizer ? count_threads() - 1 : count;
}

// Reads another thread's memory.
__attribute__((no_sanitize("thread", "address"))) inline uint64_t peek(uintptr_t address) {
  return *reinterpret_cast<const volatile uint64_t*>(address);
}

// True when the value is among the registers of the stopped thread `tid`.
__attribute__((no_sanitize("thread", "address"))) inline bool registers_hold(const ThreadStopper& stopper,
                                                                             int tid, uint64_t value) {
  for (size_t i = 0; i < stopper.thread_count(); ++i) {
    const StoppedThread& thread = stopper.thread(i);
    if (thread.tid != tid) continue;
    for (size_t r = 0; r < thread.register_count; ++r) {
      if (thread.registers[r] == value) return true;
    }
  }
  return false;
}

// Threads that count until told to end.
class Counters {
 public:
  explicit Counters(size_t count) : slots_(new Slot[count]), count_(count) {
    for (size_t i = 0; i < count; ++i) {
      slots_[i].quit = &quit_;
      EXPECT_EQ(0, pthread_create(&slots_[i].thread, nullptr, run, &slots_[i]));
    }
    wait_for_all_to_count();
  }
  ~Counters() {
    quit_.store(true, kRelaxed);
    for (size_t i = 0; i < count_; ++i) pthread_join(slots_[i].thread, nullptr);
  }
  size_t size() const { return count_; }
  uint64_t count(size_t i) const { return slots_[i].counter.load(kRelaxed); }
  int tid(size_t i) const { return slots_[i].tid.load(kRelaxed); }

  // Every one counts on from now. False when one does not within 20 s.
  bool wait_for_all_to_count() const {
    std::vector<uint64_t> before(count_);
    for (size_t i = 0; i < count_; ++i) before[i] = count(i);
    const uint64_t deadline = now_ns() + 20 * kSecond;
    for (size_t i = 0; i < count_;) {
      if (count(i) > before[i] + 1) {
        ++i;
      } else if (now_ns() > deadline) {
        return false;
      } else {
        sched_yield();
      }
    }
    return true;
  }

 private:
  struct alignas(64) Slot {
    std::atomic<uint64_t> counter{0};
    std::atomic<int> tid{0};
    std::atomic<bool>* quit = nullptr;
    pthread_t thread{};
  };
  static void* run(void* argument) {
    auto* slot = static_cast<Slot*>(argument);
    slot->tid.store(thread_id(), kRelaxed);
    while (!slot->quit->load(kRelaxed)) slot->counter.fetch_add(1, kRelaxed);
    return nullptr;
  }
  std::unique_ptr<Slot[]> slots_;
  size_t count_;
  std::atomic<bool> quit_{false};
};

// Runs `body` in a child; its exit status, or 1000 + the signal that ended it, or 2000 for a hang. A child,
// too, so that a failing test does not leave threads behind that disturb the next one.
template <class Body>
int in_child(Body body, unsigned seconds = 60) {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    emulator::after_fork_in_child();
    alarm(seconds);
    body();
    _exit(0);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) return WTERMSIG(status) == SIGALRM ? 2000 : 1000 + WTERMSIG(status);
  return WEXITSTATUS(status);
}

// For bodies of in_child: ends the child with the line's number, which a failure then shows.
#define REQUIRE(condition)                                                    \
  do {                                                                        \
    if (!(condition)) {                                                       \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      _exit(1);                                                               \
    }                                                                         \
  } while (false)

inline bool ptrace_is_possible() {
  static const bool possible = [] {
    Counters one(1);
    ThreadStopper stopper;
    const StopResult result = stopper.stop(StopMethod::ptrace_helper, kTimeout);
    if (result == StopResult::stopped) stopper.resume();
    return result != StopResult::refused;
  }();
  return possible;
}

class ThreadStop : public testing::TestWithParam<StopMethod> {
 protected:
  void SetUp() override {
    if (GetParam() == StopMethod::ptrace_helper && !ptrace_is_possible()) {
      GTEST_SKIP() << "this process may not trace itself (already traced, or not permitted)";
    }
    if (GetParam() == StopMethod::signal && kThreadSanitizer) {
      GTEST_SKIP() << "ThreadSanitizer's background thread blocks every signal";
    }
  }
};

}  // namespace nonreuse::thread_stop_test
