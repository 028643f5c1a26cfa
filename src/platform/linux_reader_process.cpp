#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include "platform/linux_spawn.hpp"
#include "platform/linux_syscall.hpp"
#include "platform/os.hpp"
#include "platform/reader_process.hpp"

namespace nonreuse {
namespace {

constexpr size_t kAreaBytes = 256 * 1024;  // aligned to its size: found from any frame on its stack
constexpr size_t kThreadRoom = 2048;       // zeroes on either side of the thread pointer
constexpr size_t kSignalSetBytes = 8;
constexpr uint64_t kFaults = uint64_t{1} << (SIGSEGV - 1) | uint64_t{1} << (SIGBUS - 1);
constexpr long kCloseRange = 436;
constexpr unsigned kCloseRangeUnshare = 2;

// struct sigaction of the kernel; riscv's has no restorer.
struct KernelAction {
  void (*handler)(int);
  uint64_t flags;
#if !defined(__riscv)
  void (*restorer)();
#endif
  uint64_t mask;
};
constexpr uint64_t kRestorer = 0x04000000;  // must be given on x86-64, and is not used: no handler returns

// Not the private kind of futex: the kernel wakes a process's end as a shared one.
void wait_while(const uint32_t* word, uint32_t value, uint64_t at_most_ns) {
  const uint64_t until = os::now_ns() + at_most_ns;
  for (uint64_t now = 0; __atomic_load_n(word, __ATOMIC_ACQUIRE) == value && (now = os::now_ns()) < until;) {
    const uint64_t left = until - now;
    const timespec t{static_cast<time_t>(left / 1'000'000'000), static_cast<long>(left % 1'000'000'000)};
    sys::call(SYS_futex, word, FUTEX_WAIT, value, &t);
  }
}

}  // namespace

struct ReaderProcess::Area {
  uint64_t cookie;
  bool guarding;
  void* jump[5];  // __builtin_setjmp
  alignas(64) char thread[2 * kThreadRoom];
};

bool ReaderProcess::map_area() {
  if (area_ != nullptr) return true;
  const long mapped = sys::call(SYS_mmap, nullptr, 2 * kAreaBytes, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (sys::failed(mapped)) return false;
  const auto base = static_cast<uintptr_t>(mapped), begin = align_up(base, kAreaBytes);
  if (begin > base) sys::call(SYS_munmap, base, begin - base);
  const uintptr_t rest = base + kAreaBytes - begin;
  if (rest > 0) sys::call(SYS_munmap, begin + kAreaBytes, rest);
  area_ = reinterpret_cast<Area*>(begin);
  return true;
}

Range ReaderProcess::own_memory() const {
  const auto begin = reinterpret_cast<uintptr_t>(area_);
  return area_ == nullptr ? Range{} : Range{begin, begin + kAreaBytes};
}

bool ReaderProcess::start(Job job, void* context, const int (&keep)[2]) {
  // A filter may end the program for calls that it does not know.
  if (NONREUSE_SANITIZED || process_ != 0 || running()) return false;
  if (sys::filtered() || !sys::children_stay_in_namespace()) return false;
  if (!map_area()) return false;
  const uintptr_t thread = reinterpret_cast<uintptr_t>(area_->thread) + kThreadRoom;
  *reinterpret_cast<uintptr_t*>(thread) = thread;  // x86-64 asks for it
  area_->cookie = os::random_word();
  area_->guarding = false;
  job_ = job;
  context_ = context;
  keep_[0] = keep[0] < keep[1] ? keep[0] : keep[1];
  keep_[1] = keep[0] < keep[1] ? keep[1] : keep[0];
  program_ = os::process_id();
  returned_ = false;
  apart_ = 0;
  thread_number_ = nullptr;
  sys::call(SYS_prctl, PR_GET_TID_ADDRESS, &thread_number_, 0, 0, 0);
  __atomic_store_n(&alive_, 1u, __ATOMIC_RELEASE);
  // It inherits the mask and shall take no signal of the program's. But SIGSYS, which a sandbox may answer
  // clone(2) with, would end the program if it were blocked here.
  const uint64_t mask = ~(kFaults | uint64_t{1} << (SIGSYS - 1));
  uint64_t before = 0;
  sys::call(SYS_rt_sigprocmask, SIG_BLOCK, &mask, &before, kSignalSetBytes);
  const uintptr_t stack_top = reinterpret_cast<uintptr_t>(area_) + kAreaBytes - 64;
  const long process = sys::spawn_sharing_memory(main_of_process, this, {stack_top, thread, &alive_});
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &before, nullptr, kSignalSetBytes);
  if (sys::failed(process)) {
    __atomic_store_n(&alive_, 0u, __ATOMIC_RELEASE);
    return false;
  }
  __atomic_store_n(&process_, static_cast<int>(process), __ATOMIC_RELAXED);
  return true;
}

void ReaderProcess::wait(uint64_t at_most_ns) const {
  wait_while(&alive_, 1, at_most_ns);
}

bool ReaderProcess::has_own_descriptors(uint64_t at_most_ns) const {
  wait_while(&apart_, 0, at_most_ns);
  return __atomic_load_n(&apart_, __ATOMIC_ACQUIRE) != 0 || !running();
}

uint64_t ReaderProcess::user_ns() {
  struct rusage usage {};
  sys::call(SYS_getrusage, RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_utime.tv_sec) * 1'000'000'000u +
         static_cast<uint64_t>(usage.ru_utime.tv_usec) * 1000u;
}

size_t ReaderProcess::processors() {
  if (sys::filtered()) return 1;  // none would be started; and the filter might end the program for asking
  unsigned long mask[128];
  const long size = sys::call(SYS_sched_getaffinity, 0, sizeof mask, mask);
  size_t count = 0;
  for (long i = 0; i < size / static_cast<long>(sizeof mask[0]); ++i) {
    count += static_cast<size_t>(__builtin_popcountl(mask[i]));
  }
  return count;
}

bool ReaderProcess::kill() const {
  return process_ == 0 || !sys::failed(sys::call(SYS_kill, process_, SIGKILL));
}

bool ReaderProcess::reap() {
  int status = 0;
  // It has written its end and runs no more code of ours. ECHILD: the program waits for such processes
  // itself.
  while (process_ != 0 && sys::call(SYS_wait4, process_, &status, __WCLONE, nullptr) == -EINTR) {
  }
  __atomic_store_n(&process_, 0, __ATOMIC_RELAXED);
  return returned_;
}

void ReaderProcess::after_fork_in_child() {
  process_ = 0;
  alive_ = 0;
}

// ---- in the process -------------------------------------------------------------------------------------

// Descriptors would keep what the program closes open: pipes, sockets, locks.
bool ReaderProcess::leave_the_program() const {
  const auto close = [](unsigned from, unsigned to, unsigned flags) {
    return from > to || !sys::failed(sys::call(kCloseRange, from, to, flags));
  };
  const auto low = static_cast<unsigned>(keep_[0]), high = static_cast<unsigned>(keep_[1]);
  const bool none = keep_[0] < 0;
  if (!close(none ? 0 : high + 1, ~0u, kCloseRangeUnshare)) return false;
  if (!none && low != 0 && !close(0, low - 1, 0)) return false;
  if (!none && !close(low + 1, high - 1, 0)) return false;
  sys::call(SYS_prctl, PR_SET_NAME, "nonreuse-reader", 0, 0, 0);
  // The thread that started it may be one of real-time priority, or bound to a processor, which it wants for
  // itself.
  constexpr long kOrdinary = 0;
  const int priority = 0;
  if (sys::call(SYS_sched_getscheduler, 0) != kOrdinary)
    sys::call(SYS_sched_setscheduler, 0, kOrdinary, &priority);
  unsigned long processors[128];
  const long size = sys::call(SYS_sched_getaffinity, program_, sizeof processors, processors);
  if (size > 0) sys::call(SYS_sched_setaffinity, 0, size, processors);
  KernelAction action{};
  action.handler = on_fault;
  action.flags = SA_NODEFER | kRestorer;
#if !defined(__riscv)
  action.restorer = [] {};
#endif
  return !sys::failed(sys::call(SYS_rt_sigaction, SIGSEGV, &action, nullptr, kSignalSetBytes)) &&
         !sys::failed(sys::call(SYS_rt_sigaction, SIGBUS, &action, nullptr, kSignalSetBytes));
}

long ReaderProcess::main_of_process(void* argument) {
  auto* self = static_cast<ReaderProcess*>(argument);
  const bool apart = self->leave_the_program();
  __atomic_store_n(&self->apart_, 1u, __ATOMIC_RELEASE);
  sys::call(SYS_futex, &self->apart_, FUTEX_WAKE, 1);
  if (!apart) return 1;
  self->job_(self->context_);
  self->returned_ = true;
  return 0;
}

void ReaderProcess::on_fault(int) {
  auto* area = reinterpret_cast<Area*>(
      align_down(reinterpret_cast<uintptr_t>(__builtin_frame_address(0)), kAreaBytes));
  // A fault of our own. By default the system would end, and dump, all processes with this memory.
  if (!area->guarding) sys::call(SYS_exit, 1);
  __builtin_longjmp(area->jump, 1);
}

NONREUSE_NOINLINE bool ReaderProcess::guarded(void (*read)(void*), void* context) {
  auto* volatile area = area_;
  if (__builtin_setjmp(area->jump) != 0) {
    area->guarding = false;
    return false;
  }
  __atomic_store_n(&area->guarding, true, __ATOMIC_SEQ_CST);
  read(context);
  __atomic_store_n(&area->guarding, false, __ATOMIC_SEQ_CST);
  return true;
}

bool ReaderProcess::abandoned() const {
  if (sys::call(SYS_getppid) != program_) return true;
  if (thread_number_ != nullptr && __atomic_load_n(thread_number_, __ATOMIC_RELAXED) != 0) return false;
  // The thread has ended, or execve(2) has given the program other memory: is ours still there?
  uint64_t found = 0;
  iovec to = {&found, sizeof found};
  iovec from = {&area_->cookie, sizeof found};
  const long got = sys::call(SYS_process_vm_readv, program_, &to, 1, &from, 1, 0);
  if (got == -EPERM && thread_number_ == nullptr) return false;  // nothing to go by
  return got != static_cast<long>(sizeof found) || found != area_->cookie;
}

}  // namespace nonreuse
