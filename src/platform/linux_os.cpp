// os.hpp on Linux.
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

#include "platform/linux_syscall.hpp"
#include "platform/os.hpp"

namespace nonreuse::os {

void yield() {
  sys::call(SYS_sched_yield);
}

void futex_wait(std::atomic<uint32_t>* word, uint32_t expected) {
  sys::call(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, nullptr);
}

void futex_wait(std::atomic<uint32_t>* word, uint32_t expected, uint64_t at_most_ns) {
  constexpr uint64_t kSecond = 1'000'000'000;
  const timespec t{static_cast<time_t>(at_most_ns / kSecond), static_cast<long>(at_most_ns % kSecond)};
  sys::call(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, &t);
}

void futex_wake(std::atomic<uint32_t>* word, int count) {
  sys::call(SYS_futex, word, FUTEX_WAKE_PRIVATE, count);
}

Address thread_identity() {
  return address_of(__builtin_thread_pointer());
}
int process_id() {
  return static_cast<int>(sys::call(SYS_getpid));
}
int thread_id() {
  return static_cast<int>(sys::call(SYS_gettid));
}

uint64_t random_word() {
  uint64_t word = 0;
  constexpr long kNonBlocking = 1;
  if (sys::call(SYS_getrandom, &word, sizeof word, kNonBlocking) == sizeof word) return word;
  return now_ns() * 0x9e3779b97f4a7c15ULL ^ thread_identity();
}

void write_error(const char* text, size_t size) {
  while (size > 0) {
    const long written = sys::call(SYS_write, 2, text, size);
    if (written == -EINTR) continue;
    if (written <= 0) return;
    text += written;
    size -= static_cast<size_t>(written);
  }
}

void die() {
  abort();
}

bool runs_privileged() {
  return getauxval(AT_SECURE) != 0;
}

size_t page_size() {
  return getauxval(AT_PAGESZ);
}

SignalsBlocked::SignalsBlocked() : before_{} {
  // A change of user need not wait, and in musl must not (kLocksBeforePrepare): locks are waited for.
  uint64_t set = ~uint64_t{0};
  for (const int open : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, sys::kChangeOfUser})
    set &= ~(uint64_t{1} << (open - 1));
  sys::call(SYS_rt_sigprocmask, SIG_BLOCK, &set, before_, sizeof set);
}

SignalsBlocked::~SignalsBlocked() {
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, before_, nullptr, sizeof before_[0]);
}

bool on_signal_stack_in(Range range) {
  stack_t stack{};
  if (sys::failed(sys::call(SYS_sigaltstack, nullptr, &stack))) return false;
  return (stack.ss_flags & SS_ONSTACK) != 0 && range.contains(reinterpret_cast<uintptr_t>(stack.ss_sp));
}

size_t default_stack_bytes() {
  static constinit std::atomic<size_t> known{0};
  size_t bytes = known.load(std::memory_order_relaxed);
  if (bytes != 0) return bytes;
  struct {
    uint64_t soft, hard;
  } limit{};
  constexpr int kStackLimit = 3;  // RLIMIT_STACK
  constexpr uint64_t kUnlimitedDefault = uint64_t{2} << 20;
  bytes = kUnlimitedDefault;
  if (!sys::failed(sys::call(SYS_prlimit64, 0, kStackLimit, nullptr, &limit)) && limit.soft != ~uint64_t{0}) {
    bytes = align_up(limit.soft, page_size());
  }
  known.store(bytes, std::memory_order_relaxed);
  return bytes;
}

namespace {
constexpr int kFileSizeLimit = 1;  // RLIMIT_FSIZE
}

void* map_shared_file(const char* directory, size_t size) {
  char path[600];
  size_t length = 0;
  while (directory[length] != '\0' && length < 512) {
    path[length] = directory[length];
    ++length;
  }
  path[length++] = '/';
  char digits[24];
  size_t count = 0;
  for (int id = process_id(); id > 0; id /= 10) digits[count++] = static_cast<char>('0' + id % 10);
  while (count > 0) path[length++] = digits[--count];
  path[length] = '\0';
  // Beyond this limit the kernel would send SIGXFSZ, and a sparse file on a full disk SIGBUS.
  uint64_t limit[2] = {0, 0};
  if (sys::failed(sys::call(SYS_prlimit64, 0, kFileSizeLimit, nullptr, limit)) || limit[0] < size)
    return nullptr;
  const long fd = sys::call(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (sys::failed(fd)) return nullptr;
  long mapped = -1;
  if (!sys::failed(sys::call(SYS_fallocate, fd, 0, 0, size))) {
    mapped = sys::call(SYS_mmap, nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  sys::call(SYS_close, fd);
  return sys::failed(mapped) ? nullptr : reinterpret_cast<void*>(mapped);
}

void unmap(void* address, size_t size) {
  sys::call(SYS_munmap, address, size);
}

void command_name(char out[16]) {
  out[0] = '\0';
  sys::call(SYS_prctl, PR_GET_NAME, out);
  out[15] = '\0';
}

}  // namespace nonreuse::os
