// Root discovery where something is missing: no /proc, no descriptors, refused system calls, files cut short,
// the main thread gone, sources that lie. Nothing may be lost silently.
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

#include "roots_support.hpp"

namespace nonreuse {
namespace {

class RootsInOddStates : public Roots {
 protected:
  void SetUp() override {
    if (kShadowMemory)
      GTEST_SKIP() << "without PAGEMAP_SCAN a walk through a sanitizer's shadow memory takes minutes";
  }
};
INSTANTIATE_TEST_SUITE_P(Level, RootsInOddStates, kEveryLevel, level_test_name);

TEST_P(RootsInOddStates, TruncatedFilesDoNotCrash) {
  const int result = in_child([&] {
    TemporaryFile file(6);
    Mapped copied_on_write(6, MAP_PRIVATE, file.fd());
    Mapped shared(6, MAP_SHARED, file.fd());
    const int fd = memfd_create("cut", MFD_CLOEXEC);
    if (ftruncate(fd, static_cast<off_t>(6 * page_size())) != 0) return 1;
    Mapped memory(6, MAP_SHARED, fd);
    Mapped private_memory(6, MAP_PRIVATE, fd);
    for (size_t i = 0; i < 6; ++i) {
      plant({copied_on_write.word(i), shared.word(i), memory.word(i), private_memory.word(i)});
    }
    if (ftruncate(file.fd(), 0) != 0 || ftruncate(fd, 0) != 0) return 1;
    Reader reader;
    return walk(reader) == RootStatus::complete ? 0 : 2;
  });
  EXPECT_EQ(result, 0);
}

TEST_P(RootsInOddStates, NoDescriptorIsLeftAndErrnoIsKept) {
  Reader first;
  ASSERT_EQ(walk(first), RootStatus::complete);
  const size_t before = open_descriptors();
  errno = 4711;
  Reader reader;
  const RootStatus status = walk(reader);
  const int error = errno;
  EXPECT_EQ(status, RootStatus::complete);
  EXPECT_EQ(error, 4711);
  EXPECT_EQ(open_descriptors(), before);
  errno = 4711;
  char byte;
  EXPECT_EQ(copy_foreign(&byte, 0, 1), 0u);
  EXPECT_EQ(errno, 4711);
}

TEST_P(RootsInOddStates, NotDumpable) {
  NONREUSE_NOT_EMULATED("it has mincore() say nothing, so the source that is left is another one");
  Mapped memory(3, MAP_PRIVATE | MAP_ANONYMOUS);
  Mapped shared(3, MAP_SHARED | MAP_ANONYMOUS);
  plant({memory.word(1), shared.word(1)});
  const int result = in_child([&] {
    if (getuid() == 0 && (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0))
      return 1;
    if (prctl(PR_SET_DUMPABLE, 0) != 0) return 2;
    if (open("/proc/self/pagemap", O_RDONLY) >= 0) return 3;  // else this test tests nothing
    for (const Mapped* each : {&memory, &shared}) {
      Reader reader(reinterpret_cast<uintptr_t>(each->word(1)));
      if (walk(reader) != RootStatus::complete) return 4;
      if (!reader.found()) return 5;
    }
    const char* expected = level() == PageSource::all ? "all" : "mincore";
    return strcmp(walker_.page_source(), expected) == 0 ? 0 : 6;
  });
  EXPECT_EQ(result, 0);
}

TEST_P(RootsInOddStates, ProcHidden) {
  std::string path = temporary_template();
  char* const directory = path.data();
  ASSERT_NE(mkdtemp(directory), nullptr);
  const int result = in_child([&] {
    if (getuid() != 0 && unshare(CLONE_NEWUSER) != 0) return kSkipped;
    if (chroot(directory) != 0 || chdir("/") != 0) return kSkipped;
    Recorder recorder;
    return walk(recorder) == RootStatus::no_map_list ? 0 : 1;
  });
  rmdir(directory);
  if (result == kSkipped) GTEST_SKIP() << "chroot is refused";
  EXPECT_EQ(result, 0);
}

TEST_P(RootsInOddStates, ListOfAnotherProcess) {
  // A /proc that is not one: an empty list, then that of another process.
  std::string path = temporary_template();
  char* const directory = path.data();
  ASSERT_NE(mkdtemp(directory), nullptr);
  const std::string proc = std::string(directory) + "/proc", self = proc + "/self", maps = self + "/maps";
  mkdir(proc.c_str(), 0755);
  mkdir(self.c_str(), 0755);
  const int result = in_child([&] {
    for (const char* text : {"", "00400000-00452000 rw-p 00000000 08:02 173521      /usr/bin/other\n"}) {
      FILE* list = fopen(maps.c_str(), "w");
      fputs(text, list);
      fclose(list);
      const int inner = in_child([&] {
        if (getuid() != 0 && unshare(CLONE_NEWUSER) != 0) return kSkipped;
        if (chroot(directory) != 0) return kSkipped;
        Recorder recorder;
        return walk(recorder) == RootStatus::no_map_list ? 0 : 1;
      });
      if (inner != 0) return inner;
    }
    return 0;
  });
  unlink(maps.c_str());
  rmdir(self.c_str());
  rmdir(proc.c_str());
  rmdir(directory);
  if (result == kSkipped) GTEST_SKIP() << "chroot is refused";
  EXPECT_EQ(result, 0);
}

TEST_P(RootsInOddStates, NoDescriptorToBeHad) {
  const int result = in_child([&] {
    const rlimit none{0, 0};
    if (setrlimit(RLIMIT_NOFILE, &none) != 0) return 1;
    Recorder recorder;
    return walk(recorder) == RootStatus::no_map_list ? 0 : 2;
  });
  EXPECT_EQ(result, 0);
}

// A full table is no sandbox: descriptors may be closed again.
TEST_P(RootsInOddStates, FullTableOfDescriptorsMayPass) {
  NONREUSE_NOT_EMULATED("copying takes a pipe there, and so two descriptors more");
  const int result = in_child([&] {
    const rlimit few{64, 64};
    if (setrlimit(RLIMIT_NOFILE, &few) != 0) return 1;
    while (dup(0) >= 0) {
    }
    Recorder recorder;
    if (walk(recorder) != RootStatus::try_again) return 2;
    close(63);
    return walk(recorder) == RootStatus::complete ? 0 : 3;
  });
  EXPECT_EQ(result, 0);
}

// One descriptor is enough for the list, while a pipe for copying takes two.
TEST_P(RootsInOddStates, NoDescriptorsForThePipeMayPass) {
  Mapped shared(3, MAP_SHARED | MAP_ANONYMOUS);
  plant({shared.word(1)});
  const int result = in_child([&] {
    if (!refuse({SYS_process_vm_readv}, ENOSYS)) return kSkipped;
    const rlimit few{64, 64};
    if (setrlimit(RLIMIT_NOFILE, &few) != 0) return 1;
    while (dup(0) >= 0) {
    }
    close(63);
    Reader unread;
    if (walk(unread) != RootStatus::try_again) return 2;
    close(62);
    close(61);
    close(60);
    Reader reader(reinterpret_cast<uintptr_t>(shared.word(1)));
    if (walk(reader) != RootStatus::complete) return 3;
    return reader.found() ? 0 : 4;
  });
  if (result == kSkipped) GTEST_SKIP() << "no seccomp";
  EXPECT_EQ(result, 0);
}

TEST_P(RootsInOddStates, OneDescriptorToBeHad) {
  NONREUSE_NOT_EMULATED("copying takes a pipe there, and so two descriptors more");
  Mapped memory(3, MAP_PRIVATE | MAP_ANONYMOUS);
  Mapped shared(3, MAP_SHARED | MAP_ANONYMOUS);
  plant({memory.word(1), shared.word(1)});
  const int result = in_child([&] {
    const int free_one = dup(0);
    const rlimit one{static_cast<rlim_t>(free_one) + 1, static_cast<rlim_t>(free_one) + 1};
    close(free_one);
    if (setrlimit(RLIMIT_NOFILE, &one) != 0) return 1;
    for (const Mapped* each : {&memory, &shared}) {
      Reader reader(reinterpret_cast<uintptr_t>(each->word(1)));
      if (walk(reader) != RootStatus::complete) return 2;
      if (!reader.found()) return 3;
    }
    return 0;
  });
  EXPECT_EQ(result, 0);
}

TEST_P(RootsInOddStates, MainThreadHasEnded) {
  // Then /proc/self is that of a thread without memory.
  Mapped memory(3, MAP_PRIVATE | MAP_ANONYMOUS);
  *memory.word(1) = kWord;
  static std::function<int()> body;
  body = [&] {
    char line[256] = "";
    for (int i = 0; i < 2000; ++i) {  // wait for the main thread's end
      const int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
      const ssize_t got = fd < 0 ? 0 : read(fd, line, sizeof line);
      if (fd >= 0) close(fd);
      if (got <= 0) break;
      if (i == 1999) return 1;
      usleep(1000);
    }
    Reader reader(reinterpret_cast<uintptr_t>(memory.word(1)));
    if (walk(reader) != RootStatus::complete) return 2;
    if (!reader.found()) return 3;
    const size_t expected = level() == PageSource::all ? 3 : 1;
    return PresentPages(walker_, memory).bytes() == expected * page_size() ? 0 : 4;
  };
  const int result = in_child([&] {
    pthread_t thread;
    pthread_create(
        &thread, nullptr, [](void*) -> void* { _exit(body()); }, nullptr);
    syscall(SYS_exit, 0);  // of this thread alone, leaving its frames alone
    return 9;
  });
  EXPECT_EQ(result, 0);
}

TEST_P(RootsInOddStates, CopyRefusedGoesThroughAPipe) {
  Mapped shared(3, MAP_SHARED | MAP_ANONYMOUS);
  Mapped memory(3, MAP_PRIVATE | MAP_ANONYMOUS);
  plant({memory.word(1), shared.word(1)});
  const int result = in_child([&] {
    if (!refuse({SYS_process_vm_readv}, EPERM)) return kSkipped;
    for (const Mapped* each : {&memory, &shared}) {
      Reader reader(reinterpret_cast<uintptr_t>(each->word(1)));
      if (walk(reader) != RootStatus::complete) return 1;
      if (!reader.found()) return 2;
    }
    return 0;
  });
  if (result == kSkipped) GTEST_SKIP() << "no seccomp";
  EXPECT_EQ(result, 0);
}

TEST_P(RootsInOddStates, NoWayToCopyIsSaid) {
  Mapped shared(3, MAP_SHARED | MAP_ANONYMOUS);
  *shared.word(1) = kWord;
  const int result = in_child([&] {
    if (!refuse({SYS_process_vm_readv, SYS_pipe2}, EPERM)) return kSkipped;
    Recorder recorder;  // copies nothing itself
    if (walk(recorder) != RootStatus::no_copy) return 1;
    Reader reader;
    if (walk(reader) != RootStatus::no_copy) return 2;
    return copy_foreign_refusals() != 0 ? 0 : 3;
  });
  if (result == kSkipped) GTEST_SKIP() << "no seccomp";
  EXPECT_EQ(result, 0);
}

// Each filter takes away what the level before it needs, after that level has passed its test.
TEST_P(RootsInOddStates, SourcesTakenAwayLater) {
  Mapped memory(3, MAP_PRIVATE | MAP_ANONYMOUS);
  Mapped shared(3, MAP_SHARED | MAP_ANONYMOUS);
  plant({memory.word(1), shared.word(1)});
  const int result = in_child([&] {
    Reader warm;
    if (walk(warm) != RootStatus::complete) return 1;
    const std::vector<long> losses[] = {{SYS_ioctl}, {SYS_pread64}, {SYS_mincore}};
    const char* left[] = {"pagemap", "mincore", "all"};
    for (size_t i = static_cast<size_t>(level()); i < 3; ++i) {
      if (!refuse(losses[i], EPERM)) return kSkipped;
      for (const Mapped* each : {&memory, &shared}) {
        Reader reader(reinterpret_cast<uintptr_t>(each->word(1)));
        if (walk(reader) != RootStatus::complete) return 2;
        if (!reader.found()) return 3;
      }
      if (strcmp(walker_.page_source(), left[i]) != 0) return 4;
    }
    return 0;
  });
  if (result == kSkipped) GTEST_SKIP() << "no seccomp";
  EXPECT_EQ(result, 0);
}

// ---- sources that lie ----

// Runs this test by itself in a fresh process, where no source has been tested yet. True in that process.
bool in_fresh_process(int* result) {
  constexpr const char* kMark = "NONREUSE_TEST_FRESH_PROCESS";
  if (getenv(kMark) != nullptr) return true;
  const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
  const std::string filter = std::string("--gtest_filter=") + test->test_suite_name() + "." + test->name();
  *result = in_child([&] {
    setenv(kMark, "1", 1);
    execl("/proc/self/exe", "roots_states_test", "--gtest_brief=1", filter.c_str(), nullptr);
    return 99;
  });
  return false;
}

// The calls succeed and do nothing, as an emulator's might: "no page is present".
TEST(RootsAlone, SourcesThatLieAreNotUsed) {
  NONREUSE_NOT_EMULATED("it has no filters for system calls");
  if (kShadowMemory)
    GTEST_SKIP() << "without PAGEMAP_SCAN a walk through a sanitizer's shadow memory takes minutes";
  int fresh = 0;
  if (!in_fresh_process(&fresh)) {
    EXPECT_EQ(fresh, 0);
    return;
  }
  Mapped memory(3, MAP_PRIVATE | MAP_ANONYMOUS);
  Mapped shared(3, MAP_SHARED | MAP_ANONYMOUS);
  plant({memory.word(1), shared.word(1)});
  const std::vector<long> calls[] = {{SYS_ioctl}, {SYS_pread64}, {SYS_mincore}};
  const char* left[] = {"pagemap", "mincore", "all"};
  for (size_t i = 0; i < 3; ++i) {
    const int result = in_child([&] {
      for (size_t j = 0; j <= i; ++j) {
        if (!refuse(calls[j], 0)) return kSkipped;
      }
      RootWalker walker;
      for (const Mapped* each : {&memory, &shared}) {
        Reader reader(reinterpret_cast<uintptr_t>(each->word(1)));
        if (walker.walk(nullptr, 0, reader) != RootStatus::complete) return 1;
        if (!reader.found()) return 2;
      }
      return strcmp(walker.page_source(), left[i]) == 0 ? 0 : 3;
    });
    EXPECT_TRUE(result == 0 || result == kSkipped) << result << " at " << i;
  }
}

// ---- copying ----

void expect_exact_copies() {
  Mapped memory(4, MAP_PRIVATE | MAP_ANONYMOUS);
  const size_t page = page_size();
  memset(memory.page(0), 7, 2 * page);
  memset(memory.page(3), 8, page);
  mprotect(memory.page(2), page, PROT_NONE);
  std::vector<char> to(4 * page, 0);
  const uintptr_t base = reinterpret_cast<uintptr_t>(memory.page(0));
  EXPECT_EQ(copy_foreign(to.data(), base, 4 * page), 2 * page);
  EXPECT_EQ(to[2 * page - 1], 7);
  EXPECT_EQ(to[2 * page], 0);
  EXPECT_EQ(copy_foreign(to.data(), base + 2 * page - 24, 4096), 24u);
  EXPECT_EQ(copy_foreign(to.data(), base + 2 * page, page), 0u);
  EXPECT_EQ(copy_foreign(to.data(), base + 3 * page + 8, 16), 16u);
  EXPECT_EQ(to[15], 8);
  EXPECT_EQ(copy_foreign(to.data(), 0, 8), 0u);
  EXPECT_EQ(copy_foreign(to.data(), base, 0), 0u);
  EXPECT_EQ(copy_foreign_refusals(), 0u);
}

TEST(CopyForeign, StopsWhereMemoryCannotBeRead) {
  expect_exact_copies();
}

TEST(CopyForeign, StopsThereThroughAPipeToo) {
  const int result = in_child([&] {
    if (!refuse({SYS_process_vm_readv}, ENOSYS)) return kSkipped;
    expect_exact_copies();
    return ::testing::Test::HasFailure() ? 1 : 0;
  });
  if (result == kSkipped) GTEST_SKIP() << "no seccomp";
  EXPECT_EQ(result, 0);
}

}  // namespace
}  // namespace nonreuse
