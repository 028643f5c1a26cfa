// Tracking writes: a page that was written after it was armed is told, by whomever it was written and however
// the mapping changed meanwhile; one that was not is not.
#include "platform/write_tracker.hpp"
#include "emulation.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <set>
#include <string>

#include "support/write_tracking.hpp"

namespace nonreuse {
namespace {

const size_t kPage = static_cast<size_t>(sysconf(_SC_PAGESIZE));
constexpr size_t kPages = 64;

class Pages final : public PageSink {
 public:
  explicit Pages(const char* base) : base_(reinterpret_cast<uintptr_t>(base)) {}
  void pages(Range pages, RootAccess) override {
    for (uintptr_t at = pages.begin; at < pages.end; at += kPage) told.insert((at - base_) / kPage);
  }
  std::set<size_t> told;

 private:
  uintptr_t base_;
};

class WriteTrackerTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!tracker.begin()) {
      ASSERT_FALSE(support::writes_can_be_tracked()) << "the tracker's own test fails";
      GTEST_SKIP() << "writes cannot be tracked here";
    }
    memory = map(kPages);
    ASSERT_TRUE(tracker.claim(range()));
  }
  void TearDown() override {
    tracker.end();
    if (memory != nullptr) munmap(memory, kPages * kPage);
  }
  static char* map(size_t pages) {
    void* at = mmap(nullptr, pages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(at, MAP_FAILED);
    return static_cast<char*>(at);
  }
  void write(size_t page) { *static_cast<volatile char*>(memory + page * kPage + 100) = 1; }
  Range range(size_t pages = kPages) const {
    const auto begin = reinterpret_cast<uintptr_t>(memory);
    return {begin, begin + pages * kPage};
  }
  std::set<size_t> arm() {
    Pages pages(memory);
    tracker.arm(range(), true, pages, answers);
    return pages.told;
  }
  // What is to be read again.
  std::set<size_t> written() {
    Pages pages(memory);
    if (tracker.written(range(), pages, answers)) return pages.told;
    std::set<size_t> all;
    for (size_t page = 0; page < kPages; ++page) all.insert(page);
    return all;
  }

  WriteTracker tracker;
  WriteTracker::Answers answers;
  char* memory = nullptr;
};

using Set = std::set<size_t>;

// What somebody else tracks, in the same way, is nothing that we know of.
TEST_F(WriteTrackerTest, AnothersMappingIsNotKnown) {
  WriteTracker other;
  ASSERT_TRUE(other.begin());
  EXPECT_TRUE(tracker.knows(range()));
  EXPECT_FALSE(other.knows(range()));
  EXPECT_FALSE(other.claim(range()));
  other.end();
}

TEST_F(WriteTrackerTest, ArmingTellsWhatHoldsSomething) {
  for (const size_t page : {0, 5, 6, 63}) write(page);
  EXPECT_EQ(arm(), (Set{0, 5, 6, 63}));
  EXPECT_EQ(arm(), Set{}) << "armed already, and not written since";
  EXPECT_EQ(written(), Set{});
}

TEST_F(WriteTrackerTest, StoresAreTold) {
  for (size_t page = 0; page < kPages; ++page) write(page);
  arm();
  for (const size_t page : {1, 2, 40}) write(page);
  EXPECT_EQ(written(), (Set{1, 2, 40}));
  EXPECT_EQ(written(), (Set{1, 2, 40})) << "asking arms nothing";
  EXPECT_EQ(arm(), (Set{1, 2, 40}));
  write(2);
  EXPECT_EQ(written(), Set{2});
}

TEST_F(WriteTrackerTest, FirstStoreToAPageThatHeldNothingIsTold) {
  write(3);
  arm();
  write(4);
  EXPECT_EQ(written(), Set{4});
}

TEST_F(WriteTrackerTest, ReadingIsNotWriting) {
  for (size_t page = 0; page < kPages; ++page) write(page);
  arm();
  for (size_t page = 0; page < kPages; ++page) EXPECT_EQ(memory[page * kPage + 100], 1);
  EXPECT_EQ(written(), Set{});
}

TEST_F(WriteTrackerTest, WhatTheKernelWritesIsTold) {
  for (size_t page = 0; page < kPages; ++page) write(page);
  arm();
  int ends[2], pair[2];
  ASSERT_EQ(0, pipe(ends));
  ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  const uint64_t word = 0x1234;
  ASSERT_EQ(ssize_t{sizeof word}, ::write(ends[1], &word, sizeof word));
  ASSERT_EQ(ssize_t{sizeof word}, read(ends[0], memory + 7 * kPage, sizeof word));
  ASSERT_EQ(ssize_t{sizeof word}, send(pair[1], &word, sizeof word, 0));
  ASSERT_EQ(ssize_t{sizeof word}, recv(pair[0], memory + 9 * kPage, sizeof word, 0));
  EXPECT_EQ(written(), (Set{7, 9}));
  for (const int fd : {ends[0], ends[1], pair[0], pair[1]}) close(fd);
}

TEST_F(WriteTrackerTest, PagesThatCameAnewAreTold) {
  for (size_t page = 0; page < kPages; ++page) write(page);
  arm();
  ASSERT_EQ(0, madvise(memory + 10 * kPage, 2 * kPage, MADV_DONTNEED));
  write(10);
  EXPECT_EQ(written(), Set{10}) << "the other holds nothing";
}

// A mapping put in the place of another, and one that was moved there, were never armed.
TEST_F(WriteTrackerTest, MappingsThatTookThePlaceAreTold) {
  for (size_t page = 0; page < kPages; ++page) write(page);
  arm();
  ASSERT_NE(MAP_FAILED, mmap(memory + 20 * kPage, 2 * kPage, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
  char* other = map(2);
  other[0] = other[kPage] = 1;
  ASSERT_NE(MAP_FAILED,
            mremap(other, 2 * kPage, 2 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, memory + 30 * kPage));
  write(20);
  const Set told = written();
  for (const size_t page : {20, 30, 31}) EXPECT_TRUE(told.contains(page)) << page;
}

// Moved away and back: whatever the system remembers of it, nothing that was written is missed.
TEST_F(WriteTrackerTest, MovedMappings) {
  for (size_t page = 0; page < kPages; ++page) write(page);
  arm();
  char* elsewhere = map(4);
  ASSERT_NE(MAP_FAILED,
            mremap(memory + 8 * kPage, 4 * kPage, 4 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere));
  elsewhere[kPage] = 2;
  ASSERT_NE(MAP_FAILED,
            mremap(elsewhere, 4 * kPage, 4 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, memory + 8 * kPage));
  EXPECT_TRUE(written().contains(9));
}

TEST_F(WriteTrackerTest, ProtectionThatChangesLosesNothing) {
  for (size_t page = 0; page < kPages; ++page) write(page);
  arm();
  ASSERT_EQ(0, mprotect(memory + 4 * kPage, 4 * kPage, PROT_READ));
  ASSERT_EQ(0, mprotect(memory + 4 * kPage, 4 * kPage, PROT_READ | PROT_WRITE));
  EXPECT_EQ(written(), Set{});
  write(5);
  EXPECT_EQ(written(), Set{5});
}

TEST_F(WriteTrackerTest, WhatWasNeverArmedIsTold) {
  write(3);
  Pages pages(memory);
  EXPECT_TRUE(tracker.written(range(), pages, answers));
  EXPECT_EQ(pages.told, Set{3});
}

// A mapping that grows between the moment when it was listed and the one when it is claimed, and again while
// it is armed: mremap(2) fails where a mapping was divided.
TEST_F(WriteTrackerTest, MappingsGrowAsWithoutTracking) {
  constexpr size_t kListed = 8;
  ASSERT_EQ(0, munmap(memory + kListed * kPage, (kPages - kListed) * kPage));
  tracker.end();
  ASSERT_TRUE(tracker.begin());
  ASSERT_EQ(memory, mremap(memory, kListed * kPage, 12 * kPage, 0));
  ASSERT_TRUE(tracker.claim(range(kListed), range().end));
  for (size_t page = 0; page < 12; ++page) write(page);
  Pages armed(memory);
  tracker.arm(range(4), true, armed, answers);
  EXPECT_EQ(armed.told, (Set{0, 1, 2, 3}));
  ASSERT_EQ(memory, mremap(memory, 12 * kPage, 20 * kPage, 0));
  ASSERT_EQ(memory, mremap(memory, 20 * kPage, 40 * kPage, 0));
  write(2);
  write(30);
  EXPECT_EQ(written(), (Set{2, 4, 5, 6, 7, 8, 9, 10, 11, 30}));
}

TEST_F(WriteTrackerTest, HolesAreNoMistake) {
  for (size_t page = 0; page < kPages; ++page) write(page);
  arm();
  ASSERT_EQ(0, munmap(memory + 16 * kPage, kPage));
  write(17);
  EXPECT_TRUE(written().contains(17));
}

// Memory that the process's page tables take (proc_pid_status(5)).
size_t page_table_kib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmPTE:")) return std::stoul(line.substr(6));
  }
  ADD_FAILURE() << "no VmPTE";
  return 0;
}

// A reserved mapping of a terabyte costs no page tables.
TEST_F(WriteTrackerTest, EmptyMemoryIsLeftAlone) {
  constexpr size_t kHuge = size_t{1} << 40;
  void* at = mmap(nullptr, kHuge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) GTEST_SKIP() << "no address space for it";
  const auto begin = reinterpret_cast<uintptr_t>(at);
  static_cast<volatile char*>(at)[kHuge / 2] = 1;
  const size_t before = page_table_kib();
  ASSERT_TRUE(tracker.claim({begin, begin + kHuge}));
  Pages pages(static_cast<char*>(at));
  tracker.arm({begin, begin + kHuge}, true, pages, answers);
  EXPECT_EQ(pages.told, Set{kHuge / 2 / kPage});
  pages.told.clear();
  static_cast<volatile char*>(at)[kHuge / 2 + 5 * kPage] = 1;
  EXPECT_TRUE(tracker.written({begin, begin + kHuge}, pages, answers));
  EXPECT_EQ(pages.told, Set{kHuge / 2 / kPage + 5});
  EXPECT_LT(page_table_kib(), before + 1024);
  munmap(at, kHuge);
}

// More of them than one answer has room for, far from each other, near each other, and with pages that hold
// nothing between them, which are not told.
TEST_F(WriteTrackerTest, WrittenPagesAllOverALargeMapping) {
  constexpr size_t kMany = 30'000;
  char* const large = map(kMany);
  const auto begin = reinterpret_cast<uintptr_t>(large);
  const Range all{begin, begin + kMany * kPage};
  const auto store = [&](size_t page) { *static_cast<volatile char*>(large + page * kPage) = 1; };
  const auto is_empty = [](size_t page) { return page % 1000 >= 900; };
  for (size_t page = 0; page < kMany; ++page) {
    if (!is_empty(page)) store(page);
  }
  Pages armed(large), told(large), none(large);
  ASSERT_TRUE(tracker.claim(all));
  tracker.arm(all, true, armed, answers);
  EXPECT_EQ(armed.told.size(), kMany / 10 * 9);
  EXPECT_TRUE(tracker.written(all, none, answers));
  EXPECT_EQ(none.told, Set{});
  Set expected;
  for (size_t page = 0; page < 20'000; page += 130) expected.insert(page);
  for (size_t page = 20'000; page < 29'000; page += 2 + page % 5) expected.insert(page);
  for (const size_t page : expected) store(page);
  EXPECT_TRUE(tracker.written(all, told, answers));
  EXPECT_EQ(told.told, expected);
  munmap(large, kMany * kPage);
}

TEST_F(WriteTrackerTest, EndingDisarms) {
  for (size_t page = 0; page < kPages; ++page) write(page);
  arm();
  tracker.end();
  ASSERT_TRUE(tracker.begin());
  ASSERT_TRUE(tracker.claim(range()));
  EXPECT_EQ(arm().size(), kPages);
}

TEST_F(WriteTrackerTest, AChildOfForkBeginsAnew) {
  for (size_t page = 0; page < kPages; ++page) write(page);
  arm();
  const pid_t child = fork();
  if (child == 0) {
    tracker.after_fork_in_child();
    if (!tracker.begin() || !tracker.claim(range())) _exit(2);
    if (written().size() != kPages) _exit(3);
    if (arm().size() != kPages) _exit(4);
    write(1);
    _exit(written() == Set{1} ? 0 : 5);
  }
  int status = 0;
  ASSERT_EQ(child, waitpid(child, &status, 0));
  EXPECT_EQ(0, status);
  write(2);
  EXPECT_EQ(written(), Set{2}) << "the parent's goes on";
}

// Under a filter nothing is tried that might be forbidden, and nothing is left open.
TEST(WriteTrackerRefused, UnderAFilter) {
  NONREUSE_NOT_EMULATED("it has no filters for system calls");
  for (const long number : {long{SYS_userfaultfd}, long{SYS_ioctl}, long{SYS_vhangup}}) {
    const pid_t child = fork();
    if (child == 0) {
      const auto call = static_cast<uint32_t>(number);
      sock_filter filter[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                              BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
                              BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
                              BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
      const sock_fprog program{4, filter};
      if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) _exit(2);
      const int next = dup(0);
      close(next);
      if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) _exit(3);
      WriteTracker tracker;
      if (tracker.begin()) _exit(4);
      _exit(dup(0) == next ? 0 : 5);
    }
    int status = 0;
    ASSERT_EQ(child, waitpid(child, &status, 0));
    EXPECT_EQ(0, status) << "call " << number;
  }
}

TEST(WriteTrackerRefused, ForWantOfDescriptorsOnlyForThatTime) {
  const pid_t child = fork();
  if (child == 0) {
    WriteTracker tracker;
    if (!tracker.begin()) _exit(0);  // cannot be tested here: see the tests above, which say so
    tracker.end();
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    const rlimit none{0, limit.rlim_max};
    setrlimit(RLIMIT_NOFILE, &none);
    if (tracker.begin()) _exit(2);
    setrlimit(RLIMIT_NOFILE, &limit);
    _exit(tracker.begin() ? 0 : 3);
  }
  int status = 0;
  ASSERT_EQ(child, waitpid(child, &status, 0));
  EXPECT_EQ(0, status);
}

}  // namespace
}  // namespace nonreuse
