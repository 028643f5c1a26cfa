#include "platform/reader_process.hpp"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <new>
#include <thread>

#include "platform/attributes.hpp"
#include "platform/linux_syscall.hpp"
#include "platform/thread_stop.hpp"

namespace nonreuse {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;

// Shared with forked children, too.
struct Shared {
  std::atomic<int> process{0}, go{0}, seen{0};
};

class ReaderProcessTest : public testing::Test {
 public:
  void SetUp() override {
    if (NONREUSE_SANITIZED) GTEST_SKIP() << "a sanitizer's runtime needs its thread around instrumented code";
    ASSERT_EQ(pipe2(keep_, O_CLOEXEC), 0);
    void* memory = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    shared_ = new (memory) Shared;
  }
  void TearDown() override {
    if (keep_[0] >= 0) close(keep_[0]), close(keep_[1]);
  }

  // The job may use nothing that needs its thread: no errno, no thread-local variable.
  bool start(void (*job)(ReaderProcessTest*)) {
    job_ = job;
    return reader_.start([](void* self) { static_cast<ReaderProcessTest*>(self)->run(); }, this, keep_);
  }
  void run() {
    shared_->process = static_cast<int>(sys::call(SYS_getpid));
    job_(this);
  }
  bool ended() {
    reader_.wait(20 * kSecond);
    return !reader_.running();
  }
  static void nap() {
    const timespec t{0, 1'000'000};
    sys::call(SYS_nanosleep, &t, nullptr);
  }
  void await(std::atomic<int>& word) const {
    for (int i = 0; i < 20'000 && word == 0; ++i) nap();
  }
  static void await_go(ReaderProcessTest* test) { test->await(test->shared_->go); }

  // Ends with the program, and says so.
  static void watch(ReaderProcessTest* test) {
    for (int i = 0; i < 20'000; ++i, nap()) {
      if (!test->reader_.abandoned()) continue;
      test->shared_->seen = 1;
      return;
    }
  }

  ReaderProcess reader_;
  Shared* shared_ = nullptr;
  int keep_[2] = {-1, -1};
  void (*job_)(ReaderProcessTest*) = nullptr;
  uint64_t* words_ = nullptr;
  uint64_t sum_ = 0;
  int results_[4] = {};
};

TEST_F(ReaderProcessTest, RunsTheJobInAProcessOfItsOwn) {
  ASSERT_TRUE(start([](ReaderProcessTest* test) { test->sum_ = 17; }));
  ASSERT_TRUE(ended());
  EXPECT_TRUE(reader_.reap());
  EXPECT_EQ(sum_, 17u);
  EXPECT_NE(shared_->process, getpid());
  ASSERT_TRUE(start([](ReaderProcessTest* test) { test->sum_ += 1; }));
  ASSERT_TRUE(ended());
  EXPECT_TRUE(reader_.reap());
  EXPECT_EQ(sum_, 18u);
}

TEST_F(ReaderProcessTest, IsOneAtATime) {
  ASSERT_TRUE(start(await_go));
  EXPECT_FALSE(start(await_go));
  shared_->go = 1;
  ASSERT_TRUE(ended());
  EXPECT_FALSE(start(await_go)) << "not reaped yet";
  EXPECT_TRUE(reader_.reap());
}

TEST_F(ReaderProcessTest, IsNeitherThreadNorChildThatTheProgramSees) {
  ASSERT_TRUE(start(await_go));
  EXPECT_EQ(count_threads(), 1u);
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
  shared_->go = 1;
  ASSERT_TRUE(ended());
  EXPECT_TRUE(reader_.reap());
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG | __WALL), -1) << "something is left of it";
}

TEST_F(ReaderProcessTest, SurvivesMemoryThatCannotBeRead) {
  const auto page = static_cast<size_t>(getpagesize());
  char* pages = static_cast<char*>(mmap(nullptr, 3 * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(pages, MAP_FAILED);
  ASSERT_EQ(mprotect(pages + page, page, PROT_NONE), 0);
  const int file = memfd_create("truncated", MFD_CLOEXEC);
  ASSERT_GE(file, 0);
  ASSERT_NE(mmap(pages + 2 * page, page, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0), MAP_FAILED);
  words_ = reinterpret_cast<uint64_t*>(pages);
  ASSERT_TRUE(start([](ReaderProcessTest* test) {
    const size_t words = static_cast<size_t>(getpagesize()) / sizeof(uint64_t);
    // In turn: readable, inaccessible, beyond the end of a file, readable.
    for (size_t i = 0; i < 4; ++i) {
      struct Piece {
        const volatile uint64_t* word;
        uint64_t* sum;
      } piece{test->words_ + i % 3 * words, &test->sum_};
      const auto read = [](void* argument) {
        auto* given = static_cast<Piece*>(argument);
        *given->sum += *given->word + 1;
      };
      test->results_[i] = test->reader_.guarded(read, &piece) ? 1 : 0;
    }
  }));
  ASSERT_TRUE(ended());
  EXPECT_TRUE(reader_.reap());
  EXPECT_EQ(results_[0], 1);
  EXPECT_EQ(results_[1], 0);
  EXPECT_EQ(results_[2], 0);
  EXPECT_EQ(results_[3], 1);
  EXPECT_EQ(sum_, 2u);
  close(file);
  munmap(pages, 3 * page);
}

TEST_F(ReaderProcessTest, AFaultOfItsOwnEndsItAlone) {
  ASSERT_TRUE(start([](ReaderProcessTest*) { *reinterpret_cast<volatile int*>(16) = 1; }));
  ASSERT_TRUE(ended());
  EXPECT_FALSE(reader_.reap());
}

TEST_F(ReaderProcessTest, BeingKilledIsTold) {
  ASSERT_TRUE(start(await_go));
  await(shared_->process);
  ASSERT_EQ(kill(shared_->process, SIGKILL), 0);
  ASSERT_TRUE(ended());
  EXPECT_FALSE(reader_.reap());
  ASSERT_TRUE(start([](ReaderProcessTest*) {}));
  ASSERT_TRUE(ended());
  EXPECT_TRUE(reader_.reap());
}

TEST_F(ReaderProcessTest, HasOnlyTheDescriptorsItWasGiven) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  results_[0] = ends[1];
  ASSERT_TRUE(start([](ReaderProcessTest* test) {
    test->await(test->shared_->go);
    const auto is_open = [](int fd) { return sys::call(SYS_fcntl, fd, F_GETFD) >= 0 ? 1 : 0; };
    test->results_[1] = is_open(test->keep_[0]) + is_open(test->keep_[1]);
    test->results_[2] = is_open(test->results_[0]) + is_open(0) + is_open(1) + is_open(2);
  }));
  ASSERT_TRUE(reader_.has_own_descriptors(20 * kSecond));
  // Its copy of a descriptor that the program closes would keep the pipe open.
  close(ends[1]);
  char byte;
  EXPECT_EQ(read(ends[0], &byte, 1), 0);
  shared_->go = 1;
  ASSERT_TRUE(ended());
  EXPECT_TRUE(reader_.reap());
  EXPECT_EQ(results_[1], 2);
  EXPECT_EQ(results_[2], 0);
  close(ends[0]);
}

TEST_F(ReaderProcessTest, LeavesErrnoAndTheSignalMaskAlone) {
  sigset_t before, after;
  sigemptyset(&before);
  sigaddset(&before, SIGUSR1);
  ASSERT_EQ(pthread_sigmask(SIG_SETMASK, &before, nullptr), 0);
  errno = 4711;
  ASSERT_TRUE(start([](ReaderProcessTest*) {}));
  reader_.wait(20 * kSecond);
  EXPECT_TRUE(reader_.reap());
  EXPECT_EQ(errno, 4711);
  ASSERT_EQ(pthread_sigmask(SIG_SETMASK, nullptr, &after), 0);
  for (int signal = 1; signal < 32; ++signal) {
    EXPECT_EQ(sigismember(&after, signal), signal == SIGUSR1 ? 1 : 0) << signal;
  }
}

TEST_F(ReaderProcessTest, OutlivesTheThreadThatStartedIt) {
  bool started = false;
  std::thread thread([&] { started = start(await_go); });
  thread.join();
  ASSERT_TRUE(started);
  EXPECT_TRUE(reader_.running());
  shared_->go = 1;
  ASSERT_TRUE(ended());
  EXPECT_TRUE(reader_.reap());
}

TEST_F(ReaderProcessTest, IsAbandonedWhenTheProgramEnds) {
  const pid_t child = fork();
  if (child == 0) {
    reader_.after_fork_in_child();
    if (!start(watch)) _exit(1);
    await(shared_->process);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  await(shared_->seen);
  EXPECT_EQ(shared_->seen, 1);
}

TEST_F(ReaderProcessTest, IsAbandonedWhenTheProgramBecomesAnother) {
  const pid_t child = fork();
  if (child == 0) {
    reader_.after_fork_in_child();
    if (!start(watch)) _exit(1);
    await(shared_->process);
    execl("/bin/sleep", "sleep", "60", nullptr);
    _exit(1);
  }
  await(shared_->seen);
  EXPECT_EQ(shared_->seen, 1);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, WNOHANG), 0) << "it ended, so nothing was shown";
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
}

TEST_F(ReaderProcessTest, IsNotAbandonedWhileTheProgramRuns) {
  ASSERT_TRUE(start([](ReaderProcessTest* test) {
    for (int i = 0; i < 50; ++i, nap()) test->results_[0] += test->reader_.abandoned() ? 1 : 0;
  }));
  ASSERT_TRUE(ended());
  EXPECT_TRUE(reader_.reap());
  EXPECT_EQ(results_[0], 0);
}

TEST_F(ReaderProcessTest, AForksChildStartsItsOwn) {
  ASSERT_TRUE(start(await_go));
  const pid_t child = fork();
  if (child == 0) {
    reader_.after_fork_in_child();
    if (reader_.running()) _exit(1);
    if (!start([](ReaderProcessTest* test) { test->sum_ = 5; })) _exit(2);
    reader_.wait(20 * kSecond);
    _exit(reader_.reap() && sum_ == 5 ? 0 : 3);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(reader_.running());
  shared_->go = 1;
  ASSERT_TRUE(ended());
  EXPECT_TRUE(reader_.reap());
}

}  // namespace
}  // namespace nonreuse
