// Stopping threads: what is short for a while makes a stop time out, and the next one succeeds; what is
// forbidden to one mechanism is done by the other; PR_SET_PTRACER is the last resort.
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/resource.h>

#include "thread_stop_support.hpp"

namespace nonreuse::thread_stop_test {
namespace {

// Lowers what one may have of a resource, until the end of its life.
class Limit {
 public:
  Limit(int resource, rlim_t most) : resource_(resource) {
    getrlimit(resource_, &before_);
    const rlimit lower{most, before_.rlim_max};
    EXPECT_EQ(0, set(lower));
  }
  ~Limit() { set(before_); }
  Limit(const Limit&) = delete;
  Limit& operator=(const Limit&) = delete;

 private:
  int set(const rlimit& limit) const {
    return static_cast<int>(syscall(SYS_prlimit64, 0, resource_, &limit, nullptr));
  }
  int resource_;
  rlimit before_{};
};

// ---- short for a while ----

TEST_P(ThreadStop, NoMemoryForTheTableTimesOut) {
  NONREUSE_NOT_EMULATED("it does not heed limits of memory");
  if (kThreadSanitizer || kAddressSanitizer)
    GTEST_SKIP() << "a sanitizer's runtime does not live with so small a limit";
  const StopMethod method = GetParam();
  EXPECT_EQ(0, in_child([method] {
              Counters counters(2);
              ThreadStopper stopper;
              {
                const Limit memory(RLIMIT_AS, 1 << 20);
                REQUIRE(try_stop(stopper, method, kTimeout) == StopResult::timed_out);
                REQUIRE(try_stop(stopper, StopMethod::automatic, kTimeout) == StopResult::timed_out);
              }
              REQUIRE(stops_by(stopper, method));
              REQUIRE(counters.wait_for_all_to_count());
            }));
}

TEST(ThreadStopLack, FullTableOfDescriptorsTimesOutBySignal) {
  if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer's background thread blocks every signal";
  EXPECT_EQ(0, in_child([] {
              const bool tracing = ptrace_is_possible();
              Counters counters(2);
              ThreadStopper stopper;
              const Limit descriptors(RLIMIT_NOFILE, 64);
              while (dup(0) >= 0) {
              }
              REQUIRE(errno == EMFILE);
              REQUIRE(try_stop(stopper, StopMethod::signal, kTimeout) == StopResult::timed_out);
              // The helper has a table of its own.
              REQUIRE(!tracing || stops_by(stopper, StopMethod::ptrace_helper));
              close(63);
              REQUIRE(stops_by(stopper, StopMethod::signal));
              REQUIRE(counters.wait_for_all_to_count());
            }));
}

TEST(ThreadStopLack, SandboxWithoutDescriptorsIsARefusal) {
  EXPECT_EQ(0, in_child([] {
              Counters counters(2);
              ThreadStopper stopper;
              const Limit descriptors(RLIMIT_NOFILE, 0);
              REQUIRE(try_stop(stopper, StopMethod::automatic, kTimeout) == StopResult::refused);
              REQUIRE(counters.wait_for_all_to_count());
            }));
}

TEST(ThreadStopLack, NoProcessToBeHad) {
  NONREUSE_NOT_EMULATED("it has no processes that share memory");
  if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer's background thread blocks every signal";
  if (geteuid() != 0) GTEST_SKIP() << "needs root to become a user that has no other processes";
  EXPECT_EQ(0, in_child([] {
              REQUIRE(become_ordinary_user());
              const bool tracing = ptrace_is_possible();
              Counters counters(2);
              ThreadStopper stopper;
              {
                const Limit processes(RLIMIT_NPROC, 1);
                REQUIRE(try_stop(stopper, StopMethod::ptrace_helper, kTimeout) == StopResult::timed_out);
                REQUIRE(stops_by(stopper, StopMethod::automatic));
                REQUIRE(stopper.last_method() == StopMethod::signal);
              }
              // No refusal that would be remembered.
              REQUIRE(stops_by(stopper, StopMethod::automatic));
              REQUIRE(!tracing || stopper.last_method() == StopMethod::ptrace_helper);
            }));
}

TEST(ThreadStopLack, FullQueueOfSignalsTimesOutWithoutSpinning) {
  NONREUSE_NOT_EMULATED("it keeps signals in queues of its own");
  if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer's background thread blocks every signal";
  EXPECT_EQ(0, in_child([] {
              Counters counters(2);
              ThreadStopper stopper;
              signal(SIGURG, [](int) {});  // so that a real-time signal is used, which must be queued
              {
                const Limit queue(RLIMIT_SIGPENDING, 0);
                rusage before{}, after{};
                getrusage(RUSAGE_THREAD, &before);
                REQUIRE(try_stop(stopper, StopMethod::signal, kSecond / 2) == StopResult::timed_out);
                getrusage(RUSAGE_THREAD, &after);
                // Each try sleeps once: about ten, with pauses that double.
                REQUIRE(after.ru_nvcsw - before.ru_nvcsw < 60);
              }
              REQUIRE(stops_by(stopper, StopMethod::signal));
              REQUIRE(counters.wait_for_all_to_count());
            }));
}

// SIGURG needs no room in the queue.
TEST(ThreadStopLack, AFullQueueOfSignalsDoesNotMatterToSigurg) {
  if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer's background thread blocks every signal";
  EXPECT_EQ(0, in_child([] {
              Counters counters(2);
              ThreadStopper stopper;
              const Limit queue(RLIMIT_SIGPENDING, 0);
              REQUIRE(stops_by(stopper, StopMethod::signal));
              REQUIRE(counters.wait_for_all_to_count());
            }));
}

// ---- forbidden ----

struct Rule {
  long call;
  uint32_t action;
  long first_argument = -1;  // -1: any
};

// From now on, for all threads.
bool apply(const std::vector<Rule>& rules) {
  std::vector<sock_filter> code;
  for (const Rule& rule : rules) {
    const auto number = static_cast<uint32_t>(rule.call);
    code.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
    if (rule.first_argument < 0) {
      code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1));
    } else {
      const auto argument = static_cast<uint32_t>(rule.first_argument);
      code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 3));
      code.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[0])));
      code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, argument, 0, 1));
    }
    code.push_back(BPF_STMT(BPF_RET | BPF_K, rule.action));
  }
  code.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}
constexpr uint32_t kForbidden = SECCOMP_RET_ERRNO | EPERM;

TEST(ThreadStopForbidden, SignalsAloneLeaveTheHelper) {
  if (!ptrace_is_possible()) GTEST_SKIP() << "this process may not trace itself";
  EXPECT_EQ(0, in_child([] {
              Counters counters(2);
              ThreadStopper stopper;
              REQUIRE(apply({{SYS_tgkill, kForbidden}}));
              for (int round = 0; round < 3; ++round) {
                REQUIRE(stops_by(stopper, StopMethod::automatic));
                REQUIRE(stopper.last_method() == StopMethod::ptrace_helper);
                REQUIRE(counters.wait_for_all_to_count());
              }
              REQUIRE(try_stop(stopper, StopMethod::signal, kTimeout) == StopResult::refused);
              _exit(0);
            }));
}

TEST(ThreadStopForbidden, BothAreARefusal) {
  NONREUSE_NOT_EMULATED("it has no filters for system calls");
  EXPECT_EQ(0, in_child([] {
              Counters counters(2);
              ThreadStopper stopper;
              REQUIRE(apply({{SYS_ptrace, kForbidden}, {SYS_tgkill, kForbidden}}));
              for (int round = 0; round < 3; ++round) {
                REQUIRE(try_stop(stopper, StopMethod::automatic, kTimeout) == StopResult::refused);
                REQUIRE(counters.wait_for_all_to_count());
              }
              _exit(0);
            }));
}

// The helper was refused, so stops go by signals for a while; then these are refused and the helper is not.
TEST(ThreadStopForbidden, RememberedRefusalDoesNotStandAgainstTheHelper) {
  NONREUSE_NOT_EMULATED("it has no filters for system calls");
  if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer's background thread blocks every signal";
  if (geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  EXPECT_EQ(0, in_child([] {
              REQUIRE(become_ordinary_user());
              const bool tracing = ptrace_is_possible();
              Counters counters(2);
              ThreadStopper stopper;
              REQUIRE(prctl(PR_SET_DUMPABLE, 0) == 0);
              REQUIRE(stops_by(stopper, StopMethod::automatic));
              REQUIRE(stopper.last_method() == StopMethod::signal);
              REQUIRE(apply({{SYS_tgkill, kForbidden}}));
              REQUIRE(prctl(PR_SET_DUMPABLE, 1) == 0);
              REQUIRE(stops_by(stopper, StopMethod::automatic) == tracing);
              REQUIRE(!tracing || stopper.last_method() == StopMethod::ptrace_helper);
              _exit(0);
            }));
}

// ---- PR_SET_PTRACER ----

std::atomic<int> times_asked{0};

// Counts the calls of PR_SET_PTRACER, which fail; ptrace(2) is refused as Yama refuses it.
void watch_permissions() {
  struct sigaction action {};
  action.sa_flags = SA_SIGINFO;
  action.sa_sigaction = [](int, siginfo_t*, void* context) {
    times_asked.fetch_add(1, kRelaxed);
    (void)context;
  };
  sigaction(SIGSYS, &action, nullptr);
  REQUIRE(apply({{SYS_ptrace, kForbidden}, {SYS_prctl, SECCOMP_RET_TRAP, PR_SET_PTRACER}}));
}

TEST(ThreadStopPermission, IsNotAskedForWhereSignalsDo) {
  NONREUSE_NOT_EMULATED("it has no filters for system calls");
  if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer's background thread blocks every signal";
  EXPECT_EQ(0, in_child([] {
              Counters counters(2);
              ThreadStopper stopper;
              watch_permissions();
              for (int round = 0; round < 100; ++round) {
                REQUIRE(stops_by(stopper, StopMethod::automatic));
                REQUIRE(stopper.last_method() == StopMethod::signal);
              }
              REQUIRE(times_asked.load() == 0);
              // Whoever wants the helper gets it, if it takes that.
              REQUIRE(try_stop(stopper, StopMethod::ptrace_helper, kTimeout) == StopResult::refused);
              REQUIRE(times_asked.load() > 0);
              _exit(0);
            }));
}

TEST(ThreadStopPermission, IsAskedForOnceWhereSignalsDoNot) {
  NONREUSE_NOT_EMULATED("it has no filters for system calls");
  EXPECT_EQ(0, in_child([] {
              static std::atomic<bool> ready{false};
              pthread_t deaf{};
              REQUIRE(pthread_create(
                          &deaf, nullptr,
                          [](void*) -> void* {
                            sigset_t all;
                            sigfillset(&all);
                            pthread_sigmask(SIG_BLOCK, &all, nullptr);
                            ready.store(true, kRelaxed);
                            for (;;) sleep_ms(1000);
                          },
                          nullptr) == 0);
              while (!ready.load(kRelaxed)) sched_yield();
              ThreadStopper stopper;
              watch_permissions();
              REQUIRE(try_stop(stopper, StopMethod::automatic, kSecond / 10) == StopResult::timed_out);
              const int asked = times_asked.load();
              REQUIRE(asked > 0);
              // It did not help; that is remembered.
              REQUIRE(try_stop(stopper, StopMethod::automatic, kSecond / 10) == StopResult::timed_out);
              REQUIRE(times_asked.load() == asked);
              _exit(0);
            }));
}

INSTANTIATE_TEST_SUITE_P(Methods, ThreadStop, testing::Values(StopMethod::ptrace_helper, StopMethod::signal),
                         [](const auto& param_info) { return std::string(name_of(param_info.param)); });

}  // namespace
}  // namespace nonreuse::thread_stop_test
