// What src/platform/concept.hpp and os.hpp require, asked of the system that this is built for, one
// requirement a case. A port is begun by making this pass.
#include "platform/system.hpp"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "front/allocator.hpp"
#include "platform/lock.hpp"
#include "platform/os.hpp"
#include "revoke/none.hpp"

#if defined(__linux__)
#define MAP_GUARD (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)
#include "platform/freebsd_memory.cpp"
#endif

namespace nonreuse {
namespace {

template <class P>
class SystemMemoryTest : public testing::Test {
 public:
  void SetUp() override {
    errno = 0;
    claim = memory.claim(kWanted);
    page = memory.page_size();
    ASSERT_NE(claim.size, 0u);
    EXPECT_EQ(errno, 0) << "claim";
    size = 16 * page;
    // Not at the very beginning: the platform must keep track of any place.
    at = align_up(claim.base, 65536) + (size_t{1} << 20);
  }
  void TearDown() override { EXPECT_EQ(errno, 0) << "errno is the program's"; }
  unsigned char* bytes(Address address) { return static_cast<unsigned char*>(memory.pointer(address)); }
  bool all_zero(Address from, size_t count) {
    return std::all_of(bytes(from), bytes(from) + count, [](unsigned char byte) { return byte == 0; });
  }
  void fill(Address from, size_t count) { memset(bytes(from), 0xa5, count); }

  static constexpr size_t kWanted = size_t{1} << 30;
  P memory;
  AddressClaim claim;
  size_t page = 0, size = 0;
  Address at = 0;

  void pages_are_a_power_of_two() {
    EXPECT_TRUE(is_power_of_two(page));
    EXPECT_GE(page, 4096u);
    EXPECT_EQ(page, os::page_size());
  }

  void the_claim_is_large_and_of_whole_pages() {
    EXPECT_GE(claim.size, size_t{64} << 20);
    EXPECT_EQ(claim.base % page, 0u);
    EXPECT_EQ(claim.size % page, 0u);
  }

  void committed_pages_are_zero_and_writable() {
    ASSERT_EQ(memory.commit(at, size), CommitResult::done);
    EXPECT_TRUE(all_zero(at, size));
    fill(at, size);
    EXPECT_EQ(bytes(at)[size - 1], 0xa5);
    EXPECT_EQ(address_of(memory.pointer(at)), at) << "the pointer points where it was asked to";
  }

  void what_was_uncommitted_is_committed_again_as_zeroes() {
    ASSERT_EQ(memory.commit(at, size), CommitResult::done);
    fill(at, size);
    if (!memory.uncommit(at + 4 * page, 8 * page)) GTEST_SKIP() << "this platform cannot uncommit";
    EXPECT_EQ(bytes(at)[4 * page - 1], 0xa5) << "before it";
    EXPECT_EQ(bytes(at)[12 * page], 0xa5) << "behind it";
    ASSERT_EQ(memory.commit(at + 4 * page, 8 * page), CommitResult::done);
    EXPECT_TRUE(all_zero(at + 4 * page, 8 * page));
  }

  void nobody_elses_mapping_is_replaced() {
#ifdef MAP_FIXED_NOREPLACE
    void* const place = memory.pointer(at + 4 * page);
    void* const other =
        mmap(place, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    errno = 0;
    if (other == place) {  // else the claim is a reservation, and nobody else gets in
      fill(at + 4 * page, page);
      EXPECT_EQ(memory.commit(at, size), CommitResult::occupied);
      EXPECT_EQ(bytes(at)[4 * page], 0xa5);
      munmap(other, page);
    }
#endif
    EXPECT_EQ(memory.commit(at, size), CommitResult::done);
  }

  void discarded_pages_read_as_zeroes_and_stay_usable() {
    ASSERT_EQ(memory.commit(at, size), CommitResult::done);
    fill(at, size);
    if (!memory.discard(at + page, 2 * page)) GTEST_SKIP() << "this platform cannot discard";
    EXPECT_TRUE(all_zero(at + page, 2 * page));
    EXPECT_EQ(bytes(at)[page - 1], 0xa5);
    EXPECT_EQ(bytes(at)[3 * page], 0xa5);
    fill(at + page, 2 * page);
  }

  void trapped_pages_stop_the_program_until_they_are_untrapped() {
    ASSERT_EQ(memory.commit(at, size), CommitResult::done);
    fill(at, size);
    if (!memory.trap(at + page, page)) GTEST_SKIP() << "this platform cannot trap";
    EXPECT_DEATH(bytes(at)[page] = 1, "");
    EXPECT_EQ(bytes(at)[page - 1], 0xa5);
    ASSERT_TRUE(memory.untrap(at + page, page));
    EXPECT_TRUE(all_zero(at + page, page)) << "trap gives the content up";
    fill(at + page, page);
  }

  void zeroes_what_is_asked_for_and_nothing_else() {
    ASSERT_EQ(memory.commit(at, size), CommitResult::done);
    fill(at, size);
    memory.zero(at + 3, page + 5);
    EXPECT_EQ(bytes(at)[2], 0xa5);
    EXPECT_TRUE(all_zero(at + 3, page + 5));
    EXPECT_EQ(bytes(at)[page + 8], 0xa5);
  }

  void moves_pages_or_changes_nothing() {
    ASSERT_EQ(memory.commit(at, size), CommitResult::done);
    fill(at, size);
    memset(bytes(at), 0x11, page);
    if (memory.movable(at, page) == 0) GTEST_SKIP() << "this platform, or kernel, does not move pages";
    EXPECT_EQ(memory.movable(at, 3 * page), 3 * page);
    const MoveResult result = memory.move(at, at + 2 * page, page);
    ASSERT_EQ(result, MoveResult::moved);
    EXPECT_EQ(bytes(at + 2 * page)[0], 0x11);
    EXPECT_EQ(bytes(at + 3 * page)[-1], 0x11);
    EXPECT_TRUE(all_zero(at, page)) << "still there, and empty";
    EXPECT_EQ(bytes(at)[page], 0xa5);
    EXPECT_EQ(bytes(at)[3 * page], 0xa5);
    fill(at, size);
    EXPECT_EQ(memory.movable(at + page, 4 * page), page) << "what was moved is a mapping of its own";
    ASSERT_TRUE(memory.trap(at + 8 * page, page));
    EXPECT_EQ(memory.movable(at + 8 * page, page), 0u);
    EXPECT_EQ(memory.movable(at + 6 * page, 4 * page), 2 * page);
    ASSERT_EQ(mlock(bytes(at + 6 * page), page), 0) << "RLIMIT_MEMLOCK must allow a page";
    EXPECT_EQ(memory.movable(at + 6 * page, page), 0u) << "a move would unlock it";
    errno = 0;
  }

  void says_whether_anything_was_not_zero() {
    ASSERT_EQ(memory.commit(at, size), CommitResult::done);
    EXPECT_FALSE(memory.make_zero(at, size));
    // In the second and the last word of the range (the first of a page may be cleared unseen), at either end
    // of a page, and just outside of the range.
    for (const size_t where : {size_t{24}, page - 8, page + 8, 3 * page + 24}) {
      memset(bytes(at + where), 1, 8);
      bytes(at)[15] = bytes(at)[3 * page + 32] = 7;
      EXPECT_TRUE(memory.make_zero(at + 16, 3 * page + 16)) << where;
      EXPECT_TRUE(all_zero(at + 16, 3 * page + 16)) << where;
      EXPECT_FALSE(memory.make_zero(at + 16, 3 * page + 16)) << where;
      EXPECT_EQ(bytes(at)[15] + bytes(at)[3 * page + 32], 14) << where;
    }
  }
};

#if defined(__linux__)
// FreeBSD's, too: its logic, over Linux' mmap(2), with mappings that cannot be touched for guards.
using Platforms = testing::Types<SystemMemory, FreebsdMemory>;
#else
using Platforms = testing::Types<SystemMemory>;
#endif
TYPED_TEST_SUITE(SystemMemoryTest, Platforms);
template <class P>
using SystemMemoryDeathTest = SystemMemoryTest<P>;
TYPED_TEST_SUITE(SystemMemoryDeathTest, Platforms);

TYPED_TEST(SystemMemoryTest, PagesAreAPowerOfTwo) {
  this->pages_are_a_power_of_two();
}
TYPED_TEST(SystemMemoryTest, TheClaimIsLargeAndOfWholePages) {
  this->the_claim_is_large_and_of_whole_pages();
}
TYPED_TEST(SystemMemoryTest, CommittedPagesAreZeroAndWritable) {
  this->committed_pages_are_zero_and_writable();
}
TYPED_TEST(SystemMemoryTest, WhatWasUncommittedIsCommittedAgainAsZeroes) {
  this->what_was_uncommitted_is_committed_again_as_zeroes();
}
TYPED_TEST(SystemMemoryTest, NobodyElsesMappingIsReplaced) {
  this->nobody_elses_mapping_is_replaced();
}
TYPED_TEST(SystemMemoryTest, DiscardedPagesReadAsZeroesAndStayUsable) {
  this->discarded_pages_read_as_zeroes_and_stay_usable();
}
TYPED_TEST(SystemMemoryDeathTest, TrappedPagesStopTheProgramUntilTheyAreUntrapped) {
  this->trapped_pages_stop_the_program_until_they_are_untrapped();
}
TYPED_TEST(SystemMemoryTest, ZeroesWhatIsAskedForAndNothingElse) {
  this->zeroes_what_is_asked_for_and_nothing_else();
}
TYPED_TEST(SystemMemoryTest, MovesPagesOrChangesNothing) {
  this->moves_pages_or_changes_nothing();
}
TYPED_TEST(SystemMemoryTest, SaysWhetherAnythingWasNotZero) {
  this->says_whether_anything_was_not_zero();
}

#if defined(__linux__)

class LinuxMemoryTest : public SystemMemoryTest<LinuxMemory> {
 protected:
  size_t resident(Address from, size_t count) {
    std::vector<unsigned char> pages(count / page);
    EXPECT_EQ(mincore(bytes(from), count, pages.data()), 0);
    return static_cast<size_t>(
        std::count_if(pages.begin(), pages.end(), [](unsigned char there) { return (there & 1) != 0; }));
  }
};

TEST_F(LinuxMemoryTest, PopulatedPagesAreThereAndHoldWhatTheyHeld) {
  ASSERT_EQ(memory.commit(at, size), CommitResult::done);
  bytes(at)[page + 5] = 7;
  const size_t before = resident(at, size);
  ASSERT_LE(before, 1u);
  memory.populate(at, size);
  const size_t after = resident(at, size);
  if (after == before)
    GTEST_SKIP() << "this kernel does not populate (Linux before 5.14), or a filter is set";
  EXPECT_EQ(after, size / page);
  EXPECT_EQ(bytes(at)[page + 5], 7);
  bytes(at)[page + 5] = 0;
  EXPECT_TRUE(all_zero(at, size));
  // What cannot be is not said: whoever touches the page meets it.
  memory.populate(at + size, size);
  errno = 0;
}

// Large memory of which little was used is cleared without bringing in the rest.
TEST_F(LinuxMemoryTest, WhatNobodyTouchedIsClearedWithoutBringingItIn) {
  const size_t large = size_t{8} << 20;
  const Address used[] = {at + 3, at + (size_t{1} << 20) + 17 * page, at + large - 20};
  ASSERT_EQ(memory.commit(at, large), CommitResult::done);
  memory.zero(at + 16, large - 32);
  EXPECT_LE(resident(at, large), 2u) << "the pages of which a part is left alone";
  EXPECT_FALSE(memory.make_zero(at + 16, large - 32));
  EXPECT_LE(resident(at, large), 2u);
  for (const Address place : used) bytes(place)[0] = 1;
  memory.zero(at + 16, large - 32);
  EXPECT_LE(resident(at, large), 3u);
  EXPECT_EQ(bytes(used[0])[0], 1) << "before the range";
  EXPECT_EQ(bytes(used[1])[0], 0);
  EXPECT_EQ(bytes(used[2])[0], 0);
  for (const Address place : used) bytes(place)[0] = 1;
  EXPECT_TRUE(memory.make_zero(at, large));
  EXPECT_LE(resident(at, large), 3u);
  EXPECT_FALSE(memory.make_zero(at, large));
  EXPECT_TRUE(all_zero(at, large));
}

#endif

// ---- os.hpp -----------------------------------------------------------------------------------------------

class SystemTest : public testing::Test {
 protected:
  void SetUp() override { errno = EXDEV; }
  void TearDown() override { EXPECT_EQ(errno, EXDEV) << "errno is the program's"; }
};

TEST_F(SystemTest, ASleeperIsWokenAndNobodySleepsOverAChange) {
  std::atomic<uint32_t> word{1};
  os::futex_wait(&word, 0);  // is not 0: returns at once
  std::thread waker([&] {
    word.store(2);
    os::futex_wake(&word, 1);
  });
  while (word.load() == 1) os::futex_wait(&word, 1);
  waker.join();
  EXPECT_EQ(word.load(), 2u);
}

TEST_F(SystemTest, TheLockKeepsOthersOut) {
  Lock lock;
  uint64_t count = 0;
  const auto work = [&] {
    for (int i = 0; i < 20'000; ++i) {
      LockGuard guard(lock);
      ++count;
    }
  };
  std::thread other(work);
  work();
  other.join();
  EXPECT_EQ(count, 40'000u);
}

TEST_F(SystemTest, ThreadsHaveIdentities) {
  const Address mine = os::thread_identity();
  const int id = os::thread_id();
  Address other = mine;
  int other_id = id;
  std::thread([&] {
    other = os::thread_identity();
    other_id = os::thread_id();
  }).join();
  EXPECT_NE(mine, 0u);
  EXPECT_NE(other, 0u);
  EXPECT_NE(mine, other);
  EXPECT_NE(id, other_id);
  EXPECT_EQ(os::process_id(), getpid());
}

TEST_F(SystemTest, ClocksGoOn) {
  const uint64_t now = os::now_ns(), cpu = os::thread_cpu_ns(), process = os::process_cpu_ns();
  while (os::thread_cpu_ns() == cpu) os::cpu_pause();
  os::yield();
  EXPECT_GT(os::now_ns(), now);
  EXPECT_GT(os::process_cpu_ns(), process);
  EXPECT_GT(os::wall_clock_ns(), uint64_t{1'600'000'000} * 1'000'000'000);
}

TEST_F(SystemTest, RandomWordsDiffer) {
  EXPECT_NE(os::random_word(), os::random_word());
}

TEST_F(SystemTest, HandlersWaitUntilSignalsAreOpenAgain) {
  static std::atomic<int> handled{0};
  handled = 0;
  struct sigaction action {
  }, before{};
  action.sa_handler = [](int) { ++handled; };
  sigaction(SIGUSR1, &action, &before);
  {
    const os::SignalsBlocked blocked;
    pthread_kill(pthread_self(), SIGUSR1);
    EXPECT_EQ(handled, 0);
    sigset_t now;
    pthread_sigmask(SIG_SETMASK, nullptr, &now);
    EXPECT_EQ(sigismember(&now, SIGSEGV), 0) << "faults stay open";
  }
  usleep(1000);  // a sanitizer delivers late
  EXPECT_EQ(handled, 1);
  sigaction(SIGUSR1, &before, nullptr);
}

// setuid(2) and the like return when all threads have changed.
TEST_F(SystemTest, TheUserIsChangedWhileHandlersWait) {
  std::atomic<bool> begun{false}, changed{false}, in_time{false};
  std::thread waiting([&] {
    const os::SignalsBlocked blocked;
    begun = true;
    for (int i = 0; i < 10000 && !changed; ++i) usleep(1000);
    in_time = changed.load();
  });
  while (!begun) usleep(100);
  EXPECT_EQ(seteuid(geteuid()), 0);
  changed = true;
  waiting.join();
  EXPECT_TRUE(in_time);
}

TEST_F(SystemTest, TellsWhenItRunsOnASignalStack) {
  static std::vector<char> stack(64 * 1024);
  static Range range;
  static std::atomic<int> seen{0};
  range = {address_of(stack.data()), address_of(stack.data() + stack.size())};
  EXPECT_FALSE(os::on_signal_stack_in(range));
  stack_t to{}, from{};
  to.ss_sp = stack.data();
  to.ss_size = stack.size();
  sigaltstack(&to, &from);
  struct sigaction action {
  }, before{};
  action.sa_flags = SA_ONSTACK;
  action.sa_handler = [](int) {
    seen = os::on_signal_stack_in(range) && !os::on_signal_stack_in({1, 2}) ? 1 : -1;
  };
  sigaction(SIGUSR1, &action, &before);
  raise(SIGUSR1);
  EXPECT_EQ(seen, 1);
  sigaction(SIGUSR1, &before, nullptr);
  sigaltstack(&from, nullptr);
}

TEST_F(SystemTest, MapsAFileNamedAfterTheProcess) {
  char directory[] = "/tmp/nonreuse_system_XXXXXX";
  ASSERT_NE(mkdtemp(directory), nullptr);
  const std::string path = std::string(directory) + "/" + std::to_string(getpid());
  auto* page = static_cast<char*>(os::map_shared_file(directory, 4096));
  ASSERT_NE(page, nullptr);
  page[4095] = 'x';
  os::unmap(page, 4096);
  struct stat status {};
  EXPECT_EQ(stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_size, 4096);
  EXPECT_EQ(status.st_mode & 0777u, 0600u);
  unlink(path.c_str());
  rmdir(directory);
  EXPECT_EQ(os::map_shared_file(directory, 4096), nullptr) << "it is gone";
}

TEST_F(SystemTest, KnowsItsNameAndItsRights) {
  char name[16];
  memset(name, 'x', sizeof name);
  os::command_name(name);
  EXPECT_GT(strnlen(name, sizeof name), 0u);
  EXPECT_LT(strnlen(name, sizeof name), sizeof name) << "a NUL within 16";
  EXPECT_FALSE(os::runs_privileged());
  EXPECT_GT(os::default_stack_bytes(), 4096u);
}

#if defined(__linux__)
// What a library for FreeBSD without CHERI does, on this system.
TEST(PlainFreebsd, NothingThatWasFreedIsReused) {
  static FreebsdMemory memory;
  NoRevoker revoker;
  static_assert(kRevocation == RevocationBy::sweep, "of Linux; FreeBSD's is `nobody`");
  Allocator<FreebsdMemory, NoRevoker> heap(memory, revoker);
  Options options = default_options();
  options.min = 64 * 1024;
  ASSERT_TRUE(heap.init(options));
  ThreadFront* front = heap.make_front();
  std::set<void*> seen;
  testing::internal::CaptureStderr();
  for (int i = 0; i < 20'000; ++i) {
    void* const got = heap.allocate(*front, 500).get();
    ASSERT_NE(got, nullptr);
    ASSERT_TRUE(seen.insert(got).second) << "handed out twice";
    memset(got, 1, 500);
    heap.free(*front, heap.wild(got));
  }
  EXPECT_EQ(heap.revoke(*front), SweepResult::blind);
  EXPECT_EQ(
      testing::internal::GetCapturedStderr(),
      "nonreuse: this kernel does not revoke; freed memory is not reused, its pages are given back (this is "
      "said once)\n");
  EXPECT_FALSE(heap.tells_revoking());
  heap.check();
}
#endif

using SystemDeathTest = SystemTest;
TEST_F(SystemDeathTest, SaysItsLineAndAborts) {
  EXPECT_EXIT(
      {
        os::write_error("a line\n", 7);
        os::die();
      },
      testing::KilledBySignal(SIGABRT), "^a line\n(qemu: [^\n]*\n)?$");
}

}  // namespace
}  // namespace nonreuse
