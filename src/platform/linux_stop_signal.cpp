// Stopping threads by a signal, where tracing is not permitted.
//
// Each thread gets a real-time signal that the program does not use. Its handler copies the interrupted
// registers into the thread's entry and waits on a futex until the stop is over.
//
// The stop in progress is told by `generation`: odd while there is one. A handler that runs when there is
// none returns at once; one that is late joins the stop that is in progress now, if its thread is in the
// table. So a signal that a thread takes long after a time-out does no harm.
//
// Limits, all of them reasons to prefer the helper: system calls that no SA_RESTART covers return EINTR; a
// thread that blocks the signal makes the stop time out; one that waits for it in sigwait(3), as threads do
// that wait for every signal, gets to see it; a thread that is in execve(2) while another one stops the
// process can carry the signal into the new program.
#include <signal.h>
#include <sys/auxv.h>
#include <ucontext.h>

#if defined(__x86_64__)
#include <asm/prctl.h>
#endif

#include "platform/linux_emulator.hpp"
#include "platform/linux_stop.hpp"

#if defined(__x86_64__)
// rt_sigaction(2) wants a trampoline here. These very instructions, without a frame description: unwinders
// and debuggers know a signal frame by them.
__asm__(
    ".pushsection .text, \"ax\", @progbits\n"
    ".balign 16\n"
    "nop\n"  // unwinders look one byte before a return address
    ".globl nonreuse_return_from_stop_signal\n"
    ".hidden nonreuse_return_from_stop_signal\n"
    ".type nonreuse_return_from_stop_signal, @function\n"
    "nonreuse_return_from_stop_signal:\n"
    "mov $15, %rax\n"
    "syscall\n"
    ".size nonreuse_return_from_stop_signal, . - nonreuse_return_from_stop_signal\n"
    ".popsection\n");
extern "C" void nonreuse_return_from_stop_signal();
#endif

namespace nonreuse::stop {
namespace {

// struct sigaction of the kernel.
struct KernelAction {
  void (*handler)(int, siginfo_t*, void*);
  unsigned long flags;
#if !defined(__riscv)
  void (*restorer)();
#endif
  uint64_t mask;
};

// Written by one stop at a time, read by handlers.
struct SignalStop {
  uint32_t generation;  // odd: a stop is in progress. Futex word on which stopped threads wait
  uint32_t inside;      // handlers that may be using the area
  uint32_t answered;    // threads that have stopped. Futex word on which the caller waits
  uint32_t target;      // `answered` at which the caller wants to be woken
  StopArea* area;
  int signal;            // with our handler; 0: none yet
  bool left_unanswered;  // the last stop by signals timed out: signals may be queued still
};
SignalStop current;

// ---- In the handler ----

class RegisterWriter {
 public:
  NONREUSE_UNINSTRUMENTED RegisterWriter(uint64_t* to, size_t room) : to_(to), room_(room) {}
  NONREUSE_UNINSTRUMENTED void word(uint64_t value) {
    if (used_ < room_) to_[used_] = value;
    ++used_;
  }
  NONREUSE_UNINSTRUMENTED void block(const void* from, size_t bytes) {
    const auto* words = static_cast<const uint64_t*>(from);
    for (size_t i = 0; i < bytes / sizeof(uint64_t); ++i) {
      word(words[i]);
      __asm__ volatile("" ::: "memory");  // keeps this loop from becoming a call of memcpy
    }
  }
  NONREUSE_UNINSTRUMENTED size_t used() const { return used_; }
  NONREUSE_UNINSTRUMENTED bool complete() const { return used_ <= room_; }

 private:
  uint64_t* to_;
  size_t room_;
  size_t used_ = 0;
};

#if defined(__x86_64__)

NONREUSE_UNINSTRUMENTED void save_registers(StopEntry& entry, RegisterWriter& out,
                                            const ucontext_t& context) {
  constexpr uintptr_t kRedZone = 128;
  entry.stack_pointer = static_cast<uintptr_t>(context.uc_mcontext.gregs[REG_RSP]) - kRedZone;
  uintptr_t self;
  __asm__("mov %%fs:0, %0" : "=r"(self));  // the ABI keeps the thread pointer there (ELF TLS, variant II)
  entry.thread_pointer = self;
  uint64_t gs = 0;
  sys::call(SYS_arch_prctl, ARCH_GET_GS, &gs);
  out.word(self);
  out.word(gs);
  out.block(context.uc_mcontext.gregs, sizeof context.uc_mcontext.gregs);
  // struct _fpstate: 512 bytes of FXSAVE, whose last 48 say how large the whole XSAVE area is.
  const auto* state = reinterpret_cast<const char*>(context.uc_mcontext.fpregs);
  if (state == nullptr) return;
  constexpr size_t kLegacyBytes = 512, kMagicAt = 464, kSizeAt = kMagicAt + 16;
  constexpr uint32_t kMagic = 0x46505853;
  const bool extended = *reinterpret_cast<const uint32_t*>(state + kMagicAt) == kMagic;
  out.block(state, extended ? *reinterpret_cast<const uint32_t*>(state + kSizeAt) : kLegacyBytes);
}

#elif defined(__aarch64__)

NONREUSE_UNINSTRUMENTED void save_registers(StopEntry& entry, RegisterWriter& out,
                                            const ucontext_t& context) {
  const mcontext_t& machine = context.uc_mcontext;
  entry.stack_pointer = machine.sp;
  entry.thread_pointer = reinterpret_cast<uintptr_t>(__builtin_thread_pointer());
  out.word(entry.thread_pointer);
  out.block(machine.regs, sizeof machine.regs);
  // Records {magic, size, …} until one with magic 0; an extra record names a further block of such.
  struct Record {
    uint32_t magic, size;
    uint64_t extra_data;
    uint32_t extra_size;
  };
  constexpr uint32_t kExtra = 0x45585401;
  const auto* at = reinterpret_cast<const char*>(machine.__reserved);
  const char* end = at + sizeof machine.__reserved;
  while (at + sizeof(Record) <= end) {
    const auto* record = reinterpret_cast<const Record*>(at);
    if (record->magic == 0 || record->size < 16) break;
    out.block(at, record->size);
    if (record->magic == kExtra) {
      out.block(reinterpret_cast<const void*>(record->extra_data), record->extra_size);
    }
    at += record->size;
  }
}

#else

NONREUSE_UNINSTRUMENTED void save_registers(StopEntry& entry, RegisterWriter& out,
                                            const ucontext_t& context) {
  const mcontext_t& machine = context.uc_mcontext;
  entry.stack_pointer = machine.__gregs[REG_SP];
  entry.thread_pointer = reinterpret_cast<uintptr_t>(__builtin_thread_pointer());
  out.word(entry.thread_pointer);
  out.block(machine.__gregs, sizeof machine.__gregs);
  out.block(&machine.__fpregs, sizeof machine.__fpregs & ~size_t{7});
  // qemu's frames end here, and vector registers are not in them; what lies behind is somebody's stack.
  if (emulator::present()) return;
  // Behind the floating-point state: records {magic, size, …}, the vector state being one, until magic 0.
  struct Header {
    uint32_t magic, size;
  };
  constexpr size_t kHeaderAt = 520;  // struct __riscv_extra_ext_header
  const auto* at = reinterpret_cast<const char*>(&machine.__fpregs) + kHeaderAt;
  for (unsigned records = 0; records < 8; ++records) {
    const auto* header = reinterpret_cast<const Header*>(at);
    if (header->magic == 0 || header->size < sizeof(Header)) break;
    out.block(at, header->size);
    at += header->size;
  }
}

#endif

// True when this thread now counts as stopped in the stop in progress.
NONREUSE_UNINSTRUMENTED bool join_stop(StopArea& area, const ucontext_t& context) {
  const int self = static_cast<int>(sys::call(SYS_gettid));
  const size_t count = load(&area.entry_count);
  for (size_t i = 0; i < count; ++i) {
    StopEntry& entry = area.entries[i];
    if (__atomic_load_n(&entry.tid, __ATOMIC_RELAXED) != self) continue;
    if (!replace(&entry.state, uint32_t{kSignalled}, uint32_t{kSaving})) continue;
    RegisterWriter out(area.words(i), area.register_words);
    save_registers(entry, out, context);
    entry.register_count = out.complete() ? static_cast<uint32_t>(out.used()) : 0;
    store(&entry.state, uint32_t{kStopped});
    return true;
  }
  return false;
}

NONREUSE_UNINSTRUMENTED void on_stop_signal(int, siginfo_t*, void* context) {
  // Counted before `generation` is read, while the caller changes `generation` before it reads the count:
  // either we see that the stop is over, or the caller sees us and leaves the area alone.
  __atomic_fetch_add(&current.inside, 1, __ATOMIC_SEQ_CST);
  const uint32_t generation = load(&current.generation);
  bool joined = false;
  if ((generation & 1) != 0) {
    joined = join_stop(*load(&current.area), *static_cast<const ucontext_t*>(context));
  }
  // Before the caller is woken: a thread that loses the processor right then must not hold up the next stop.
  __atomic_fetch_sub(&current.inside, 1, __ATOMIC_SEQ_CST);
  if (joined) {
    const uint32_t answered = __atomic_add_fetch(&current.answered, 1, __ATOMIC_SEQ_CST);
    if (answered >= load(&current.target)) futex_wake(&current.answered);
  }
  while (joined && load(&current.generation) == generation) {
    sys::call(SYS_futex, &current.generation, FUTEX_WAIT, generation, nullptr);
  }
}

// ---- In the caller ----

NONREUSE_UNINSTRUMENTED bool query(int signal, KernelAction& action) {
  return !sys::failed(sys::call(SYS_rt_sigaction, signal, nullptr, &action, kSignalSetBytes));
}

NONREUSE_UNINSTRUMENTED bool install(int signal) {
  KernelAction action;
  action.handler = on_stop_signal;
  // SA_ONSTACK: a thread with an alternate stack may be running on a very small stack of its own making (Go's
  // goroutines; runtimes of that kind demand the flag), while without an alternate stack the flag changes
  // nothing. The signal frame takes up to some KiB with wide vectors, our handler a few hundred bytes.
  action.flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
#if defined(__x86_64__)
  constexpr unsigned long kHasRestorer = 0x04000000;
  action.flags |= kHasRestorer;
  action.restorer = nonreuse_return_from_stop_signal;
#elif defined(__aarch64__)
  action.restorer = nullptr;
#endif
  // Nothing of the program's runs while its thread counts as stopped. SIGSYS stays open: sandboxes emulate
  // system calls in its handler, and blocked it would kill.
  action.mask = kAllSignals & ~(uint64_t{1} << (SIGSYS - 1));
  return !sys::failed(sys::call(SYS_rt_sigaction, signal, &action, nullptr, kSignalSetBytes));
}

// A signal with our handler on it, or 0. What the program has installed meanwhile is left to it.
NONREUSE_UNINSTRUMENTED int acquire_signal() {
  KernelAction action;
  if (current.signal != 0 && query(current.signal, action) && action.handler == on_stop_signal) {
    return current.signal;
  }
  current.signal = 0;
  // A thread that is asked to stop while it calls execve(2) takes the signal along into the new program,
  // which has no handler for it: SIGURG is ignored there, where a real-time signal would end it. Where the
  // program handles SIGURG itself, from the top, where programs that count from SIGRTMIN seldom get to, the
  // last one tried last. Below 35 C libraries have their own.
  constexpr int kHighest = 64, kLowest = 35;
  for (int step = -1; step <= kHighest - kLowest; ++step) {
    const int signal = step < 0 ? SIGURG : step == kHighest - kLowest ? kHighest : kHighest - 1 - step;
    if (!query(signal, action) || action.handler != nullptr) continue;
    if (!install(signal)) continue;
    current.signal = signal;
    break;
  }
  return current.signal;
}

// Asks one listed thread to stop. 0 or -errno.
NONREUSE_UNINSTRUMENTED long ask_to_stop(const StopArea& area, StopEntry& entry, int signal) {
  store(&entry.state, uint32_t{kSignalled});  // first: the handler may run at once
  // Real-time signals would queue up: do not add another one for a thread that blocks them.
  if (current.left_unanswered && TaskList::is_pending(area.process, entry.tid, signal)) return 0;
  const long result = sys::call(SYS_tgkill, area.process, entry.tid, signal);
  if (result == -ESRCH) replace(&entry.state, uint32_t{kSignalled}, uint32_t{kGone});
  return result == -ESRCH ? 0 : result;
}

struct Tally {
  uint32_t waiting;  // not in the handler yet, or not done saving
  bool incomplete;
};

NONREUSE_UNINSTRUMENTED Tally count_answers(const StopArea& area) {
  Tally tally{0, false};
  for (size_t i = 0; i < area.entry_count; ++i) {
    const uint32_t state = load(&area.entries[i].state);
    if (state == kSignalled || state == kSaving) ++tally.waiting;
    if (state == kStopped && area.entries[i].register_count == 0) tally.incomplete = true;
  }
  return tally;
}

// Crosses out threads that have ended instead of answering. Zombies take a file to recognise: the leader,
// which stays one for as long as the process lives, is looked at often, the others (in a debugger's hands)
// seldom.
NONREUSE_UNINSTRUMENTED void look_for_ended(const StopArea& area, unsigned round) {
  for (size_t i = 0; i < area.entry_count; ++i) {
    StopEntry& entry = area.entries[i];
    if (load(&entry.state) != kSignalled) continue;
    if (sys::call(SYS_tgkill, area.process, entry.tid, 0) == -ESRCH) {
      replace(&entry.state, uint32_t{kSignalled}, uint32_t{kGone});
    } else if (round % (entry.tid == area.process ? 4 : 64) == 0) {
      const char state = TaskList::state_of(area.process, entry.tid);
      if (state == 'Z') replace(&entry.state, uint32_t{kSignalled}, uint32_t{kZombie});
    }
  }
}

NONREUSE_UNINSTRUMENTED StopOutcome await_answers(const StopArea& area) {
  for (unsigned round = 0;; ++round) {
    const uint32_t answered = load(&current.answered);
    const Tally tally = count_answers(area);
    if (tally.incomplete) return StopOutcome::refused;
    if (tally.waiting == 0) return StopOutcome::stopped;
    if (now_ns() >= area.deadline_ns) return StopOutcome::timed_out;
    // An answer between the count and this store wakes nobody; the wait is short for such cases.
    store(&current.target, answered + tally.waiting);
    futex_wait(&current.answered, answered, (round < 8 ? 200 : 1000) * kMicrosecond);
    if (load(&current.answered) == answered) look_for_ended(area, round);
  }
}

NONREUSE_UNINSTRUMENTED StopOutcome stop_all(StopArea& area, TaskList& tasks, int signal) {
  for (;;) {
    const TaskList::Pass pass = tasks.read(area);
    if (pass.table_full) return StopOutcome::table_full;
    if (pass.error != 0) return outcome_of_error(pass.error);
    for (size_t i = 0; i < area.entry_count; ++i) {
      if (load(&area.entries[i].state) != kFresh) continue;
      const long result = ask_to_stop(area, area.entries[i], signal);
      // EAGAIN: the queue of signals is full (RLIMIT_SIGPENDING).
      if (result != 0) return result == -EAGAIN ? StopOutcome::timed_out : StopOutcome::refused;
    }
    const StopOutcome outcome = await_answers(area);
    if (outcome != StopOutcome::stopped) return outcome;
    const TaskList::Completeness completeness = tasks.compare_with_count(area);
    if (completeness == TaskList::Completeness::complete) return StopOutcome::stopped;
    if (completeness == TaskList::Completeness::cannot_be_told) return StopOutcome::refused;
    if (now_ns() >= area.deadline_ns) return StopOutcome::timed_out;
    if (pass.fresh == 0) sys::call(SYS_sched_yield);  // for the threads that are ending
  }
}

// A change of user may be what the threads wait for: in musl they block every signal until all have come.
NONREUSE_UNINSTRUMENTED void pause_between_tries(uint64_t nanoseconds) {
  const uint64_t change_of_user = uint64_t{1} << (sys::kChangeOfUser - 1);
  sys::call(SYS_rt_sigprocmask, SIG_UNBLOCK, &change_of_user, nullptr, kSignalSetBytes);
  sleep_ns(nanoseconds);
  sys::call(SYS_rt_sigprocmask, SIG_BLOCK, &change_of_user, nullptr, kSignalSetBytes);
}

// One try; the deadline is the area's.
NONREUSE_UNINSTRUMENTED StopOutcome try_stop(StopArea& area) {
  const int signal = acquire_signal();
  if (signal == 0) return StopOutcome::refused;
  TaskList tasks;
  const long opened = tasks.open(area.process);
  if (opened != 0) return outcome_of_error(opened);
  area.entry_count = 0;
  store(&current.area, &area);
  store(&current.answered, uint32_t{0});
  store(&current.target, ~uint32_t{0});
  __atomic_fetch_add(&current.generation, 1, __ATOMIC_SEQ_CST);
  const StopOutcome outcome = stop_all(area, tasks, signal);
  tasks.close();
  current.left_unanswered = outcome != StopOutcome::stopped;
  if (outcome != StopOutcome::stopped) resume_from_signal();
  return outcome;
}

}  // namespace

NONREUSE_UNINSTRUMENTED StopOutcome stop_by_signal(StopArea& area) {
  // A thread that blocks signals may wait for a lock whose holder stands still: one that is ending waits for
  // the C library's list of stacks, say. So a stop that takes long is given up, which lets such threads go
  // on, and tried again, with more time each, and more between them: the queue of signals may be full, which
  // ends a try at once.
  const uint64_t deadline_ns = area.deadline_ns;
  StopOutcome outcome = StopOutcome::timed_out;
  for (uint64_t patience = 20 * kMillisecond;; patience *= 2) {
    const uint64_t now = now_ns();
    area.deadline_ns = now < deadline_ns && deadline_ns - now > patience ? now + patience : deadline_ns;
    outcome = try_stop(area);
    if (outcome != StopOutcome::timed_out) break;
    const uint64_t pause = patience / 20, ended = now_ns();
    const uint64_t left = ended < deadline_ns ? deadline_ns - ended : 0;
    pause_between_tries(pause < left ? pause : left);
    if (now_ns() >= deadline_ns || !handlers_have_left(deadline_ns)) break;
  }
  area.deadline_ns = deadline_ns;
  return outcome;
}

NONREUSE_UNINSTRUMENTED void resume_from_signal() {
  __atomic_fetch_add(&current.generation, 1, __ATOMIC_SEQ_CST);
  futex_wake(&current.generation);
}

NONREUSE_UNINSTRUMENTED bool handlers_have_left(uint64_t deadline_ns) {
  for (unsigned round = 0; load(&current.inside) != 0; ++round) {
    if (now_ns() >= deadline_ns) return false;
    if (round < 64) {
      sys::call(SYS_sched_yield);
    } else {
      sleep_ns(100 * kMicrosecond);
    }
  }
  return true;
}

NONREUSE_UNINSTRUMENTED void forget_signal_stop() {
  if ((load(&current.generation) & 1) != 0) resume_from_signal();
  store(&current.inside, uint32_t{0});
  store(&current.area, static_cast<StopArea*>(nullptr));
  current.left_unanswered = false;  // signals that wait are not inherited
}

}  // namespace nonreuse::stop
