// Naming a use after free before the program, or the system, deals with the SIGSEGV.
//
// A handler of ours stands in front of the program's: sigaction(2) and its relatives are interposed, so that
// the program sees the handlers that it has set, and nothing of ours. The flags and the mask that the kernel
// is given are those of the program's handler, so that the alternate stack, nesting, and what is blocked are
// as it asked; only SA_RESETHAND is carried out here. After the fault was named its handler is called, or
// the default action is restored and the instruction runs again.
//
// Naming needs more stack than an alternate one may have: it is done on a stack of our own, by one thread at
// a time. On the program's stack the handler takes about a kilobyte.
//
// A program that calls rt_sigaction(2) by itself, or sigset(3), replaces our handler; faults are then not
// named.
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>

#include "companion/stacks.hpp"

#define NONREUSE_PUBLIC extern "C" __attribute__((visibility("default")))

namespace {

using Sigaction = int (*)(int, const struct sigaction*, struct sigaction*);
using Signal = sighandler_t (*)(int, sighandler_t);
using Wants = bool (*)(uint64_t address);
using Namer = void (*)(uint64_t address, const uint64_t* frames, size_t count);

constinit Wants wants = nullptr;
constinit Namer namer = nullptr;
constinit std::atomic<bool> watching{false};  // our handler is in place
constinit struct sigaction program_action = {};
constinit std::atomic<bool> busy{false};  // guards program_action; its holder has every signal blocked
constinit std::atomic<int> owner{0};      // the process that the above belongs to; a child of vfork is none

// The C library's function of that name, looked up once: dlsym(3) is not for handlers of signals.
template <class Function>
class Real {
 public:
  explicit constexpr Real(const char* name) : name_(name) {}
  Function get() {
    Function function = known_.load(std::memory_order_relaxed);
    if (function == nullptr) {
      function = reinterpret_cast<Function>(dlsym(RTLD_NEXT, name_));
      known_.store(function, std::memory_order_relaxed);
    }
    return function;
  }

 private:
  const char* name_;
  std::atomic<Function> known_{nullptr};
};
constinit Real<Sigaction> libc_sigaction("sigaction");
constinit Real<Signal> libc_signal("signal"), libc_sysv_signal("__sysv_signal");

int real_sigaction(int number, const struct sigaction* action, struct sigaction* old) {
  return libc_sigaction.get()(number, action, old);
}

class Guard {
 public:
  Guard() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
    while (busy.exchange(true, std::memory_order_acquire)) {
    }
  }
  ~Guard() {
    busy.store(false, std::memory_order_release);
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

 private:
  sigset_t before_;
};

bool is_handler(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 ||
         (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN);
}

// What is being named, on the stack for it.
struct Naming {
  std::atomic<int> thread{0};  // that does; 0: nobody
  void* stack = nullptr;
  uint64_t address = 0;
  void* interrupted = nullptr;  // its context
  ucontext_t here, back;
};
constinit Naming naming = {};
constexpr size_t kStackBytes = 256 * 1024, kGuardBytes = 64 * 1024;

bool make_stack() {
  void* memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED) return false;
  mprotect(memory, kGuardBytes, PROT_NONE);
  naming.stack = static_cast<char*>(memory) + kGuardBytes;
  return true;
}

void name_here() {
  constexpr size_t kMost = 64;
  uint64_t frames[kMost];
  const size_t count = nonreuse::companion::capture_from(naming.interrupted, frames, kMost);
  namer(naming.address, frames, count);
}

void name_fault(uint64_t address, void* context) {
  const int self = gettid();
  if (naming.thread.load(std::memory_order_relaxed) == self) return;  // a fault while naming one
  for (int nobody = 0; !naming.thread.compare_exchange_weak(nobody, self, std::memory_order_acquire);
       nobody = 0)
    sched_yield();
  naming.address = address;
  naming.interrupted = context;
  if (getcontext(&naming.here) == 0) {
    naming.here.uc_stack.ss_sp = naming.stack;
    naming.here.uc_stack.ss_size = kStackBytes;
    naming.here.uc_link = &naming.back;
    makecontext(&naming.here, name_here, 0);
    swapcontext(&naming.back, &naming.here);
  }
  naming.thread.store(0, std::memory_order_release);
}

void restore_default(int number) {
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  real_sigaction(number, &action, nullptr);
}

void on_fault(int number, siginfo_t* info, void* context) {
  const int saved = errno;
  const bool is_fault = info->si_code > 0;
  const auto address = static_cast<uint64_t>(reinterpret_cast<uintptr_t>(info->si_addr));
  if (is_fault && wants(address)) name_fault(address, context);
  struct sigaction action;
  {
    const Guard guard;
    action = program_action;
    if ((action.sa_flags & SA_RESETHAND) != 0) {
      program_action = {};
      program_action.sa_handler = SIG_DFL;
    }
  }
  errno = saved;
  if ((action.sa_flags & SA_SIGINFO) != 0) return action.sa_sigaction(number, info, context);
  if (action.sa_handler == SIG_IGN && !is_fault) return;
  if (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN) return action.sa_handler(number);
  // The system's own way: a fault happens again, what somebody sent is sent again.
  restore_default(number);
  if (!is_fault) syscall(SYS_tgkill, getpid(), gettid(), number);
  errno = saved;
}

// As the kernel keeps it. The C library's set of signals is larger than the kernel's, and its rest is
// whatever was on the program's stack: kept here it would be a root that holds chunks back.
struct sigaction cleaned(const struct sigaction& action) {
  constexpr int kSignals = 64;
  struct sigaction clean = {};
  if ((action.sa_flags & SA_SIGINFO) != 0)
    clean.sa_sigaction = action.sa_sigaction;
  else
    clean.sa_handler = action.sa_handler;
  clean.sa_flags = action.sa_flags;
  sigemptyset(&clean.sa_mask);
  for (int number = 1; number <= kSignals; ++number) {
    if (sigismember(&action.sa_mask, number) == 1) sigaddset(&clean.sa_mask, number);
  }
  return clean;
}

// What the kernel is given for the program's `action`. Locked.
int install(const struct sigaction& action) {
  struct sigaction ours = action;
  ours.sa_sigaction = on_fault;
  ours.sa_flags |= SA_SIGINFO;
  ours.sa_flags &= ~SA_RESETHAND;
  // Without a handler of the program's any stack will do.
  if (!is_handler(action)) ours.sa_flags |= SA_ONSTACK;
  return real_sigaction(SIGSEGV, &ours, nullptr);
}

bool is_ours(int number) {
  return number == SIGSEGV && watching.load(std::memory_order_acquire);
}

int set_action(const struct sigaction* action, struct sigaction* old) {
  const Guard guard;
  // What a child of vfork sets is the kernel's alone: the memory is its parent's.
  const bool shared = owner.load(std::memory_order_relaxed) != getpid();
  const struct sigaction before = program_action;
  if (action != nullptr && shared) {
    if (real_sigaction(SIGSEGV, action, nullptr) != 0) return -1;
  } else if (action != nullptr) {
    if (install(*action) != 0) return -1;
    program_action = cleaned(*action);
  }
  if (old != nullptr) *old = before;
  return 0;
}

sighandler_t set_handler(sighandler_t handler, int flags) {
  struct sigaction action = {}, old;
  action.sa_handler = handler;
  action.sa_flags = flags;
  if ((flags & SA_NODEFER) == 0) sigaddset(&action.sa_mask, SIGSEGV);
  return set_action(&action, &old) == 0 ? old.sa_handler : SIG_ERR;
}

void after_fork_in_child() {
  owner.store(getpid(), std::memory_order_relaxed);
  naming.thread.store(0, std::memory_order_relaxed);
  busy.store(false, std::memory_order_relaxed);
}

}  // namespace

NONREUSE_PUBLIC void nonreuse_watch_faults(Wants which, Namer name) {
  if (!make_stack()) return;
  libc_signal.get();
  libc_sysv_signal.get();
  {
    const Guard guard;
    owner.store(getpid(), std::memory_order_relaxed);
    struct sigaction before;
    if (real_sigaction(SIGSEGV, nullptr, &before) != 0) return;
    program_action = cleaned(before);
    wants = which;
    namer = name;
    watching.store(true, std::memory_order_release);
    install(program_action);
  }
  pthread_atfork(nullptr, nullptr, after_fork_in_child);
}

NONREUSE_PUBLIC int sigaction(int number, const struct sigaction* action, struct sigaction* old) noexcept {
  return is_ours(number) ? set_action(action, old) : real_sigaction(number, action, old);
}

NONREUSE_PUBLIC int __sigaction(int number, const struct sigaction* action, struct sigaction* old) noexcept {
  return sigaction(number, action, old);
}

// signal(3) in its several meanings. The C library's own do not call the interposed sigaction.
NONREUSE_PUBLIC sighandler_t signal(int number, sighandler_t handler) noexcept {
  if (is_ours(number)) return set_handler(handler, SA_RESTART);
  return libc_signal.get()(number, handler);
}
NONREUSE_PUBLIC sighandler_t bsd_signal(int number, sighandler_t handler) noexcept {
  return signal(number, handler);
}
NONREUSE_PUBLIC sighandler_t ssignal(int number, sighandler_t handler) noexcept {
  return signal(number, handler);
}
NONREUSE_PUBLIC sighandler_t __sysv_signal(int number, sighandler_t handler) noexcept {
  if (is_ours(number)) return set_handler(handler, SA_RESETHAND | SA_NODEFER);
  return libc_sysv_signal.get()(number, handler);
}
NONREUSE_PUBLIC sighandler_t sysv_signal(int number, sighandler_t handler) noexcept {
  return __sysv_signal(number, handler);
}
