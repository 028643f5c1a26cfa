// What the tests of root discovery share: recording what a walk told, reading it in the way it was told,
// memory to plant words in, and children for states that cannot be undone.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "emulation.hpp"
#include "platform/attributes.hpp"
#include "platform/roots.hpp"

namespace nonreuse {

inline constexpr uint64_t kWord = 0x5eed0fca75000001;

inline size_t page_size() {
  return static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

// ---- what a walk told ----

inline constexpr size_t kMaxTold = 1 << 16;
inline RootRange told[kMaxTold];
inline size_t told_count;

class Recorder final : public RootVisitor {
 public:
  Recorder() { told_count = 0; }
  void visit(const RootRange& range) override {
    if (told_count < kMaxTold) told[told_count] = range;
    ++told_count;
  }
};

inline uint64_t read_sink;

// Reads all that it is told, in the way it is told; keeps where `kWord` was seen last at `wanted`.
class Reader final : public RootVisitor {
 public:
  explicit Reader(uintptr_t wanted = 0) : wanted_(wanted) {}
  // It reads whatever it is told, also what a sanitizer has poisoned or keeps for itself.
  NONREUSE_READS_ANY_MEMORY void visit(const RootRange& root) override {
    const size_t page = page_size();
    uintptr_t at = root.range.begin;
    while (at < root.range.end) {
      const size_t size = std::min(page - at % page, root.range.end - at);
      const char* bytes = reinterpret_cast<const char*>(at);
      if (root.access == RootAccess::copied) {
        bytes = copy_;
        if (copy_foreign(copy_, at, size) != size) {
          ++unreadable_;
          at += size;
          continue;
        }
      }
      for (size_t i = 0; i < size; i += sizeof(uint64_t)) {
        const uint64_t word = *reinterpret_cast<const volatile uint64_t*>(bytes + i);
        read_sink += word;
        if (at + i == wanted_ && word == kWord) found_ = true;
      }
      at += size;
    }
  }
  bool found() const { return found_; }
  size_t unreadable() const { return unreadable_; }

 private:
  uintptr_t wanted_;
  bool found_ = false;
  size_t unreadable_ = 0;
  alignas(8) char copy_[65536];
};

inline const RootRange* told_at(const volatile void* address) {
  const uintptr_t a = reinterpret_cast<uintptr_t>(address);
  for (size_t i = 0; i < told_count; ++i) {
    if (told[i].range.contains(a)) return &told[i];
  }
  return nullptr;
}

inline size_t told_bytes(const void* begin, size_t size) {
  const uintptr_t from = reinterpret_cast<uintptr_t>(begin);
  size_t sum = 0;
  for (size_t i = 0; i < told_count; ++i) {
    const uintptr_t low = std::max(told[i].range.begin, from);
    const uintptr_t high = std::min(told[i].range.end, from + size);
    if (low < high) sum += high - low;
  }
  return sum;
}

inline bool ascending() {
  for (size_t i = 0; i < told_count; ++i) {
    if (told[i].range.empty() || told[i].range.begin % 64 != 0 || told[i].range.end % 64 != 0) return false;
    if (i > 0 && told[i].range.begin < told[i - 1].range.end) return false;
  }
  return told_count <= kMaxTold;
}

// ---- what the tests are made of ----

inline const char* level_name(PageSource level) {
  constexpr const char* kNames[] = {"pagemap-scan", "pagemap", "mincore", "all"};
  return kNames[static_cast<size_t>(level)];
}

// Runs `body` in a child and returns its value; -signal if it was killed. For states that cannot be undone.
inline int in_child(const std::function<int()>& body) {
  fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    emulator::after_fork_in_child();
    _exit(body());
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

inline constexpr int kSkipped = 77;

class Mapped {
 public:
  Mapped(size_t pages, int flags, int fd = -1, int protection = PROT_READ | PROT_WRITE)
      : size_(pages * page_size()), base_(mmap(nullptr, size_, protection, flags, fd, 0)) {}
  ~Mapped() {
    if (ok()) munmap(base_, size_);
  }
  Mapped(const Mapped&) = delete;
  Mapped& operator=(const Mapped&) = delete;
  bool ok() const { return base_ != MAP_FAILED; }
  char* page(size_t index) const { return static_cast<char*>(base_) + index * page_size(); }
  volatile uint64_t* word(size_t index) const {
    return reinterpret_cast<volatile uint64_t*>(page(index)) + 5;
  }
  size_t size() const { return size_; }

 private:
  size_t size_;
  void* base_;
};

// What RootWalker::present() tells of a mapping.
class PresentPages final : public PageSink {
 public:
  PresentPages(RootWalker& walker, const Mapped& memory) {
    const auto begin = reinterpret_cast<uintptr_t>(memory.page(0));
    walker.present({begin, begin + memory.size()}, *this);
  }
  void pages(Range pages, RootAccess) override {
    if (bytes_ == 0) range_.begin = pages.begin;
    range_.end = pages.end;
    bytes_ += pages.size();
  }
  size_t bytes() const { return bytes_; }
  Range range() const { return range_; }  // from the first to the last

 private:
  size_t bytes_ = 0;
  Range range_{};
};

inline void plant(std::initializer_list<volatile uint64_t*> words) {
  for (volatile uint64_t* word : words) *word = kWord;
}

// For mkstemp(3) and mkdtemp(3), in the folder of the test's own.
inline std::string temporary_template() {
  return testing::TempDir() + "roots_test_XXXXXX";
}

class TemporaryFile {
 public:
  explicit TemporaryFile(size_t pages) {
    path_ = temporary_template();
    fd_ = mkstemp(path_.data());
    if (fd_ >= 0 && ftruncate(fd_, static_cast<off_t>(pages * page_size())) != 0) fd_ = -1;
  }
  ~TemporaryFile() {
    close(fd_);
    unlink(path_.c_str());
  }
  int fd() const { return fd_; }
  const std::string& path() const { return path_; }

 private:
  int fd_ = -1;
  std::string path_;
};

// From here on these system calls return `-error`. False if the kernel does not do that.
inline bool refuse(const std::vector<long>& calls, int error) {
  std::vector<sock_filter> program;
  program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0));  // seccomp_data.nr
  for (long call : calls) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(call), 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error)));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

inline size_t open_descriptors() {
  size_t count = 0;
  for (int fd = 0; fd < 1024; ++fd) count += fcntl(fd, F_GETFD) != -1;
  return count;
}

inline bool swap_exists() {
  FILE* swaps = fopen("/proc/swaps", "r");
  if (swaps == nullptr) return false;
  char line[512];
  size_t lines = 0;
  while (fgets(line, sizeof line, swaps) != nullptr) ++lines;
  fclose(swaps);
  return lines > 1;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kShadowMemory = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
inline constexpr bool kShadowMemory = true;
#else
inline constexpr bool kShadowMemory = false;
#endif
#else
inline constexpr bool kShadowMemory = false;
#endif

class Roots : public ::testing::TestWithParam<PageSource> {
 protected:
  void SetUp() override {
    if (kShadowMemory && level() != PageSource::pagemap_scan) {
      GTEST_SKIP()
          << "a sanitizer's shadow memory takes terabytes; only PAGEMAP_SCAN passes over absent pages";
    }
  }

  PageSource level() const { return GetParam(); }

  RootStatus walk(RootVisitor& visitor, const Range* own = nullptr, size_t own_count = 0) {
    walker_.limit_page_source(level());
    return walker_.walk(own, own_count, visitor);
  }

  void record(const Range* own = nullptr, size_t own_count = 0) {
    Recorder recorder;
    ASSERT_EQ(walk(recorder, own, own_count), RootStatus::complete);
    ASSERT_TRUE(ascending());
  }

  // The word is in a range, and a reader that keeps to the declared access finds it there.
  void expect_root(volatile uint64_t* word) {
    ASSERT_EQ(*word, kWord);
    expect_root_unread(word);
  }
  void expect_root_unread(volatile uint64_t* word) {
    record();
    EXPECT_NE(told_at(word), nullptr) << "not told";
    Reader reader(reinterpret_cast<uintptr_t>(word));
    EXPECT_EQ(walk(reader), RootStatus::complete);
    EXPECT_TRUE(reader.found()) << "told, but not to be read so";
  }

  void expect_access(const volatile void* address, RootAccess access) {
    const RootRange* range = told_at(address);
    ASSERT_NE(range, nullptr);
    EXPECT_EQ(range->access, access);
  }

  // Which access a present private page has here.
  RootAccess present(bool file) const {
    if (level() == PageSource::all) return RootAccess::copied;
    return file && level() == PageSource::mincore ? RootAccess::copied : RootAccess::direct;
  }

  RootWalker walker_;
};

inline const auto kEveryLevel =
    ::testing::Values(PageSource::pagemap_scan, PageSource::pagemap, PageSource::mincore, PageSource::all);

inline std::string level_test_name(const ::testing::TestParamInfo<PageSource>& info) {
  std::string name = level_name(info.param);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

}  // namespace nonreuse
