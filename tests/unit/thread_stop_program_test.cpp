// Stopping threads: nothing of the program is disturbed, and what forbids tracing is fallen back from.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>

#include "thread_stop_support.hpp"

namespace nonreuse::thread_stop_test {
namespace {

INSTANTIATE_TEST_SUITE_P(Methods, ThreadStop, testing::Values(StopMethod::ptrace_helper, StopMethod::signal),
                         [](const auto& param_info) { return std::string(name_of(param_info.param)); });

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

// A handler of the program might wait for a stopped thread; and a change of user (by the signal before the
// first that programs may use) shall wait until no helper with the rights of before is left.
TEST_P(ThreadStop, SignalsWaitFromPreparingOn) {
  Counters counters(2);
  ThreadStopper stopper;
  sigset_t prepared;
  stopper.prepare(GetParam(), kTimeout);
  pthread_sigmask(SIG_BLOCK, nullptr, &prepared);
  ASSERT_EQ(StopResult::stopped, stopper.stop(GetParam(), kTimeout));
  stopper.resume();
  sigset_t after;
  pthread_sigmask(SIG_BLOCK, nullptr, &after);
  for (const int signal : {SIGUSR1, SIGTERM, SIGRTMIN - 1, SIGRTMAX}) {
    EXPECT_EQ(1, sigismember(&prepared, signal)) << signal;
    EXPECT_EQ(0, sigismember(&after, signal)) << signal;
  }
  EXPECT_EQ(0, sigismember(&prepared, SIGSEGV));
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
  EXPECT_GT(stops, 0);
}

std::atomic<int> handled_standard{0};
std::atomic<int> handled_queued{0};
std::atomic<long> sum_of_values{0};

TEST_P(ThreadStop, SignalsSentMeanwhileAreAllDelivered) {
  if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer does not queue the signals that it defers";
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
    std::atomic<int> standard{0};
    int queued = 0;
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
  // The stops may take all the time of a busy machine: go on until the sender has had its turns too.
  constexpr int kMinStops = 200, kMinSignals = 10;
  int stops = 0, resumed = 0;
  for (const uint64_t deadline = now_ns() + 30 * kSecond;
       stops < kMinStops || (sender.standard.load(kRelaxed) < kMinSignals && now_ns() < deadline); ++stops) {
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
  EXPECT_EQ(stops, resumed);
  EXPECT_GE(sender.standard, kMinSignals);
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

// Killed while it waited for the word to go, or out of patience. (With many more threads than there were.)
TEST(ThreadStopByPtrace, AHelperThatIsGoneBeforeTheStopIsReplaced) {
  if (!ptrace_is_possible()) GTEST_SKIP() << "this process may not trace itself";
  Counters counters(2);
  ThreadStopper stopper;
  for (const bool by_force : {true, false}) {
    stopper.prepare(StopMethod::ptrace_helper, kTimeout);
    const int helper = find_helper();
    const timespec a_while{0, by_force ? 20'000'000 : 700'000'000};
    if (by_force && helper != 0) syscall(SYS_kill, helper, SIGKILL);
    syscall(SYS_nanosleep, &a_while, nullptr);
    Counters more(by_force ? 1 : 40);
    ASSERT_EQ(StopResult::stopped, stopper.stop(StopMethod::ptrace_helper, kTimeout));
    const size_t stopped = stopper.thread_count();
    EXPECT_TRUE(stopper.resume());
    EXPECT_EQ(with_bystanders(by_force ? 3 : 42), stopped);
    if (by_force && helper == 0) GTEST_SKIP() << "the kernel does not list children";
    EXPECT_TRUE(counters.wait_for_all_to_count());
  }
}

TEST(ThreadStopByPtrace, SignalsSurviveAKilledHelper) {
  if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer does not queue the signals that it defers";
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
              static std::atomic<bool> quit{false}, enough{false};
              static std::atomic<int> sent{0};
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
                            for (int i = 1; !enough.load(kRelaxed); ++i) {
                              sigval value{};
                              value.sival_int = i;
                              while (pthread_sigqueue(target, SIGRTMIN + 3, value) != 0) sched_yield();
                              sent.store(i, kRelaxed);
                              // One at a time, so that most stops meet a thread that is about to take one.
                              while (handled_queued.load(kRelaxed) < i - 2) sched_yield();
                            }
                            return nullptr;
                          },
                          nullptr) == 0);
              ThreadStopper stopper;
              int killed = 0;
              const uint64_t deadline = now_ns() + 20 * kSecond;
              while (killed < 1000 && (killed == 0 || now_ns() < deadline)) {
                // A machine with much else to do may take longer than the time-out: another try then.
                const StopResult result = stopper.stop(StopMethod::ptrace_helper, kTimeout);
                if (result == StopResult::timed_out && now_ns() < deadline) continue;
                REQUIRE(result == StopResult::stopped);
                const int helper = find_helper();
                if (helper != 0) {
                  ++killed;
                  syscall(SYS_kill, helper, SIGKILL);
                }
                stopper.resume();
              }
              enough.store(true, kRelaxed);
              pthread_join(sender, nullptr);
              const long signals = sent.load(kRelaxed);
              while (handled_queued.load(kRelaxed) < signals)
                sched_yield();  // a lost one: ended by the alarm
              quit.store(true, kRelaxed);
              pthread_join(target, nullptr);
              REQUIRE(sum_of_values.load() == signals * (signals + 1) / 2);
            }));
}

TEST(ThreadStopAutomatic, ProcessThatMayNotBeTracedUsesSignals) {
  if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer's background thread blocks every signal";
  if (geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  EXPECT_EQ(0, in_child([] {
              REQUIRE(become_ordinary_user());
              Counters counters(2);
              ThreadStopper stopper;
              // An ordinary user who may: the helper.
              if (ptrace_is_possible()) {
                REQUIRE(stops_by(stopper, StopMethod::automatic));
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
              REQUIRE(stops_by(stopper, StopMethod::automatic));
              REQUIRE(stopper.last_method() == StopMethod::signal);
              bool again = false;
              for (int round = 0; round < 100 && !again; ++round) {
                REQUIRE(stops_by(stopper, StopMethod::automatic));
                again = stopper.last_method() == StopMethod::ptrace_helper;
              }
              REQUIRE(again || !ptrace_is_possible());
            }));
}

// From now on ptrace(2) ends in `ptrace_action` and PR_SET_PTRACER in `permission_action`.
bool filter_system_calls(uint32_t ptrace_action, uint32_t permission_action) {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ptrace, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, ptrace_action),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[0])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_SET_PTRACER, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, permission_action),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{sizeof code / sizeof code[0], code};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

TEST(ThreadStopAutomatic, FilterOnPtraceLeadsToSignals) {
  NONREUSE_NOT_EMULATED("it has no filters for system calls");
  if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer's background thread blocks every signal";
  const uint32_t refusing = SECCOMP_RET_ERRNO | EPERM;
  const uint32_t seemingly_allowing = SECCOMP_RET_ERRNO;
  for (const uint32_t ptrace_action : {refusing, uint32_t{SECCOMP_RET_KILL_PROCESS}}) {
    for (const uint32_t permission_action : {refusing, seemingly_allowing}) {
      EXPECT_EQ(0, in_child([=] {
                  Counters counters(2);
                  REQUIRE(filter_system_calls(ptrace_action, permission_action));
                  ThreadStopper stopper;
                  for (int round = 0; round < 3; ++round) {
                    REQUIRE(stops_by(stopper, StopMethod::automatic));
                    REQUIRE(stopper.last_method() == StopMethod::signal);
                    REQUIRE(try_stop(stopper, StopMethod::ptrace_helper, kTimeout) == StopResult::refused);
                    REQUIRE(counters.wait_for_all_to_count());
                  }
                  REQUIRE(waitpid(-1, nullptr, WNOHANG | __WALL) == -1 && errno == ECHILD);
                  _exit(0);
                }))
          << ptrace_action << " " << permission_action;
    }
  }
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
  NONREUSE_NOT_EMULATED("it has no signals 63 and 64");
  if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer's background thread blocks every signal";
  EXPECT_EQ(0, in_child([] {
              Counters counters(2);
              ThreadStopper stopper;
              static std::atomic<int> calls{0};
              for (int round = 0; round < 3; ++round) {
                REQUIRE(stopper.stop(StopMethod::signal, kTimeout) == StopResult::stopped);
                REQUIRE(stopper.resume());
                // Takes over whichever signal has a handler now.
                for (int signal = SIGURG; signal <= 64; ++signal) {
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
              for (int signal = SIGURG; signal <= 64; ++signal) {
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
                stopper.prepare(method, kTimeout);
                REQUIRE(stopper.stop(method, kTimeout) == StopResult::alone);
                REQUIRE(stopper.thread_count() == 0);
                REQUIRE(stopper.resume());
                REQUIRE(stopper.own_memory().empty());
              }
            }));
}

TEST(ThreadStopAfterFork, ChildStopsItsOwnThreads) {
  NONREUSE_NOT_EMULATED("it does not survive a fork while other threads run");
  if (kThreadSanitizer)
    GTEST_SKIP() << "under ThreadSanitizer a fork's child of threads cannot start its own";
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
            REQUIRE(count == with_bystanders(3));
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
  for (int round = 0; round < 100 || forks.load(kRelaxed) == 0; ++round) {
    const StopResult result = stopper.stop(StopMethod::automatic, kTimeout);
    EXPECT_EQ(StopResult::stopped, result);
    if (result == StopResult::stopped) stopper.resume();
  }
  quit.store(true, kRelaxed);
  pthread_join(forker, nullptr);
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
              std::string directory = testing::TempDir() + "thread_stop_XXXXXX";
              REQUIRE(mkdtemp(directory.data()) != nullptr);
              const bool moved =
                  chdir(directory.c_str()) == 0 && rmdir(directory.c_str()) == 0 && chroot(".") == 0;
              REQUIRE(moved);
              REQUIRE(count_threads() == 0);
              Counters counters(1);
              ThreadStopper stopper;
              REQUIRE(stopper.stop(StopMethod::automatic, kTimeout) == StopResult::refused);
              REQUIRE(counters.wait_for_all_to_count());
            }));
}

}  // namespace
}  // namespace nonreuse::thread_stop_test
