// Stopping threads: they stand still, their registers are seen, nothing of the program is disturbed.
//
// While threads are stopped they may hold any lock, malloc's and the test framework's included: the tests
// only read memory then, and judge after resume().
#include "platform/thread_stop.hpp"

#include <dirent.h>
#include <errno.h>
#include <gtest/gtest.h>
#include <poll.h>
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

namespace nonreuse {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kTimeout = 10 * kSecond;
constexpr auto kRelaxed = std::memory_order_relaxed;

#if defined(__SANITIZE_THREAD__)
constexpr bool kThreadSanitizer = true;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
constexpr bool kThreadSanitizer = true;
#else
constexpr bool kThreadSanitizer = false;
#endif
#else
constexpr bool kThreadSanitizer = false;
#endif

uint64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * kSecond + static_cast<uint64_t>(t.tv_nsec);
}

void sleep_ms(long ms) {
  timespec t{ms / 1000, ms % 1000 * 1'000'000};
  while (nanosleep(&t, &t) != 0 && errno == EINTR) {
  }
}

int thread_id() {
  return static_cast<int>(syscall(SYS_gettid));
}

const char* name_of(StopMethod method) {
  return method == StopMethod::ptrace_helper ? "ptrace"
         : method == StopMethod::signal      ? "signal"
                                             : "automatic";
}

// For stops that are expected to fail: one that succeeds is undone at once, so that the test can say so.
StopResult try_stop(ThreadStopper& stopper, StopMethod method, uint64_t timeout_ns) {
  const StopResult result = stopper.stop(method, timeout_ns);
  if (result == StopResult::stopped) stopper.resume();
  return result;
}

// True when the value is among the registers of the stopped thread `tid`.
__attribute__((no_sanitize("thread", "address"))) bool registers_hold(const ThreadStopper& stopper, int tid,
                                                                      uint64_t value) {
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

bool ptrace_is_possible() {
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
INSTANTIATE_TEST_SUITE_P(Methods, ThreadStop, testing::Values(StopMethod::ptrace_helper, StopMethod::signal),
                         [](const auto& info) { return std::string(name_of(info.param)); });

TEST_P(ThreadStop, CountersStandStillUntilResumed) {
  for (const size_t threads : {1u, 4u, 16u}) {
    Counters counters(threads);
    ThreadStopper stopper;
    std::vector<uint64_t> first(threads), second(threads);
    for (int round = 0; round < 10; ++round) {
      ASSERT_EQ(StopResult::stopped, stopper.stop(GetParam(), kTimeout));
      for (size_t i = 0; i < threads; ++i) first[i] = counters.count(i);
      const size_t stopped = stopper.thread_count();
      const timespec a_while{0, 5'000'000};
      syscall(SYS_nanosleep, &a_while, nullptr);
      for (size_t i = 0; i < threads; ++i) second[i] = counters.count(i);
      EXPECT_TRUE(stopper.resume());
      EXPECT_EQ(first, second);
      EXPECT_EQ(threads + (kThreadSanitizer ? 1 : 0), stopped);
      EXPECT_EQ(GetParam(), stopper.last_method());
      ASSERT_TRUE(counters.wait_for_all_to_count());
    }
  }
}

TEST_P(ThreadStop, EveryThreadIsListedOnceAndTheCallerNever) {
  Counters counters(5);
  ThreadStopper stopper;
  ASSERT_EQ(StopResult::stopped, stopper.stop(GetParam(), kTimeout));
  int seen[5] = {};
  bool caller_seen = false;
  for (size_t i = 0; i < stopper.thread_count(); ++i) {
    for (size_t k = 0; k < 5; ++k) seen[k] += stopper.thread(i).tid == counters.tid(k);
    caller_seen |= stopper.thread(i).tid == thread_id();
  }
  stopper.resume();
  for (const int times : seen) EXPECT_EQ(1, times);
  EXPECT_FALSE(caller_seen);
}

// A thread that keeps `value` in one place only, busy or in a system call.
struct Keeper {
  std::atomic<int> tid{0};
  std::atomic<bool> quit{false};
  uint64_t secret = 0;  // never stored as it is: the value wanted is its complement
  std::atomic<uintptr_t> stack_slot{0};
  std::atomic<uintptr_t> thread_pointer{0};
  uintptr_t stack_begin = 0, stack_end = 0;
};

void note_self(Keeper& keeper) {
  pthread_attr_t attributes;
  void* begin = nullptr;
  size_t size = 0;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &begin, &size);
  pthread_attr_destroy(&attributes);
  keeper.stack_begin = reinterpret_cast<uintptr_t>(begin);
  keeper.stack_end = keeper.stack_begin + size;
  keeper.thread_pointer.store(reinterpret_cast<uintptr_t>(__builtin_thread_pointer()), kRelaxed);
}

// The register loops. They announce the thread by storing its tid, then spin until `quit`.
#if defined(__x86_64__)
#define GENERAL_LOOP(reg)                                                                        \
  __asm__ volatile("mov %[secret], %%" reg "\n not %%" reg                                       \
                   "\n xor %k[secret], %k[secret]\n"                                             \
                   "mov %[id], %[tid]\n1: cmpb $0, %[quit]\n je 1b\n xor %%" reg ", %%" reg "\n" \
                   : [secret] "+&a"(secret), [tid] "+m"(keeper->tid)                             \
                   : [quit] "m"(keeper->quit), [id] "d"(id)                                      \
                   : reg, "memory", "cc")
#endif

void* keep_in_general_register(void* argument) {
  auto* keeper = static_cast<Keeper*>(argument);
  note_self(*keeper);
  const int id = thread_id();
  uint64_t secret = keeper->secret;
#if defined(__x86_64__)
  GENERAL_LOOP("r14");
#elif defined(__aarch64__)
  __asm__ volatile(
      "mvn x24, %[secret]\n mov %[secret], #0\n str %w[id], [%[tid]]\n1: ldrb w9, [%[quit]]\n cbz w9, 1b\n"
      "mov x24, #0\n"
      : [secret] "+&r"(secret)
      : [tid] "r"(&keeper->tid), [quit] "r"(&keeper->quit), [id] "r"(id)
      : "x9", "x24", "memory", "cc");
#else
  __asm__ volatile(
      "not s5, %[secret]\n li %[secret], 0\n sw %[id], 0(%[tid])\n1: lbu t0, 0(%[quit])\n beqz t0, 1b\n"
      "li s5, 0\n"
      : [secret] "+&r"(secret)
      : [tid] "r"(&keeper->tid), [quit] "r"(&keeper->quit), [id] "r"(id)
      : "t0", "s5", "memory");
#endif
  return nullptr;
}

void* keep_in_vector_register(void* argument) {
  auto* keeper = static_cast<Keeper*>(argument);
  note_self(*keeper);
  const int id = thread_id();
  uint64_t secret = keeper->secret;
#if defined(__x86_64__)
  __asm__ volatile(
      "not %[secret]\n movq %[secret], %%xmm11\n xor %k[secret], %k[secret]\n mov %[id], %[tid]\n"
      "1: cmpb $0, %[quit]\n je 1b\n pxor %%xmm11, %%xmm11\n"
      : [secret] "+&a"(secret), [tid] "+m"(keeper->tid)
      : [quit] "m"(keeper->quit), [id] "d"(id)
      : "xmm11", "memory", "cc");
#elif defined(__aarch64__)
  __asm__ volatile(
      "mvn x9, %[secret]\n fmov d13, x9\n mov x9, #0\n mov %[secret], #0\n str %w[id], [%[tid]]\n"
      "1: ldrb w9, [%[quit]]\n cbz w9, 1b\n movi d13, #0\n"
      : [secret] "+&r"(secret)
      : [tid] "r"(&keeper->tid), [quit] "r"(&keeper->quit), [id] "r"(id)
      : "x9", "v13", "memory", "cc");
#else
  __asm__ volatile(
      "not t0, %[secret]\n fmv.d.x fs7, t0\n li t0, 0\n li %[secret], 0\n sw %[id], 0(%[tid])\n"
      "1: lbu t0, 0(%[quit])\n beqz t0, 1b\n fmv.d.x fs7, zero\n"
      : [secret] "+&r"(secret)
      : [tid] "r"(&keeper->tid), [quit] "r"(&keeper->quit), [id] "r"(id)
      : "t0", "fs7", "memory");
#endif
  return nullptr;
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void* keep_in_upper_half_of_ymm(void* argument) {
  auto* keeper = static_cast<Keeper*>(argument);
  note_self(*keeper);
  const int id = thread_id();
  uint64_t secret = keeper->secret;
  __asm__ volatile(
      "not %[secret]\n vmovq %[secret], %%xmm9\n vpxor %%ymm8, %%ymm8, %%ymm8\n"
      "vinserti128 $1, %%xmm9, %%ymm8, %%ymm8\n vpxor %%ymm9, %%ymm9, %%ymm9\n xor %k[secret], %k[secret]\n"
      "mov %[id], %[tid]\n1: cmpb $0, %[quit]\n je 1b\n vpxor %%ymm8, %%ymm8, %%ymm8\n vzeroupper\n"
      : [secret] "+&a"(secret), [tid] "+m"(keeper->tid)
      : [quit] "m"(keeper->quit), [id] "d"(id)
      : "xmm8", "xmm9", "memory", "cc");
  return nullptr;
}
#endif

void* keep_on_stack(void* argument) {
  auto* keeper = static_cast<Keeper*>(argument);
  note_self(*keeper);
  volatile uint64_t slot = ~keeper->secret;
  keeper->stack_slot.store(reinterpret_cast<uintptr_t>(&slot), kRelaxed);
  keeper->tid.store(thread_id(), std::memory_order_release);
  while (!keeper->quit.load(kRelaxed)) {
  }
  slot = 0;
  return nullptr;
}

constexpr uint64_t kWanted = 0x0000'5a5a'1234'5670;

// Starts `loop`, stops the world, and gives what `look` says while it is stopped.
template <class Look>
bool seen_in(void* (*loop)(void*), StopMethod method, Look look) {
  Keeper keeper;
  keeper.secret = ~kWanted;
  pthread_t thread{};
  EXPECT_EQ(0, pthread_create(&thread, nullptr, loop, &keeper));
  while (keeper.tid.load(std::memory_order_acquire) == 0) sched_yield();
  ThreadStopper stopper;
  const StopResult result = stopper.stop(method, kTimeout);
  const bool seen = result == StopResult::stopped && look(stopper, keeper);
  if (result == StopResult::stopped) stopper.resume();
  keeper.quit.store(true, kRelaxed);
  pthread_join(thread, nullptr);
  return seen;
}

TEST_P(ThreadStop, CalleeSavedRegisterIsSeen) {
  EXPECT_TRUE(seen_in(keep_in_general_register, GetParam(), [](const ThreadStopper& stopper, Keeper& keeper) {
    return registers_hold(stopper, keeper.tid.load(kRelaxed), kWanted);
  }));
  // The search does not find just anything.
  EXPECT_FALSE(
      seen_in(keep_in_general_register, GetParam(), [](const ThreadStopper& stopper, Keeper& keeper) {
        return registers_hold(stopper, keeper.tid.load(kRelaxed), kWanted + 1);
      }));
}

TEST_P(ThreadStop, VectorRegisterIsSeen) {
  EXPECT_TRUE(seen_in(keep_in_vector_register, GetParam(), [](const ThreadStopper& stopper, Keeper& keeper) {
    return registers_hold(stopper, keeper.tid.load(kRelaxed), kWanted);
  }));
}

#if defined(__x86_64__)
TEST_P(ThreadStop, UpperHalfOfVectorRegisterIsSeen) {
  if (!__builtin_cpu_supports("avx2")) GTEST_SKIP() << "the processor has no AVX2";
  EXPECT_TRUE(
      seen_in(keep_in_upper_half_of_ymm, GetParam(), [](const ThreadStopper& stopper, Keeper& keeper) {
        return registers_hold(stopper, keeper.tid.load(kRelaxed), kWanted);
      }));
}
#endif

TEST_P(ThreadStop, StackPointerLiesBelowWhatTheThreadKeepsOnItsStack) {
  uintptr_t pointer = 0, slot = 0, thread_pointer = 0, expected_thread_pointer = 0;
  Range stack;
  uint64_t content = 0;
  ASSERT_TRUE(seen_in(keep_on_stack, GetParam(), [&](const ThreadStopper& stopper, Keeper& keeper) {
    for (size_t i = 0; i < stopper.thread_count(); ++i) {
      if (stopper.thread(i).tid != keeper.tid.load(kRelaxed)) continue;
      pointer = stopper.thread(i).stack_pointer;
      thread_pointer = stopper.thread(i).thread_pointer;
    }
    slot = keeper.stack_slot.load(kRelaxed);
    content = *reinterpret_cast<const volatile uint64_t*>(slot);
    stack = Range{keeper.stack_begin, keeper.stack_end};
    expected_thread_pointer = keeper.thread_pointer.load(kRelaxed);
    return pointer != 0;
  }));
  EXPECT_TRUE(stack.contains(pointer)) << std::hex << pointer << " " << stack.begin << " " << stack.end;
  EXPECT_LE(pointer, slot);
  EXPECT_LT(slot - pointer, 4096u);
  EXPECT_EQ(kWanted, content);
  EXPECT_EQ(expected_thread_pointer, thread_pointer);
}

// ---- What cannot be stopped, or is hard to ----

struct Blocker {
  std::atomic<bool> ready{false}, quit{false};
  std::atomic<uint64_t> counter{0};
};
void* count_with_signals_blocked(void* argument) {
  auto* blocker = static_cast<Blocker*>(argument);
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  blocker->ready.store(true, kRelaxed);
  while (!blocker->quit.load(kRelaxed)) blocker->counter.fetch_add(1, kRelaxed);
  return nullptr;
}

TEST_P(ThreadStop, ThreadThatBlocksAllSignals) {
  Blocker blocker;
  Counters others(3);
  pthread_t thread{};
  ASSERT_EQ(0, pthread_create(&thread, nullptr, count_with_signals_blocked, &blocker));
  while (!blocker.ready.load(kRelaxed)) sched_yield();
  ThreadStopper stopper;
  for (int round = 0; round < 3; ++round) {
    if (GetParam() == StopMethod::signal) {
      const uint64_t began = now_ns();
      EXPECT_EQ(StopResult::timed_out, try_stop(stopper, GetParam(), kSecond / 20));
      EXPECT_GE(now_ns() - began, kSecond / 20);
      EXPECT_EQ(0u, stopper.thread_count());
    } else {
      ASSERT_EQ(StopResult::stopped, stopper.stop(GetParam(), kTimeout));
      const uint64_t before = blocker.counter.load(kRelaxed);
      const timespec a_while{0, 2'000'000};
      syscall(SYS_nanosleep, &a_while, nullptr);
      const uint64_t after = blocker.counter.load(kRelaxed);
      EXPECT_TRUE(stopper.resume());
      EXPECT_EQ(before, after);
    }
    EXPECT_TRUE(others.wait_for_all_to_count());
    const uint64_t now = blocker.counter.load(kRelaxed);
    while (blocker.counter.load(kRelaxed) == now) sched_yield();
  }
  blocker.quit.store(true, kRelaxed);
  pthread_join(thread, nullptr);
  // With the obstacle gone, the same stopper works again.
  ASSERT_EQ(StopResult::stopped, stopper.stop(GetParam(), kTimeout));
  EXPECT_TRUE(stopper.resume());
  EXPECT_TRUE(others.wait_for_all_to_count());
}

void* unblock_later(void* argument) {
  auto* blocker = static_cast<Blocker*>(argument);
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  blocker->ready.store(true, kRelaxed);
  while (!blocker->quit.load(kRelaxed)) sched_yield();
  pthread_sigmask(SIG_UNBLOCK, &all, nullptr);  // a late signal is taken here
  blocker->counter.store(1, kRelaxed);
  return nullptr;
}

TEST(ThreadStopBySignal, LateSignalDoesNotStopTheThread) {
  if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer's background thread blocks every signal";
  Blocker blocker;
  pthread_t thread{};
  ASSERT_EQ(0, pthread_create(&thread, nullptr, unblock_later, &blocker));
  while (!blocker.ready.load(kRelaxed)) sched_yield();
  ThreadStopper stopper;
  EXPECT_EQ(StopResult::timed_out, try_stop(stopper, StopMethod::signal, kSecond / 50));
  blocker.quit.store(true, kRelaxed);
  EXPECT_EQ(0, pthread_join(thread, nullptr));  // hangs where the thread waits for a resume
  EXPECT_EQ(1u, blocker.counter.load(kRelaxed));
}

TEST(ThreadStopBySignal, StopsThatFailLeaveOneSignalInTheQueue) {
  if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer's background thread blocks every signal";
  EXPECT_EQ(0, in_child([] {
              Blocker blocker;
              pthread_t thread{};
              REQUIRE(pthread_create(&thread, nullptr, unblock_later, &blocker) == 0);
              while (!blocker.ready.load(kRelaxed)) sched_yield();
              ThreadStopper stopper;
              for (int round = 0; round < 5; ++round) {
                REQUIRE(stopper.stop(StopMethod::signal, kSecond / 50) == StopResult::timed_out);
              }
              // Counts what waits, by taking the signal's handler over.
              static std::atomic<int> calls{0};
              for (int signal = 35; signal <= 64; ++signal) {
                struct sigaction now {};
                sigaction(signal, nullptr, &now);
                if (now.sa_handler == SIG_DFL) continue;
                now.sa_flags = SA_RESTART;
                now.sa_handler = [](int) { calls.fetch_add(1, kRelaxed); };
                sigaction(signal, &now, nullptr);
              }
              blocker.quit.store(true, kRelaxed);
              pthread_join(thread, nullptr);
              REQUIRE(calls.load() == 1);
            }));
}

TEST_P(ThreadStop, ThreadWaitingForItsVforkChildTimesOut) {
  if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer makes a fork of vfork";
  struct Shared {
    int pipe[2];
    std::atomic<bool> done{false};
  } shared;
  ASSERT_EQ(0, pipe(shared.pipe));
  pthread_t thread{};
  ASSERT_EQ(0, pthread_create(
                   &thread, nullptr,
                   [](void* argument) -> void* {
                     auto* s = static_cast<Shared*>(argument);
                     const pid_t child = vfork();
                     if (child == 0) {
                       char byte;
                       while (syscall(SYS_read, s->pipe[0], &byte, 1L) < 0) {
                       }
                       _exit(0);
                     }
                     int status;
                     waitpid(child, &status, 0);
                     s->done.store(true, kRelaxed);
                     return nullptr;
                   },
                   &shared));
  sleep_ms(50);
  ThreadStopper stopper;
  EXPECT_EQ(StopResult::timed_out, try_stop(stopper, GetParam(), kSecond / 20));
  EXPECT_FALSE(shared.done.load(kRelaxed));
  ASSERT_EQ(1, write(shared.pipe[1], "x", 1));
  EXPECT_EQ(0, pthread_join(thread, nullptr));
  EXPECT_TRUE(shared.done.load(kRelaxed));
  close(shared.pipe[0]);
  close(shared.pipe[1]);
}

TEST_P(ThreadStop, ThreadsThatComeAndGo) {
  const StopMethod method = GetParam();
  EXPECT_EQ(0, in_child(
                   [method] {
                     static std::atomic<bool> quit{false};
                     static std::atomic<uint64_t> born{0};
                     constexpr int kBreeders = 3;
                     pthread_t breeders[kBreeders];
                     for (pthread_t& breeder : breeders) {
                       REQUIRE(pthread_create(
                                   &breeder, nullptr,
                                   [](void*) -> void* {
                                     while (!quit.load(kRelaxed)) {
                                       pthread_t child{};
                                       const auto body = [](void*) -> void* {
                                         for (int i = 0; i < 20'000; ++i) born.fetch_add(1, kRelaxed);
                                         return nullptr;
                                       };
                                       if (pthread_create(&child, nullptr, body, nullptr) == 0)
                                         pthread_join(child, nullptr);
                                     }
                                     return nullptr;
                                   },
                                   nullptr) == 0);
                     }
                     ThreadStopper stopper;
                     int moved = 0, alone = 0;
                     for (int round = 0; round < 300; ++round) {
                       const StopResult result = stopper.stop(method, kTimeout);
                       if (result == StopResult::alone) ++alone;
                       REQUIRE(result == StopResult::stopped || result == StopResult::alone);
                       if (result == StopResult::alone) continue;
                       const uint64_t first = born.load(kRelaxed);
                       const timespec a_while{0, 100'000};
                       syscall(SYS_nanosleep, &a_while, nullptr);
                       if (born.load(kRelaxed) != first) ++moved;
                       REQUIRE(stopper.resume());
                     }
                     REQUIRE(moved == 0);
                     REQUIRE(alone < 300);
                     const uint64_t before = born.load(kRelaxed);
                     while (born.load(kRelaxed) < before + 10) sched_yield();
                     quit.store(true, kRelaxed);
                     for (const pthread_t breeder : breeders) pthread_join(breeder, nullptr);
                   },
                   120));
}

TEST_P(ThreadStop, TableGrowsWithTheThreads) {
  ThreadStopper stopper;
  {
    Counters few(1);
    ASSERT_EQ(StopResult::stopped, stopper.stop(GetParam(), kTimeout));
    EXPECT_TRUE(stopper.resume());
  }
  const size_t small = stopper.own_memory().size();
  ASSERT_GT(small, 0u);
  std::vector<pthread_t> sleepers(100);
  sem_t gate;
  sem_init(&gate, 0, 0);
  for (pthread_t& sleeper : sleepers) {
    ASSERT_EQ(0, pthread_create(
                     &sleeper, nullptr,
                     [](void* g) -> void* {
                       while (sem_wait(static_cast<sem_t*>(g)) != 0) {
                       }
                       return nullptr;
                     },
                     &gate));
  }
  ASSERT_EQ(StopResult::stopped, stopper.stop(GetParam(), kTimeout));
  const size_t count = stopper.thread_count();
  bool inside = true;
  const Range own = stopper.own_memory();
  for (size_t i = 0; i < count; ++i) {
    const StoppedThread& thread = stopper.thread(i);
    inside &= thread.register_count >= 27 && own.contains(reinterpret_cast<uintptr_t>(thread.registers)) &&
              own.contains(reinterpret_cast<uintptr_t>(thread.registers + thread.register_count - 1));
  }
  EXPECT_TRUE(stopper.resume());
  EXPECT_EQ(100u + (kThreadSanitizer ? 1 : 0), count);
  EXPECT_TRUE(inside);
  EXPECT_GT(stopper.own_memory().size(), small);
  for (size_t i = 0; i < sleepers.size(); ++i) sem_post(&gate);
  for (const pthread_t sleeper : sleepers) pthread_join(sleeper, nullptr);
  sem_destroy(&gate);
}

TEST_P(ThreadStop, LeaderThatEndedIsPassedOver) {
  const StopMethod method = GetParam();
  static StopMethod wanted;
  wanted = method;
  EXPECT_EQ(0, in_child([] {
              pthread_t thread{};
              REQUIRE(pthread_create(
                          &thread, nullptr,
                          [](void*) -> void* {
                            sleep_ms(50);  // the leader is a zombie now
                            ThreadStopper stopper;
                            REQUIRE(stopper.stop(wanted, kTimeout) == StopResult::alone);
                            auto* counters = new Counters(2);
                            for (int round = 0; round < 5; ++round) {
                              REQUIRE(stopper.stop(wanted, kTimeout) == StopResult::stopped);
                              const size_t count = stopper.thread_count();
                              REQUIRE(stopper.resume());
                              REQUIRE(count == 2);
                              REQUIRE(counters->wait_for_all_to_count());
                            }
                            _exit(0);
                          },
                          nullptr) == 0);
              syscall(SYS_exit, 0);  // pthread_exit() would unwind the frames of the test framework
            }));
}

// ---- What the program notices ----

TEST_P(ThreadStop, NoChildIsSeenAndNoneIsLeft) {
  Counters counters(2);
  ThreadStopper stopper;
  for (int round = 0; round < 20; ++round) {
    ASSERT_EQ(StopResult::stopped, stopper.stop(GetParam(), kTimeout));
    int status = 0;
    const long in_stop = syscall(SYS_wait4, -1, &status, WNOHANG, nullptr);
    const int error = errno;
    EXPECT_TRUE(stopper.resume());
    EXPECT_EQ(-1, in_stop);
    EXPECT_EQ(ECHILD, error);
    EXPECT_EQ(-1, waitpid(-1, &status, WNOHANG));
    EXPECT_EQ(ECHILD, errno);
    // Also with the flag that shows the helper: it is gone.
    EXPECT_EQ(-1, waitpid(-1, &status, WNOHANG | __WALL));
    EXPECT_EQ(ECHILD, errno);
  }
  // Nobody in /proc calls us its parent.
  int children = 0;
  DIR* processes = opendir("/proc");
  ASSERT_NE(nullptr, processes);
  while (const dirent* entry = readdir(processes)) {
    char path[300], text[512];
    snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
    FILE* file = fopen(path, "r");
    if (file == nullptr) continue;
    const size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = '\0';
    int parent = 0;
    const char* after_name = strrchr(text, ')');
    if (after_name != nullptr && sscanf(after_name + 1, " %*c %d", &parent) == 1)
      children += parent == getpid();
  }
  closedir(processes);
  EXPECT_EQ(0, children);
}

TEST_P(ThreadStop, ErrnoSignalMaskAndDescriptorsAreKept) {
  Counters counters(2);
  ThreadStopper stopper;
  sigset_t before, after;
  pthread_sigmask(SIG_BLOCK, nullptr, &before);
  const int lowest = dup(0);
  close(lowest);
  errno = 12345;
  const StopResult result = stopper.stop(GetParam(), kTimeout);
  const int errno_stopped = errno;
  if (result == StopResult::stopped) stopper.resume();
  EXPECT_EQ(12345, errno_stopped);
  EXPECT_EQ(12345, errno);
  ASSERT_EQ(StopResult::stopped, result);
  pthread_sigmask(SIG_BLOCK, nullptr, &after);
  for (int signal = 1; signal < 65; ++signal) {
    EXPECT_EQ(sigismember(&before, signal), sigismember(&after, signal)) << signal;
  }
  const int next = dup(0);
  close(next);
  EXPECT_EQ(lowest, next);
}

TEST(ThreadStopByPtrace, SleepIsNotInterrupted) {
  if (!ptrace_is_possible()) GTEST_SKIP() << "this process may not trace itself";
  struct Sleeper {
    int result = -1;
    uint64_t slept = 0;
    std::atomic<bool> done{false};
  } sleeper;
  pthread_t thread{};
  ASSERT_EQ(0, pthread_create(
                   &thread, nullptr,
                   [](void* argument) -> void* {
                     auto* s = static_cast<Sleeper*>(argument);
                     const uint64_t began = now_ns();
                     const timespec time{0, 300'000'000};
                     s->result = nanosleep(&time, nullptr);
                     s->slept = now_ns() - began;
                     s->done.store(true, kRelaxed);
                     return nullptr;
                   },
                   &sleeper));
  ThreadStopper stopper;
  int stops = 0;
  while (!sleeper.done.load(kRelaxed)) {
    const StopResult result = stopper.stop(StopMethod::ptrace_helper, kTimeout);
    if (result == StopResult::stopped) {
      ++stops;
      EXPECT_TRUE(stopper.resume());
    }
    sleep_ms(5);
  }
  pthread_join(thread, nullptr);
  EXPECT_EQ(0, sleeper.result);
  EXPECT_GE(sleeper.slept, 300'000'000u);
  EXPECT_GT(stops, 5);
}

std::atomic<int> handled_standard{0};
std::atomic<int> handled_queued{0};
std::atomic<long> sum_of_values{0};

TEST_P(ThreadStop, SignalsSentMeanwhileAreAllDelivered) {
  struct sigaction action {
  }, old_standard, old_queued;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  action.sa_handler = [](int) { handled_standard.fetch_add(1, kRelaxed); };
  sigaction(SIGUSR1, &action, &old_standard);
  action.sa_flags = SA_RESTART | SA_SIGINFO;
  action.sa_sigaction = [](int, siginfo_t* info, void*) {
    handled_queued.fetch_add(1, kRelaxed);
    sum_of_values.fetch_add(info->si_value.sival_int, kRelaxed);
  };
  sigaction(SIGRTMIN + 3, &action, &old_queued);
  handled_standard.store(0);
  handled_queued.store(0);
  sum_of_values.store(0);

  struct Target {
    pthread_t thread{};
    std::atomic<bool> quit{false};
  } target;
  ASSERT_EQ(0, pthread_create(
                   &target.thread, nullptr,
                   [](void* argument) -> void* {
                     while (!static_cast<Target*>(argument)->quit.load(kRelaxed)) {
                     }
                     return nullptr;
                   },
                   &target));
  struct Sender {
    Target* target;
    std::atomic<bool> enough{false};
    int queued = 0, standard = 0;
    long sum = 0;
  } sender{&target};
  pthread_t sending{};
  ASSERT_EQ(0, pthread_create(
                   &sending, nullptr,
                   [](void* argument) -> void* {
                     auto* s = static_cast<Sender*>(argument);
                     for (int i = 1; !s->enough.load(kRelaxed); ++i) {
                       sigval value{};
                       value.sival_int = i;
                       while (pthread_sigqueue(s->target->thread, SIGRTMIN + 3, value) != 0) sched_yield();
                       ++s->queued;
                       s->sum += i;
                       // Not so many that the target never comes to its loop, yet always some.
                       while (handled_queued.load(kRelaxed) < s->queued - 8 && !s->enough.load(kRelaxed))
                         sched_yield();
                       if (i % 10 == 0) {
                         // A standard signal does not queue: send the next when the last was handled.
                         while (handled_standard.load(kRelaxed) < s->standard && !s->enough.load(kRelaxed))
                           sched_yield();
                         pthread_kill(s->target->thread, SIGUSR1);
                         ++s->standard;
                       }
                     }
                     return nullptr;
                   },
                   &sender));
  ThreadStopper stopper;
  int resumed = 0;
  for (int stops = 0; stops < 200; ++stops) {
    if (stopper.stop(GetParam(), kTimeout) == StopResult::stopped) resumed += stopper.resume();
  }
  sender.enough.store(true, kRelaxed);
  pthread_join(sending, nullptr);
  const uint64_t deadline = now_ns() + 10 * kSecond;
  while (
      (handled_queued.load(kRelaxed) < sender.queued || handled_standard.load(kRelaxed) < sender.standard) &&
      now_ns() < deadline) {
    sched_yield();
  }
  target.quit.store(true, kRelaxed);
  pthread_join(target.thread, nullptr);
  EXPECT_EQ(200, resumed);
  EXPECT_GT(sender.standard, 10);
  EXPECT_EQ(sender.queued, handled_queued.load());
  EXPECT_EQ(sender.sum, sum_of_values.load());
  EXPECT_EQ(sender.standard, handled_standard.load());
  sigaction(SIGUSR1, &old_standard, nullptr);
  sigaction(SIGRTMIN + 3, &old_queued, nullptr);
}

// Child processes whose parent is us and which share our memory: the helper.
int find_helper() {
  int found = 0;
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%d/children", thread_id());
  const long fd = syscall(SYS_openat, -100, path, 0);
  if (fd < 0) return 0;
  char text[64] = {};
  if (syscall(SYS_read, fd, text, sizeof text - 1) > 0) {
    for (const char* at = text; *at >= '0' && *at <= '9'; ++at) found = found * 10 + (*at - '0');
  }
  syscall(SYS_close, fd);
  return found;
}

TEST(ThreadStopByPtrace, KilledHelperIsNoticed) {
  if (!ptrace_is_possible()) GTEST_SKIP() << "this process may not trace itself";
  Counters counters(2);
  ThreadStopper stopper;
  ASSERT_EQ(StopResult::stopped, stopper.stop(StopMethod::ptrace_helper, kTimeout));
  const int helper = find_helper();
  if (helper == 0) {
    stopper.resume();
    GTEST_SKIP() << "the kernel does not list children";
  }
  syscall(SYS_kill, helper, SIGKILL);
  const timespec a_while{0, 20'000'000};
  syscall(SYS_nanosleep, &a_while, nullptr);
  EXPECT_FALSE(stopper.resume());
  EXPECT_TRUE(counters.wait_for_all_to_count());
  int status = 0;
  EXPECT_EQ(-1, waitpid(-1, &status, WNOHANG | __WALL));
  ASSERT_EQ(StopResult::stopped, stopper.stop(StopMethod::ptrace_helper, kTimeout));
  EXPECT_TRUE(stopper.resume());
}

TEST(ThreadStopByPtrace, SignalsSurviveAKilledHelper) {
  if (!ptrace_is_possible()) GTEST_SKIP() << "this process may not trace itself";
  EXPECT_EQ(0, in_child([] {
              struct sigaction action {};
              action.sa_sigaction = [](int, siginfo_t* info, void*) {
                sum_of_values.fetch_add(info->si_value.sival_int, kRelaxed);
                handled_queued.fetch_add(1, kRelaxed);
              };
              action.sa_flags = SA_SIGINFO | SA_RESTART;
              sigaction(SIGRTMIN + 3, &action, nullptr);
              handled_queued.store(0);
              sum_of_values.store(0);
              static std::atomic<bool> quit{false}, all_sent{false};
              constexpr int kSignals = 20000;
              static pthread_t target;
              pthread_t sender{};
              const auto spin = [](void*) -> void* {
                while (!quit.load(kRelaxed)) {
                }
                return nullptr;
              };
              REQUIRE(pthread_create(&target, nullptr, spin, nullptr) == 0);
              REQUIRE(pthread_create(
                          &sender, nullptr,
                          [](void*) -> void* {
                            for (int i = 1; i <= kSignals; ++i) {
                              sigval value{};
                              value.sival_int = i;
                              while (pthread_sigqueue(target, SIGRTMIN + 3, value) != 0) sched_yield();
                              // One at a time, so that most stops meet a thread that is about to take one.
                              while (handled_queued.load(kRelaxed) < i - 2) sched_yield();
                            }
                            all_sent.store(true, kRelaxed);
                            return nullptr;
                          },
                          nullptr) == 0);
              ThreadStopper stopper;
              int killed = 0;
              while (!all_sent.load(kRelaxed)) {
                REQUIRE(stopper.stop(StopMethod::ptrace_helper, kTimeout) == StopResult::stopped);
                const int helper = find_helper();
                if (helper != 0) {
                  ++killed;
                  syscall(SYS_kill, helper, SIGKILL);
                }
                stopper.resume();
              }
              pthread_join(sender, nullptr);
              while (handled_queued.load(kRelaxed) < kSignals)
                sched_yield();  // a lost one: ended by the alarm
              quit.store(true, kRelaxed);
              pthread_join(target, nullptr);
              REQUIRE(killed > 10);
              REQUIRE(sum_of_values.load() == long{kSignals} * (kSignals + 1) / 2);
            }));
}

TEST(ThreadStopAutomatic, ProcessThatMayNotBeTracedUsesSignals) {
  if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer's background thread blocks every signal";
  if (geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  EXPECT_EQ(0, in_child([] {
              REQUIRE(syscall(SYS_setgid, 65534) == 0);
              REQUIRE(syscall(SYS_setuid, 65534) == 0);
              REQUIRE(prctl(PR_SET_DUMPABLE, 1) == 0);
              Counters counters(2);
              ThreadStopper stopper;
              // An ordinary user who may: the helper.
              if (ptrace_is_possible()) {
                REQUIRE(stopper.stop(StopMethod::automatic, kTimeout) == StopResult::stopped);
                REQUIRE(stopper.resume());
                REQUIRE(stopper.last_method() == StopMethod::ptrace_helper);
              }
              REQUIRE(prctl(PR_SET_DUMPABLE, 0) == 0);
              REQUIRE(stopper.stop(StopMethod::ptrace_helper, kTimeout) == StopResult::refused);
              for (int round = 0; round < 5; ++round) {
                REQUIRE(stopper.stop(StopMethod::automatic, kTimeout) == StopResult::stopped);
                const uint64_t first = counters.count(0) + counters.count(1);
                const timespec a_while{0, 2'000'000};
                syscall(SYS_nanosleep, &a_while, nullptr);
                const uint64_t second = counters.count(0) + counters.count(1);
                REQUIRE(stopper.resume());
                REQUIRE(first == second);
                REQUIRE(stopper.last_method() == StopMethod::signal);
                REQUIRE(counters.wait_for_all_to_count());
              }
              // The refusal is remembered for a while, then the helper is tried again.
              REQUIRE(prctl(PR_SET_DUMPABLE, 1) == 0);
              REQUIRE(stopper.stop(StopMethod::automatic, kTimeout) == StopResult::stopped);
              REQUIRE(stopper.resume());
              REQUIRE(stopper.last_method() == StopMethod::signal);
              bool again = false;
              for (int round = 0; round < 100 && !again; ++round) {
                REQUIRE(stopper.stop(StopMethod::automatic, kTimeout) == StopResult::stopped);
                REQUIRE(stopper.resume());
                again = stopper.last_method() == StopMethod::ptrace_helper;
              }
              REQUIRE(again || !ptrace_is_possible());
            }));
}

TEST(ThreadStopAutomatic, TracedProcessUsesSignals) {
  if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer's background thread blocks every signal";
  if (!ptrace_is_possible()) GTEST_SKIP() << "tracing is not permitted here";
  // The debugger's part: seizes every thread that appears, passes all signals on.
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    sleep_ms(100);
    Counters counters(2);
    ThreadStopper stopper;
    REQUIRE(stopper.stop(StopMethod::ptrace_helper, kTimeout) == StopResult::refused);
    REQUIRE(stopper.stop(StopMethod::automatic, kTimeout) == StopResult::stopped);
    REQUIRE(stopper.last_method() == StopMethod::signal);
    REQUIRE(stopper.resume());
    REQUIRE(counters.wait_for_all_to_count());
    _exit(42);
  }
  ASSERT_EQ(0, ptrace(PTRACE_SEIZE, child, nullptr, PTRACE_O_TRACECLONE));
  int status = 0, exit_status = -1;
  for (;;) {
    const pid_t who = waitpid(-1, &status, __WALL);
    if (who < 0) break;
    if (WIFEXITED(status) || WIFSIGNALED(status)) {
      if (who == child) exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
      continue;
    }
    const int signal = status >> 16 == 0 ? WSTOPSIG(status) : 0;
    ptrace(PTRACE_CONT, who, nullptr, static_cast<long>(signal));
  }
  EXPECT_EQ(42, exit_status);
}

TEST(ThreadStopBySignal, SignalThatTheProgramTakesIsLeftToIt) {
  if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer's background thread blocks every signal";
  EXPECT_EQ(0, in_child([] {
              Counters counters(2);
              ThreadStopper stopper;
              static std::atomic<int> calls{0};
              for (int round = 0; round < 3; ++round) {
                REQUIRE(stopper.stop(StopMethod::signal, kTimeout) == StopResult::stopped);
                REQUIRE(stopper.resume());
                // Takes over whichever signal has a handler now.
                for (int signal = 35; signal <= 64; ++signal) {
                  struct sigaction now {};
                  sigaction(signal, nullptr, &now);
                  if (now.sa_handler == SIG_DFL) continue;
                  now.sa_flags = SA_RESTART;
                  now.sa_handler = [](int) { calls.fetch_add(1, kRelaxed); };
                  sigaction(signal, &now, nullptr);
                }
              }
              REQUIRE(stopper.stop(StopMethod::signal, kTimeout) == StopResult::stopped);
              REQUIRE(stopper.resume());
              REQUIRE(counters.wait_for_all_to_count());
              REQUIRE(calls.load() == 0);
              int taken = 0;
              for (int signal = 35; signal <= 64; ++signal) {
                struct sigaction now {};
                sigaction(signal, nullptr, &now);
                taken += now.sa_handler != SIG_DFL;
              }
              REQUIRE(taken == 4);
            }));
}

TEST(ThreadStopBySignal, HandlerRunsOnTheAlternateStack) {
  if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer's background thread blocks every signal";
  // A thread whose stack pointer stands at the very end of its usable stack survives the stop.
  struct Edge {
    std::atomic<bool> quit{false}, ready{false};
    char* page = nullptr;
  } edge;
  const size_t size = 16384;
  edge.page =
      static_cast<char*>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(MAP_FAILED, static_cast<void*>(edge.page));
  memset(edge.page, 0x77, size);
#if defined(__x86_64__)
  pthread_t thread{};
  ASSERT_EQ(0, pthread_create(
                   &thread, nullptr,
                   [](void* argument) -> void* {
                     auto* e = static_cast<Edge*>(argument);
                     static char alternate[65536];
                     stack_t stack{};
                     stack.ss_sp = alternate;
                     stack.ss_size = sizeof alternate;
                     sigaltstack(&stack, nullptr);
                     // Stands on the last 64 bytes of the page: whoever pushes a frame there overwrites it.
                     __asm__ volatile(
                         "mov %%rsp, %%rbx\n mov %[top], %%rsp\n movb $1, %[ready]\n"
                         "1: cmpb $0, (%[quit])\n je 1b\n mov %%rbx, %%rsp\n"
                         : [ready] "=m"(e->ready)
                         : [top] "r"(e->page + 16384 - 64), [quit] "r"(&e->quit)
                         : "rbx", "memory", "cc");
                     stack.ss_flags = SS_DISABLE;
                     sigaltstack(&stack, nullptr);
                     return nullptr;
                   },
                   &edge));
  while (!edge.ready.load(kRelaxed)) sched_yield();
  ThreadStopper stopper;
  ASSERT_EQ(StopResult::stopped, stopper.stop(StopMethod::signal, kTimeout));
  const uintptr_t pointer = stopper.thread(0).stack_pointer;
  stopper.resume();
  edge.quit.store(true, kRelaxed);
  pthread_join(thread, nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(edge.page) + size - 64 - 128, pointer);
  for (size_t i = 0; i < size; ++i) ASSERT_EQ(0x77, edge.page[i]) << i;
#else
  munmap(edge.page, size);
  GTEST_SKIP() << "the loop is written for x86-64";
#endif
  munmap(edge.page, size);
}

TEST(ThreadStopBySignal, HandlerReturnsAgainAndAgain) {
  if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer's background thread blocks every signal";
  Counters counters(1);
  ThreadStopper stopper;
  for (int round = 0; round < 200; ++round) {
    ASSERT_EQ(StopResult::stopped, stopper.stop(StopMethod::signal, kTimeout));
    ASSERT_TRUE(stopper.resume());
  }
  EXPECT_TRUE(counters.wait_for_all_to_count());
}

TEST(ThreadStopAlone, NothingIsStopped) {
  EXPECT_EQ(0, in_child([] {
              if (kThreadSanitizer) return;  // never alone
              for (const StopMethod method :
                   {StopMethod::automatic, StopMethod::ptrace_helper, StopMethod::signal}) {
                ThreadStopper stopper;
                REQUIRE(stopper.stop(method, kTimeout) == StopResult::alone);
                REQUIRE(stopper.thread_count() == 0);
                REQUIRE(stopper.resume());
                REQUIRE(stopper.own_memory().empty());
              }
            }));
}

TEST(ThreadStopAfterFork, ChildStopsItsOwnThreads) {
  ThreadStopper stopper;
  Counters counters(2);
  ASSERT_EQ(StopResult::stopped, stopper.stop(StopMethod::automatic, kTimeout));
  ASSERT_TRUE(stopper.resume());
  for (int round = 0; round < 5; ++round) {
    EXPECT_EQ(
        0, in_child([&stopper] {
          stopper.after_fork_in_child();
          REQUIRE(kThreadSanitizer || stopper.stop(StopMethod::automatic, kTimeout) == StopResult::alone);
          for (const StopMethod method : {StopMethod::ptrace_helper, StopMethod::signal}) {
            if (method == StopMethod::ptrace_helper && !ptrace_is_possible()) continue;
            if (kThreadSanitizer && method == StopMethod::signal) continue;
            Counters own(3);
            REQUIRE(stopper.stop(method, kTimeout) == StopResult::stopped);
            const size_t count = stopper.thread_count();
            REQUIRE(stopper.resume());
            REQUIRE(count == 3u + (kThreadSanitizer ? 1 : 0));
            REQUIRE(own.wait_for_all_to_count());
          }
        }));
  }
  ASSERT_EQ(StopResult::stopped, stopper.stop(StopMethod::automatic, kTimeout));
  ASSERT_TRUE(stopper.resume());
}

TEST(ThreadStopAfterFork, ForksWhileThreadsAreStoppedAgainAndAgain) {
  // A busy thread forks while another one stops the process: parent and children all come through.
  static std::atomic<bool> quit{false};
  static std::atomic<int> forks{0}, bad{0};
  quit.store(false);
  pthread_t forker{};
  ASSERT_EQ(0, pthread_create(
                   &forker, nullptr,
                   [](void*) -> void* {
                     while (!quit.load(kRelaxed)) {
                       const pid_t child = fork();
                       if (child == 0) _exit(7);
                       int status = 0;
                       if (child < 0 || waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 7) {
                         bad.fetch_add(1, kRelaxed);
                       }
                       forks.fetch_add(1, kRelaxed);
                     }
                     return nullptr;
                   },
                   nullptr));
  ThreadStopper stopper;
  for (int round = 0; round < 100; ++round) {
    const StopResult result = stopper.stop(StopMethod::automatic, kTimeout);
    EXPECT_EQ(StopResult::stopped, result);
    if (result == StopResult::stopped) stopper.resume();
  }
  quit.store(true, kRelaxed);
  pthread_join(forker, nullptr);
  EXPECT_GT(forks.load(), 0);
  EXPECT_EQ(0, bad.load());
}

TEST(CountThreads, IsWhatTheKernelCounts) {
  const size_t before = count_threads();
  ASSERT_GE(before, 1u);
  {
    Counters counters(3);
    EXPECT_EQ(before + 3 + (kThreadSanitizer && before == 1 ? 1 : 0), count_threads());
  }
}

TEST(CountThreads, IsUnknownWithoutProc) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root for chroot";
  EXPECT_EQ(0, in_child([] {
              char directory[] = "/var/tmp/thread_stop_XXXXXX";
              REQUIRE(mkdtemp(directory) != nullptr);
              const bool moved = chdir(directory) == 0 && rmdir(directory) == 0 && chroot(".") == 0;
              REQUIRE(moved);
              REQUIRE(count_threads() == 0);
              Counters counters(1);
              ThreadStopper stopper;
              REQUIRE(stopper.stop(StopMethod::automatic, kTimeout) == StopResult::refused);
              REQUIRE(counters.wait_for_all_to_count());
            }));
}

}  // namespace
}  // namespace nonreuse
