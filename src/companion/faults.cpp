// Naming a use after free before the program, or the system, deals with the SIGSEGV.
//
// A handler of ours stands in front of the program's: sigaction(2) and its relatives are interposed, so that
// the program sees the handlers that it has set, and nothing of ours. The flags and the mask that the kernel
// is given are those of the program's handler, so that the alternate stack, nesting, and what is blocked are
// as it asked; only SA_RESETHAND is carried out here. After the fault was named its handler is called, or
// the default action is restored and the instruction runs again.
//
// A program that calls rt_sigaction(2) by itself replaces our handler; faults are then not named.
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <dlfcn.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define NONREUSE_PUBLIC extern "C" __attribute__((visibility("default")))

namespace {

using Sigaction = int (*)(int, const struct sigaction*, struct sigaction*);
using Signal = sighandler_t (*)(int, sighandler_t);
using Namer = void (*)(uint64_t address, uint64_t program_counter);

constinit std::atomic<Namer> namer{nullptr};  // set: our handler is in place
constinit struct sigaction program_action = {};
constinit std::atomic<bool> busy{false};  // guards program_action; its holder has every signal blocked
constinit std::atomic<int> owner{0};      // the process that the above belongs to; a child of vfork is none

template <class Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

int real_sigaction(int number, const struct sigaction* action, struct sigaction* old) {
  static constinit std::atomic<Sigaction> real{nullptr};
  Sigaction function = real.load(std::memory_order_relaxed);
  if (function == nullptr) {
    function = next<Sigaction>("sigaction");
    real.store(function, std::memory_order_relaxed);
  }
  return function(number, action, old);
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

uint64_t program_counter_of(const void* context) {
  const auto* machine = &static_cast<const ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
  return static_cast<uint64_t>(machine->gregs[REG_RIP]);
#elif defined(__aarch64__)
  return machine->pc;
#elif defined(__riscv)
  return machine->__gregs[REG_PC];
#else
  return machine == nullptr ? 0 : 0;
#endif
}

void restore_default(int number) {
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  real_sigaction(number, &action, nullptr);
}

void on_fault(int number, siginfo_t* info, void* context) {
  const int saved = errno;
  const bool is_fault = info->si_code > 0;
  if (const Namer name = namer.load(std::memory_order_acquire); name != nullptr && is_fault)
    name(static_cast<uint64_t>(reinterpret_cast<uintptr_t>(info->si_addr)), program_counter_of(context));
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
  return number == SIGSEGV && namer.load(std::memory_order_acquire) != nullptr;
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
    program_action = *action;
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
}

}  // namespace

NONREUSE_PUBLIC void nonreuse_watch_faults(Namer name) {
  {
    const Guard guard;
    owner.store(getpid(), std::memory_order_relaxed);
    if (real_sigaction(SIGSEGV, nullptr, &program_action) != 0) return;
    namer.store(name, std::memory_order_release);
    install(program_action);
  }
  pthread_atfork(nullptr, nullptr, after_fork_in_child);
}

NONREUSE_PUBLIC int sigaction(int number, const struct sigaction* action, struct sigaction* old) noexcept {
  return is_ours(number) ? set_action(action, old) : real_sigaction(number, action, old);
}

// signal(3) in its several meanings. The C library's own do not call the interposed sigaction.
NONREUSE_PUBLIC sighandler_t signal(int number, sighandler_t handler) noexcept {
  if (is_ours(number)) return set_handler(handler, SA_RESTART);
  return next<Signal>("signal")(number, handler);
}
NONREUSE_PUBLIC sighandler_t bsd_signal(int number, sighandler_t handler) noexcept {
  return signal(number, handler);
}
NONREUSE_PUBLIC sighandler_t ssignal(int number, sighandler_t handler) noexcept {
  return signal(number, handler);
}
NONREUSE_PUBLIC sighandler_t __sysv_signal(int number, sighandler_t handler) noexcept {
  if (is_ours(number)) return set_handler(handler, SA_RESETHAND | SA_NODEFER);
  return next<Signal>("__sysv_signal")(number, handler);
}
NONREUSE_PUBLIC sighandler_t sysv_signal(int number, sighandler_t handler) noexcept {
  return __sysv_signal(number, handler);
}
