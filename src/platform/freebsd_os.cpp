// os.hpp on FreeBSD and CheriBSD, by their C library: FreeBSD promises the stability of its functions, not of
// its system calls' numbers. Compiled, never run (docs/porting.md).
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/thr.h>
#include <sys/types.h>
#include <sys/umtx.h>
#include <time.h>
#include <unistd.h>

#include <initializer_list>

#include "platform/os.hpp"
#include "platform/saved_errno.hpp"
#include "platform/thread_stop.hpp"

namespace nonreuse::os {
namespace {

// A cancelled thread would leave through whoever called malloc, with the heap's locks held. write(2) and
// open(2) are where it could happen.
class NotCancelled {
 public:
  NotCancelled() { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_); }
  ~NotCancelled() { pthread_setcancelstate(before_, nullptr); }
  NotCancelled(const NotCancelled&) = delete;
  NotCancelled& operator=(const NotCancelled&) = delete;

 private:
  int before_ = PTHREAD_CANCEL_ENABLE;
};

__thread char identity __attribute__((tls_model("initial-exec")));

}  // namespace

void yield() {
  const SavedErrno saved;
  sched_yield();
}

void futex_wait(std::atomic<uint32_t>* word, uint32_t expected) {
  const SavedErrno saved;
  _umtx_op(word, UMTX_OP_WAIT_UINT_PRIVATE, expected, nullptr, nullptr);
}

void futex_wait(std::atomic<uint32_t>* word, uint32_t expected, uint64_t at_most_ns) {
  const SavedErrno saved;
  constexpr uint64_t kSecond = 1'000'000'000;
  timespec t{static_cast<time_t>(at_most_ns / kSecond), static_cast<long>(at_most_ns % kSecond)};
  _umtx_op(word, UMTX_OP_WAIT_UINT_PRIVATE, expected, nullptr, &t);
}

void futex_wake(std::atomic<uint32_t>* word, int count) {
  const SavedErrno saved;
  _umtx_op(word, UMTX_OP_WAKE_PRIVATE, static_cast<unsigned long>(count), nullptr, nullptr);
}

Address thread_identity() {
  return address_of(&identity);
}
int process_id() {
  return getpid();
}
int thread_id() {
  const SavedErrno saved;
  long id = 0;
  thr_self(&id);
  return static_cast<int>(id);
}

uint64_t random_word() {
  const SavedErrno saved;
  uint64_t word = 0;
  if (getrandom(&word, sizeof word, GRND_NONBLOCK) == static_cast<ssize_t>(sizeof word)) return word;
  return now_ns() * 0x9e3779b97f4a7c15ULL ^ address_of(&identity);
}

void write_error(const char* text, size_t size) {
  const SavedErrno saved;
  const NotCancelled whole;
  while (size > 0) {
    const ssize_t written = write(STDERR_FILENO, text, size);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    text += written;
    size -= static_cast<size_t>(written);
  }
}

void die() {
  abort();
}

bool runs_privileged() {
  return issetugid() != 0;
}

size_t page_size() {
  return static_cast<size_t>(getpagesize());
}

SignalsBlocked::SignalsBlocked() : before_{} {
  static_assert(sizeof(sigset_t) <= sizeof before_);
  const SavedErrno saved;
  sigset_t set, before;
  sigfillset(&set);
  for (const int open : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS}) sigdelset(&set, open);
#if defined(SIGPROT)
  sigdelset(&set, SIGPROT);  // a capability's fault
#endif
  pthread_sigmask(SIG_BLOCK, &set, &before);
  memcpy(before_, &before, sizeof before);
}

SignalsBlocked::~SignalsBlocked() {
  const SavedErrno saved;
  sigset_t before;
  memcpy(&before, before_, sizeof before);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

bool on_signal_stack_in(Range range) {
  const SavedErrno saved;
  stack_t stack{};
  if (sigaltstack(nullptr, &stack) != 0) return false;
  return (stack.ss_flags & SS_ONSTACK) != 0 && range.contains(address_of(stack.ss_sp));
}

// What libthr maps for a thread by default. Only a search of stacks would need the exact figure.
size_t default_stack_bytes() {
  return size_t{2} << 20;
}

void* map_shared_file(const char* directory, size_t size) {
  const SavedErrno saved;
  const NotCancelled whole;
  char path[600];
  size_t length = strnlen(directory, 512);
  memcpy(path, directory, length);
  path[length++] = '/';
  char digits[24];
  size_t count = 0;
  for (int id = process_id(); id > 0; id /= 10) digits[count++] = static_cast<char>('0' + id % 10);
  while (count > 0) path[length++] = digits[--count];
  path[length] = '\0';
  // Beyond this limit the kernel would send SIGXFSZ, and a sparse file on a full disk SIGBUS.
  rlimit limit{};
  if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || static_cast<uint64_t>(limit.rlim_cur) < size) return nullptr;
  const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return nullptr;
  void* mapped = MAP_FAILED;
  if (posix_fallocate(fd, 0, static_cast<off_t>(size)) == 0) {
    mapped = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  close(fd);
  return mapped == MAP_FAILED ? nullptr : mapped;
}

void unmap(void* address, size_t size) {
  const SavedErrno saved;
  munmap(address, size);
}

void command_name(char out[16]) {
  const char* const name = getprogname();
  const size_t length = name == nullptr ? 0 : strnlen(name, 15);
  if (length != 0) memcpy(out, name, length);
  out[length] = '\0';
}

}  // namespace nonreuse::os

namespace nonreuse {

// Not known without memory of its own for sysctl(3).
size_t count_threads() {
  return 0;
}

}  // namespace nonreuse
