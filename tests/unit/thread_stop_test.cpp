// Stopping threads: they stand still, all of them, and their registers are seen.
#include "thread_stop_support.hpp"

namespace nonreuse::thread_stop_test {
namespace {

INSTANTIATE_TEST_SUITE_P(Methods, ThreadStop, testing::Values(StopMethod::ptrace_helper, StopMethod::signal),
                         [](const auto& param_info) { return std::string(name_of(param_info.param)); });

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
      EXPECT_EQ(with_bystanders(threads), stopped);
      EXPECT_EQ(GetParam(), stopper.last_method());
      ASSERT_TRUE(counters.wait_for_all_to_count());
    }
  }
}

TEST_P(ThreadStop, AllRunUntilWhatWasPreparedIsDone) {
  Counters counters(3);
  ThreadStopper stopper;
  for (int round = 0; round < 5; ++round) {
    stopper.prepare(GetParam(), kTimeout);
    const bool counted = counters.wait_for_all_to_count();
    const uint64_t begin = now_ns();
    ASSERT_EQ(StopResult::stopped, stopper.stop(GetParam(), kTimeout));
    const uint64_t first = counters.count(0), seen = now_ns();
    const timespec a_while{0, 2'000'000};
    syscall(SYS_nanosleep, &a_while, nullptr);
    const uint64_t second = counters.count(0);
    EXPECT_TRUE(stopper.resume());
    EXPECT_TRUE(counted);
    EXPECT_EQ(first, second);
    EXPECT_LE(begin, stopper.began_ns());
    EXPECT_GE(seen, stopper.began_ns());
    EXPECT_LE(seen + 2'000'000, stopper.resumed_ns());
    EXPECT_GE(now_ns(), stopper.resumed_ns());
    ASSERT_TRUE(counters.wait_for_all_to_count());
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
    content = peek(slot);
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

// Changes its user, which every thread has to do, again and again.
struct Changer {
  std::atomic<bool> quit{false};
  std::atomic<uint64_t> changes{0};
  std::atomic<uint64_t> from_ns{~uint64_t{0}}, first_ns{0};  // the first change from that moment on
  static void* run(void* argument) {
    auto* self = static_cast<Changer*>(argument);
    while (!self->quit.load(kRelaxed)) {
      EXPECT_EQ(0, seteuid(geteuid()));
      self->changes.fetch_add(1, kRelaxed);
      const uint64_t now = now_ns();
      if (self->first_ns.load(kRelaxed) == 0 && now >= self->from_ns.load(kRelaxed)) {
        self->first_ns.store(now, kRelaxed);
      }
    }
    return nullptr;
  }
};

TEST(ThreadStopBySignal, UserIsChangedBetweenTries) {
  if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer's background thread blocks every signal";
  Blocker blocker;
  Changer changer;
  pthread_t blocking{}, changing{};
  ASSERT_EQ(0, pthread_create(&blocking, nullptr, count_with_signals_blocked, &blocker));
  while (!blocker.ready.load(kRelaxed)) sched_yield();
  ASSERT_EQ(0, pthread_create(&changing, nullptr, Changer::run, &changer));
  while (changer.changes.load(kRelaxed) == 0) sched_yield();
  ThreadStopper stopper;
  changer.from_ns.store(now_ns() + kSecond / 100, kRelaxed);  // the first try takes twice as long
  const StopResult result = stopper.stop(StopMethod::signal, kSecond);
  const uint64_t ended = now_ns(), changed = changer.first_ns.load(kRelaxed);
  changer.quit.store(true, kRelaxed);
  blocker.quit.store(true, kRelaxed);
  pthread_join(changing, nullptr);
  pthread_join(blocking, nullptr);
  EXPECT_EQ(StopResult::timed_out, result);
  EXPECT_NE(0u, changed);
  EXPECT_LT(changed, ended - kSecond / 10) << "only when all tries were over";
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
              for (int signal = SIGURG; signal <= 64; ++signal) {
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
  NONREUSE_NOT_EMULATED("it makes a fork of vfork");
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
  EXPECT_EQ(with_bystanders(100), count);
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
  EXPECT_EQ(
      0, in_child([] {
        pthread_t thread{};
        REQUIRE(pthread_create(
                    &thread, nullptr,
                    [](void*) -> void* {
                      sleep_ms(50);  // the leader is a zombie now
                      ThreadStopper stopper;
                      REQUIRE(try_stop(stopper, wanted, kTimeout) == StopResult::alone || kThreadSanitizer);
                      auto* counters = new Counters(2);
                      for (int round = 0; round < 5; ++round) {
                        REQUIRE(stopper.stop(wanted, kTimeout) == StopResult::stopped);
                        const size_t count = stopper.thread_count();
                        REQUIRE(stopper.resume());
                        REQUIRE(count == 2 || kThreadSanitizer);
                        REQUIRE(counters->wait_for_all_to_count());
                      }
                      _exit(0);
                    },
                    nullptr) == 0);
        syscall(SYS_exit, 0);  // pthread_exit() would unwind the frames of the test framework
      }));
}

}  // namespace
}  // namespace nonreuse::thread_stop_test
