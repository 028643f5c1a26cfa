// Root discovery: every place in which a program can keep a pointer is told, and can be read as it is told;
// what must not be touched is not told. Each of these is asked of every source of page presence.
#include <sys/ipc.h>
#include <sys/shm.h>

#include <atomic>
#include <fstream>
#include <string>
#include <thread>

#include "platform/linux_maps.hpp"
#include "roots_support.hpp"

namespace nonreuse {
namespace {

constexpr int kGuardInstall = 102;   // MADV_GUARD_INSTALL
constexpr int kSetVma = 0x53564d41;  // PR_SET_VMA

INSTANTIATE_TEST_SUITE_P(Level, Roots, kEveryLevel, level_test_name);

// ---- roots ----

volatile uint64_t in_data = kWord;
volatile uint64_t in_bss;
thread_local volatile uint64_t in_tls;

TEST_P(Roots, SourceIsTheOneAskedFor) {
  NONREUSE_NOT_EMULATED("it has sources that lie, and these are not used");
  record();
  if (level() == PageSource::pagemap_scan && strcmp(walker_.page_source(), "pagemap-scan") != 0) {
    GTEST_SKIP() << "no PAGEMAP_SCAN here; " << walker_.page_source() << " is used";
  }
  if (level() == PageSource::pagemap && strcmp(walker_.page_source(), "pagemap") != 0) {
    GTEST_SKIP() << "no usable pagemap here; " << walker_.page_source() << " is used";
  }
  EXPECT_STREQ(walker_.page_source(), level_name(level()));
}

TEST_P(Roots, Data) {
  expect_root(&in_data);
}

TEST_P(Roots, Bss) {
  in_bss = kWord;
  expect_root(&in_bss);
}

TEST_P(Roots, BreakHeap) {
  auto* word = static_cast<volatile uint64_t*>(sbrk(static_cast<intptr_t>(2 * page_size())));
  if (word == reinterpret_cast<void*>(-1)) GTEST_SKIP() << "brk is refused";
  *word = kWord;
  expect_root(word);
}

TEST_P(Roots, MainStack) {
  NONREUSE_NOT_EMULATED("what the kernel calls [stack] is the emulator's");
  volatile uint64_t word = kWord;
  expect_root(&word);
  record();
  EXPECT_TRUE(told_at(&word)->main_stack);
  EXPECT_FALSE(told_at(&in_data)->main_stack);
}

TEST_P(Roots, ThreadStackAndTls) {
  std::atomic<volatile uint64_t*> stack{nullptr}, tls{nullptr};
  std::atomic<bool> done{false};
  std::thread other([&] {
    volatile uint64_t word = kWord;
    in_tls = kWord;
    tls = &in_tls;
    stack = &word;
    while (!done) usleep(1000);
  });
  while (stack == nullptr) usleep(100);
  expect_root(stack);
  EXPECT_FALSE(told_at(stack)->main_stack);
  expect_root(tls);
  done = true;
  other.join();
}

TEST_P(Roots, MappingAndGuardBelow) {
  Mapped memory(8, MAP_PRIVATE | MAP_ANONYMOUS);
  mprotect(memory.page(0), 2 * page_size(), PROT_NONE);
  mprotect(memory.page(6), 2 * page_size(), PROT_NONE);
  plant({memory.word(3), memory.word(5)});
  record();
  const RootRange* root = told_at(memory.word(3));
  ASSERT_NE(root, nullptr);
  EXPECT_EQ(root->mapping.begin, reinterpret_cast<uintptr_t>(memory.page(2)));
  EXPECT_EQ(root->mapping.end, reinterpret_cast<uintptr_t>(memory.page(6)));
  EXPECT_GE(root->guard_below, 2 * page_size());  // more if the kernel joined it to another one
  root = told_at(&in_data);
  EXPECT_TRUE(root->mapping.contains(reinterpret_cast<uintptr_t>(&in_data)));
  EXPECT_EQ(root->guard_below, 0u);
}

TEST_P(Roots, MainTls) {
  in_tls = kWord;
  expect_root(&in_tls);
}

TEST_P(Roots, Anonymous) {
  Mapped memory(3, MAP_PRIVATE | MAP_ANONYMOUS);
  *memory.word(1) = kWord;
  expect_root(memory.word(1));
  record();
  expect_access(memory.word(1), present(false));
}

TEST_P(Roots, MadeReadOnlyAfterWrite) {
  Mapped memory(3, MAP_PRIVATE | MAP_ANONYMOUS);
  *memory.word(1) = kWord;
  ASSERT_EQ(mprotect(memory.page(0), memory.size(), PROT_READ), 0);
  expect_root(memory.word(1));
}

TEST_P(Roots, WriteOnly) {
  // What may be written can be loaded from, whatever the mapping says.
  Mapped memory(3, MAP_PRIVATE | MAP_ANONYMOUS, -1, PROT_WRITE);
  *memory.word(1) = kWord;
  expect_root(memory.word(1));
}

TEST_P(Roots, FilePageModifiedThenReadOnly) {
  TemporaryFile file(4);
  Mapped memory(4, MAP_PRIVATE, file.fd());
  ASSERT_TRUE(memory.ok());
  *memory.word(2) = kWord;
  expect_root(memory.word(2));
  ASSERT_EQ(mprotect(memory.page(0), memory.size(), PROT_READ), 0);
  expect_root(memory.word(2));
  record();
  expect_access(memory.word(2), present(true));
}

TEST_P(Roots, FilePageUnmodifiedIsNotTold) {
  TemporaryFile file(4);
  Mapped memory(4, MAP_PRIVATE, file.fd());
  ASSERT_TRUE(memory.ok());
  *memory.word(2) = kWord;
  read_sink += *memory.word(0);
  record();
  if (level() > PageSource::pagemap) {
    EXPECT_NE(told_at(memory.word(2)), nullptr);
    GTEST_SKIP() << "this source cannot tell pages of the file from modified ones";
  }
  EXPECT_EQ(told_bytes(memory.page(0), memory.size()), page_size());
}

TEST_P(Roots, PrivateDevZero) {
  const int fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
  if (fd < 0) GTEST_SKIP() << "no /dev/zero";
  Mapped memory(3, MAP_PRIVATE, fd);
  close(fd);
  *memory.word(1) = kWord;
  expect_root(memory.word(1));
}

TEST_P(Roots, TransparentHugePage) {
  constexpr size_t kHuge = size_t{2} << 20;
  Mapped memory(2 * kHuge / page_size(), MAP_PRIVATE | MAP_ANONYMOUS);
  char* huge = reinterpret_cast<char*>(align_up(reinterpret_cast<uintptr_t>(memory.page(0)), kHuge));
  madvise(huge, kHuge, MADV_HUGEPAGE);
  auto* word = reinterpret_cast<volatile uint64_t*>(huge + 5 * page_size());
  *word = kWord;
  expect_root(word);
  record();
  if (told_bytes(huge, kHuge) != kHuge) GTEST_SKIP() << "the kernel gave no huge page; small pages were seen";
}

TEST_P(Roots, PrivateHugetlb) {
  constexpr size_t kHuge = size_t{2} << 20;
  Mapped memory(kHuge / page_size(), MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB);
  if (!memory.ok()) GTEST_SKIP() << "no huge pages are reserved (vm.nr_hugepages)";
  *memory.word(7) = kWord;
  expect_root(memory.word(7));
}

TEST_P(Roots, SharedHugetlbOutOfPageTable) {
  constexpr size_t kHuge = size_t{2} << 20;
  Mapped memory(kHuge / page_size(), MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB);
  if (!memory.ok()) GTEST_SKIP() << "no huge pages are reserved (vm.nr_hugepages)";
  *memory.word(7) = kWord;
  expect_root(memory.word(7));
  madvise(memory.page(0), memory.size(), MADV_DONTNEED);
  expect_root_unread(memory.word(7));
  record();
  expect_access(memory.word(7), RootAccess::copied);
}

TEST_P(Roots, SharedAnonymous) {
  Mapped memory(3, MAP_SHARED | MAP_ANONYMOUS);
  *memory.word(1) = kWord;
  expect_root(memory.word(1));
  record();
  expect_access(memory.word(1), RootAccess::copied);
}

TEST_P(Roots, SharedAnonymousOutOfPageTable) {
  Mapped memory(3, MAP_SHARED | MAP_ANONYMOUS);
  *memory.word(1) = kWord;
  ASSERT_EQ(madvise(memory.page(0), memory.size(), MADV_DONTNEED), 0);
  expect_root_unread(memory.word(1));
  EXPECT_EQ(*memory.word(1), kWord);
}

TEST_P(Roots, SharedAnonymousReadOnly) {
  Mapped memory(3, MAP_SHARED | MAP_ANONYMOUS);
  *memory.word(1) = kWord;
  ASSERT_EQ(mprotect(memory.page(0), memory.size(), PROT_READ), 0);
  expect_root(memory.word(1));
}

TEST_P(Roots, HolesOfSharedMemoryAreNotFilled) {
  constexpr size_t kPages = 4096;
  const int fd = memfd_create("holes", MFD_CLOEXEC);
  ASSERT_EQ(ftruncate(fd, static_cast<off_t>(kPages * page_size())), 0);
  Mapped memory(kPages, MAP_SHARED, fd);
  *memory.word(1000) = kWord;
  if (level() == PageSource::all || swap_exists()) {
    close(fd);
    GTEST_SKIP() << "holes cannot be told here";
  }
  expect_root(memory.word(1000));
  struct stat status;
  ASSERT_EQ(fstat(fd, &status), 0);
  close(fd);
  EXPECT_EQ(static_cast<size_t>(status.st_blocks) * 512, page_size());
}

TEST_P(Roots, Memfd) {
  const int fd = memfd_create("a name with spaces (deleted)", MFD_CLOEXEC);
  ASSERT_EQ(ftruncate(fd, static_cast<off_t>(4 * page_size())), 0);
  Mapped shared(4, MAP_SHARED, fd);
  Mapped copied_on_write(4, MAP_PRIVATE, fd);
  close(fd);
  *shared.word(1) = kWord;
  *copied_on_write.word(2) = kWord;
  expect_root(shared.word(1));
  expect_root(copied_on_write.word(2));
  // A page that the private mapping has not written shows what the shared one wrote.
  expect_root_unread(copied_on_write.word(1));
}

TEST_P(Roots, MemfdWrittenThroughTheDescriptor) {
  const int fd = memfd_create("written", MFD_CLOEXEC);
  ASSERT_EQ(ftruncate(fd, static_cast<off_t>(2 * page_size())), 0);
  Mapped shared(2, MAP_SHARED, fd, PROT_READ);
  const uint64_t word = kWord;
  ASSERT_EQ(pwrite(fd, &word, sizeof word, static_cast<off_t>(page_size() + 40)), 8);
  close(fd);
  expect_root_unread(shared.word(1));
}

TEST_P(Roots, HugeMemfd) {
  constexpr size_t kHuge = size_t{2} << 20;
  const int fd = memfd_create("huge", MFD_CLOEXEC | 4u /* MFD_HUGETLB */);
  if (fd < 0 || ftruncate(fd, kHuge) != 0) GTEST_SKIP() << "no huge page files";
  Mapped memory(kHuge / page_size(), MAP_SHARED, fd);
  close(fd);
  if (!memory.ok()) GTEST_SKIP() << "no huge pages are reserved (vm.nr_hugepages)";
  *memory.word(7) = kWord;
  madvise(memory.page(0), memory.size(), MADV_DONTNEED);
  expect_root_unread(memory.word(7));
}

TEST_P(Roots, SystemVSharedMemory) {
  const int id = shmget(IPC_PRIVATE, 3 * page_size(), IPC_CREAT | 0600);
  if (id < 0) GTEST_SKIP() << "no System V shared memory";
  char* base = static_cast<char*>(shmat(id, nullptr, 0));
  shmctl(id, IPC_RMID, nullptr);
  ASSERT_NE(base, reinterpret_cast<char*>(-1));
  auto* word = reinterpret_cast<volatile uint64_t*>(base + page_size());
  *word = kWord;
  expect_root(word);
  shmdt(base);
}

TEST_P(Roots, PosixSharedMemory) {
  const std::string name = "/roots_test_" + std::to_string(getpid());
  const int fd = shm_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
  if (fd < 0) GTEST_SKIP() << "no POSIX shared memory";
  ASSERT_EQ(ftruncate(fd, static_cast<off_t>(3 * page_size())), 0);
  Mapped memory(3, MAP_SHARED, fd);
  close(fd);
  *memory.word(1) = kWord;
  expect_root(memory.word(1));
  shm_unlink(name.c_str());
  expect_root(memory.word(1));  // its name ends in (deleted) now
}

TEST_P(Roots, SecretMemory) {
#ifdef SYS_memfd_secret
  const int fd = static_cast<int>(syscall(SYS_memfd_secret, O_CLOEXEC));
#else
  const int fd = static_cast<int>(syscall(447, O_CLOEXEC));
#endif
  if (fd < 0) GTEST_SKIP() << "no memfd_secret";
  ASSERT_EQ(ftruncate(fd, static_cast<off_t>(3 * page_size())), 0);
  Mapped memory(3, MAP_SHARED, fd);
  close(fd);
  if (!memory.ok()) GTEST_SKIP() << "secret memory cannot be locked";
  *memory.word(1) = kWord;
  expect_root(memory.word(1));
}

TEST_P(Roots, NamedAnonymous) {
  Mapped memory(3, MAP_PRIVATE | MAP_ANONYMOUS);
  if (prctl(kSetVma, 0, memory.page(0), memory.size(), "arena") != 0) {
    GTEST_SKIP() << "the kernel does not name anonymous memory; see RootMaps.Kinds for the name";
  }
  *memory.word(1) = kWord;
  expect_root(memory.word(1));
}

TEST_P(Roots, ForkedChildKeepsCopiedPages) {
  Mapped memory(3, MAP_PRIVATE | MAP_ANONYMOUS);
  *memory.word(1) = kWord;
  const uintptr_t word = reinterpret_cast<uintptr_t>(memory.word(1));
  EXPECT_EQ(in_child([&] {
              Reader reader(word);
              if (walk(reader) != RootStatus::complete) return 1;
              return reader.found() ? 0 : 2;
            }),
            0);
}

TEST_P(Roots, FiveThousandMappings) {
  constexpr size_t kPages = 10000;
  Mapped memory(kPages, MAP_PRIVATE | MAP_ANONYMOUS);
  for (size_t i = 0; i < kPages; ++i) *memory.word(i) = kWord;
  for (size_t i = 0; i < kPages; i += 2) ASSERT_EQ(mprotect(memory.page(i), page_size(), PROT_READ), 0);
  record();
  size_t missing = 0;
  for (size_t i = 0; i < kPages; ++i) missing += told_at(memory.word(i)) == nullptr;
  EXPECT_EQ(missing, 0u);
}

TEST_P(Roots, EverySecondPageOfOneMapping) {
  constexpr size_t kPages = 20000;
  Mapped memory(kPages, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
  madvise(memory.page(0), memory.size(), MADV_NOHUGEPAGE);
  for (size_t i = 0; i < kPages; i += 2) *memory.word(i) = kWord;
  record();
  size_t missing = 0;
  for (size_t i = 0; i < kPages; i += 2) missing += told_at(memory.word(i)) == nullptr;
  EXPECT_EQ(missing, 0u);
  if (level() != PageSource::all) {
    EXPECT_EQ(told_bytes(memory.page(0), memory.size()), kPages / 2 * page_size());
  }
}

TEST_P(Roots, NeighboursInAMappingAreJoined) {
  Mapped memory(64, MAP_PRIVATE | MAP_ANONYMOUS);
  mprotect(memory.page(0), page_size(), PROT_NONE);
  mprotect(memory.page(63), page_size(), PROT_NONE);
  for (size_t i = 1; i < 63; ++i) *memory.word(i) = kWord;
  record();
  const RootRange* range = told_at(memory.page(1));
  ASSERT_NE(range, nullptr);
  EXPECT_EQ(range->range.begin, reinterpret_cast<uintptr_t>(memory.page(1)));
  EXPECT_EQ(range->range.end, reinterpret_cast<uintptr_t>(memory.page(63)));
}

TEST_P(Roots, SwappedPages) {
  if (!swap_exists()) GTEST_SKIP() << "the machine has no swap";
  Mapped anonymous(64, MAP_PRIVATE | MAP_ANONYMOUS);
  Mapped shared(64, MAP_SHARED | MAP_ANONYMOUS);
  for (size_t i = 0; i < 64; ++i) plant({anonymous.word(i), shared.word(i)});
  ASSERT_EQ(madvise(anonymous.page(0), anonymous.size(), 21 /* MADV_PAGEOUT */), 0);
  ASSERT_EQ(madvise(shared.page(0), shared.size(), 21), 0);
  record();
  if (level() <= PageSource::pagemap && told_at(anonymous.word(63)) != nullptr &&
      told_at(anonymous.word(63))->access == RootAccess::direct) {
    GTEST_SKIP() << "the kernel swapped nothing out";
  }
  size_t missing = 0;
  for (size_t i = 0; i < 64; ++i) missing += told_at(anonymous.word(i)) == nullptr;
  for (size_t i = 0; i < 64; ++i) missing += told_at(shared.word(i)) == nullptr;
  EXPECT_EQ(missing, 0u);
  expect_root_unread(anonymous.word(63));
  expect_root_unread(shared.word(63));
}

// ---- no roots ----

TEST_P(Roots, NoAccessIsNotTold) {
  Mapped memory(3, MAP_PRIVATE | MAP_ANONYMOUS);
  for (size_t i = 0; i < 3; ++i) *memory.word(i) = kWord;
  mprotect(memory.page(1), page_size(), PROT_NONE);
  record();
  EXPECT_EQ(told_at(memory.word(1)), nullptr);
  EXPECT_NE(told_at(memory.word(0)), nullptr);
  EXPECT_NE(told_at(memory.word(2)), nullptr);
}

TEST_P(Roots, GuardPagesAreNotReadInPlace) {
  NONREUSE_NOT_EMULATED("it accepts advice and does nothing");
  Mapped memory(4, MAP_PRIVATE | MAP_ANONYMOUS);
  for (size_t i = 0; i < 4; ++i) *memory.word(i) = kWord;
  if (madvise(memory.page(1), page_size(), kGuardInstall) != 0) GTEST_SKIP() << "no MADV_GUARD_INSTALL";
  expect_root(memory.word(2));
  record();
  EXPECT_NE(told_at(memory.word(0)), nullptr);
  if (level() == PageSource::all) {
    expect_access(memory.word(1), RootAccess::copied);
  } else {
    EXPECT_EQ(told_at(memory.word(1)), nullptr);
  }
}

TEST_P(Roots, UntouchedMemoryIsNotTold) {
  constexpr size_t kSize = size_t{1} << 30;
  Mapped memory(kSize / page_size(), MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
  ASSERT_TRUE(memory.ok());
  madvise(memory.page(0), memory.size(), MADV_NOHUGEPAGE);
  for (size_t i : {size_t{3}, size_t{4}, size_t{200000}}) *memory.word(i) = kWord;
  record();
  EXPECT_NE(told_at(memory.word(200000)), nullptr);
  if (level() == PageSource::all) {
    EXPECT_EQ(told_bytes(memory.page(0), kSize), kSize);
  } else {
    EXPECT_EQ(told_bytes(memory.page(0), kSize), 3 * page_size());
  }
}

TEST_P(Roots, PresentPagesAreToldAfterAWalk) {
  constexpr size_t kPages = 1000;
  Mapped memory(kPages, MAP_PRIVATE | MAP_ANONYMOUS);
  madvise(memory.page(0), memory.size(), MADV_NOHUGEPAGE);
  for (size_t i : {size_t{3}, size_t{4}, size_t{900}}) *memory.word(i) = kWord;
  record();
  const PresentPages told(walker_, memory);
  if (level() == PageSource::all) {
    EXPECT_EQ(told.bytes(), memory.size());
  } else {
    EXPECT_EQ(told.bytes(), 3 * page_size());
    EXPECT_EQ(told.range().begin, reinterpret_cast<uintptr_t>(memory.page(3)));
    EXPECT_EQ(told.range().end, reinterpret_cast<uintptr_t>(memory.page(901)));
  }
}

// Some hypervisors' kernels have no such page: a read gets a page of its own.
bool reads_bring_the_zero_page() {
  const Mapped memory(1, MAP_PRIVATE | MAP_ANONYMOUS);
  const auto resident = [] {
    std::ifstream figures("/proc/self/smaps_rollup");
    for (std::string name, rest; figures >> name; std::getline(figures, rest)) {
      if (name == "Anonymous:") return std::stol(rest);
    }
    return -1L;
  };
  const long before = resident();
  read_sink += *memory.word(0);
  return resident() == before;
}

TEST_P(Roots, OnlyReadMemoryIsNotToldByScan) {
  if (!reads_bring_the_zero_page())
    GTEST_SKIP() << "this kernel has no page of zeroes for memory that is read";
  Mapped memory(3, MAP_PRIVATE | MAP_ANONYMOUS);
  read_sink += *memory.word(1);  // the zero page
  record();
  if (strcmp(walker_.page_source(), "pagemap-scan") != 0)
    GTEST_SKIP() << "only PAGEMAP_SCAN knows zero pages";
  EXPECT_EQ(told_bytes(memory.page(0), memory.size()), 0u);
}

TEST_P(Roots, SharedFileIsNotTold) {
  TemporaryFile file(3);
  Mapped memory(3, MAP_SHARED, file.fd());
  ASSERT_TRUE(memory.ok());
  *memory.word(1) = kWord;
  record();
  EXPECT_EQ(told_bytes(memory.page(0), memory.size()), 0u);
}

TEST_P(Roots, KernelPagesAreNotTold) {
  record();
  std::vector<char> buffer(65536);
  MapsReader reader(buffer.data(), buffer.size());
  ASSERT_TRUE(reader.open("/proc/self/maps"));
  Mapping mapping;
  size_t kernel_mappings = 0;
  while (reader.next(mapping)) {
    const std::string name(mapping.name, mapping.name_size);
    if (name.rfind("[v", 0) != 0) continue;
    ++kernel_mappings;
    EXPECT_EQ(told_bytes(reinterpret_cast<void*>(mapping.range.begin), mapping.range.size()), 0u) << name;
  }
  EXPECT_FALSE(reader.failed());
  reader.close();
  if (kernel_mappings == 0) GTEST_SKIP() << "no kernel pages are mapped";
}

TEST_P(Roots, RingOfTheKernelIsNotTold) {
  struct {
    uint32_t words[30];
  } parameters{};
  const int fd = static_cast<int>(syscall(425 /* io_uring_setup */, 4, &parameters));
  if (fd < 0) GTEST_SKIP() << "no io_uring";
  Mapped ring(1, MAP_SHARED | MAP_POPULATE, fd);
  close(fd);
  if (!ring.ok()) GTEST_SKIP() << "the ring cannot be mapped";
  record();
  EXPECT_EQ(told_bytes(ring.page(0), ring.size()), 0u);
}

TEST_P(Roots, OwnRangesAreNotTold) {
  Mapped memory(10, MAP_PRIVATE | MAP_ANONYMOUS);
  for (size_t i = 0; i < 10; ++i) *memory.word(i) = kWord;
  const uintptr_t base = reinterpret_cast<uintptr_t>(memory.page(0));
  const size_t page = page_size();
  const Range own[] = {
      {base + 7 * page, base + 8 * page},  // in no order
      {base + 2 * page, base + 4 * page},
      {base + 3 * page, base + 5 * page},        // overlapping
      {base + 3 * page, base + 3 * page + 128},  // inside another
      {base + 6 * page + 128, base + 6 * page + 256},
      {base + 9 * page, base + 20 * page},  // beyond the mapping
      {0, 0},
      {base + 6 * page + 512, base + 6 * page + 570},  // only whole multiples of 64 are cut out
  };
  record(own, 8);
  EXPECT_EQ(told_bytes(memory.page(0), 2 * page), 2 * page);
  EXPECT_EQ(told_bytes(memory.page(2), 3 * page), 0u);
  EXPECT_EQ(told_bytes(memory.page(5), page), page);
  EXPECT_EQ(told_bytes(memory.page(6), page), page - 128);
  EXPECT_EQ(told_bytes(memory.page(6) + 128, 128), 0u);
  EXPECT_EQ(told_bytes(memory.page(6) + 512, 58), 58u);
  EXPECT_EQ(told_bytes(memory.page(7), page), 0u);
  EXPECT_EQ(told_bytes(memory.page(8), page), page);
  EXPECT_EQ(told_bytes(memory.page(9), page), 0u);
}

}  // namespace
}  // namespace nonreuse
