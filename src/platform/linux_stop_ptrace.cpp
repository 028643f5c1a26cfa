// Stopping threads by a ptrace helper.
//
// The helper is a process of its own (a thread may not trace its siblings) that shares our memory. It seizes
// and interrupts every thread but the caller, reads their registers into the area, tells the caller, and
// holds them until told to let go. Whatever ends the helper, the kernel then releases the threads.
//
// The helper runs on the caller's TLS (the thread pointer is inherited), so it uses system calls alone: no
// errno, no libc. It cannot be waited for by accident: having no exit signal it is seen by __WALL and
// __WCLONE only. It has a table of file descriptors of its own, so that the descriptors it opens never take a
// number that a thread of the program is about to get.
#include <elf.h>
#include <linux/ptrace.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "platform/linux_spawn.hpp"
#include "platform/linux_stop.hpp"

namespace nonreuse::stop {
namespace {

constexpr uint64_t kGrace = 200 * kMillisecond;  // for the helper to give up by itself
constexpr long kCloseRange = 436;                // the same number on every architecture
constexpr unsigned kCloseRangeUnshare = 2;
constexpr int kEventShift = 8;  // a ptrace event in si_status stands above the signal

// ---- In the helper ----

// Appends one register set of the stopped thread to its words. True also where the kernel has no such set;
// false where it could not be read in full.
NONREUSE_UNINSTRUMENTED bool append_set(const StopArea& area, size_t index, unsigned set, bool must_exist) {
  StopEntry& entry = area.entries[index];
  uint64_t* to = area.words(index) + entry.register_count;
  const size_t room = (area.register_words - entry.register_count) * sizeof(uint64_t);
  iovec vector;
  vector.iov_base = to;
  vector.iov_len = room;
  const long result = sys::call(SYS_ptrace, PTRACE_GETREGSET, entry.tid, static_cast<long>(set), &vector);
  if (sys::failed(result)) return !must_exist && (result == -EINVAL || result == -ENODEV || result == -EIO);
  if (vector.iov_len == 0) return !must_exist;
  if (vector.iov_len >= room) return false;  // may have been cut short
  entry.register_count += static_cast<uint32_t>((vector.iov_len + sizeof(uint64_t) - 1) / sizeof(uint64_t));
  return true;
}

NONREUSE_UNINSTRUMENTED bool read_registers(const StopArea& area, size_t index) {
  StopEntry& entry = area.entries[index];
  const uint64_t* words = area.words(index);
  entry.register_count = 0;
  if (!append_set(area, index, NT_PRSTATUS, true)) return false;
#if defined(__x86_64__)
  constexpr size_t kStackPointer = 19, kFsBase = 21;  // struct user_regs_struct
  constexpr size_t kRedZone = 128;
  entry.stack_pointer = words[kStackPointer] - kRedZone;
  entry.thread_pointer = words[kFsBase];
  const uint32_t general = entry.register_count;
  if (!append_set(area, index, NT_X86_XSTATE, false)) return false;
  return entry.register_count > general || append_set(area, index, NT_PRFPREG, true);
#elif defined(__aarch64__)
  constexpr size_t kStackPointer = 31;  // struct user_pt_regs
  entry.stack_pointer = words[kStackPointer];
  const uint32_t general = entry.register_count;
  if (!append_set(area, index, NT_ARM_TLS, true)) return false;
  entry.thread_pointer = words[general];
  return append_set(area, index, NT_PRFPREG, true) && append_set(area, index, NT_ARM_SVE, false);
#else
  constexpr size_t kStackPointer = 2, kThreadPointer = 4;  // struct user_regs_struct: pc, ra, sp, gp, tp
  constexpr unsigned kVectorSet = 0x901;                   // NT_RISCV_VECTOR
  entry.stack_pointer = words[kStackPointer];
  entry.thread_pointer = words[kThreadPointer];
  return append_set(area, index, NT_PRFPREG, false) && append_set(area, index, kVectorSet, false);
#endif
}

// Waits for the caller's next command.
NONREUSE_UNINSTRUMENTED uint32_t await_command(const StopArea& area, uint32_t known) {
  for (;;) {
    const uint32_t command = load(&area.command);
    if (command != known) return command;
    // A lost wake is not expected; the bound is there so that a helper without its process ends.
    futex_wait(&area.command, known, 1000 * kMillisecond);
    if (sys::call(SYS_getppid) != area.process) return kResume;
  }
}

// Under Yama's ptrace_scope 1 a process is traced by its ancestors, and by whom it names with PR_SET_PTRACER;
// only the caller can name its helper. There is one name, and no way to read it.
NONREUSE_UNINSTRUMENTED bool ask_for_permission(StopArea& area) {
  if (load(&area.command) != kGo) return false;  // has been asked
  if (!area.may_ask) {
    area.permission_missing = true;
    return false;
  }
  store(&area.phase, uint32_t{kHelperAsksForPermission});
  futex_wake(&area.phase);
  return await_command(area, kGo) == kPermissionGiven;
}

enum class Step { done, refused, timed_out, lacking };

// Takes one listed thread and asks it to stop.
NONREUSE_UNINSTRUMENTED Step seize(StopArea& area, const TaskList& tasks, StopEntry& entry) {
  for (;;) {
    const long result = sys::call(SYS_ptrace, PTRACE_SEIZE, entry.tid, nullptr, nullptr);
    if (result == 0) break;
    if (result == -ESRCH) {
      entry.state = kGone;
      return Step::done;
    }
    if (result != -EPERM) return sys::may_pass(result) ? Step::lacking : Step::refused;
    // A thread that has ended is refused with EPERM, too.
    const char state = TaskList::state_of(area.process, entry.tid);
    if (state == 'Z' || state == 'X' || state == '\0') {
      entry.state = state == 'Z' ? kZombie : kGone;
      return Step::done;
    }
    if (!ask_for_permission(area)) return Step::refused;
  }
  // Seized, its number cannot be used anew any more: look whether it is the thread that was listed.
  if (!tasks.has(entry.tid)) return Step::refused;
  sys::call(SYS_ptrace, PTRACE_INTERRUPT, entry.tid, nullptr,
            nullptr);  // fails where it is ending: seen later
  entry.state = kSignalled;
  return Step::done;
}

// Sleeps until a traced thread changes (SIGCHLD, which is blocked and queued) or a while has passed.
NONREUSE_UNINSTRUMENTED void await_change(unsigned round) {
  constexpr unsigned kYields = 4;
  if (round < kYields) {
    sys::call(SYS_sched_yield);
    return;
  }
  const uint64_t set = uint64_t{1} << (SIGCHLD - 1);
  const timespec while_ = to_timespec((round < 16 ? 50 : 500) * kMicrosecond);
  siginfo_t info;
  sys::call(SYS_rt_sigtimedwait, &set, &info, &while_, kSignalSetBytes);
}

// Waits for one interrupted thread to stop, and reads it.
NONREUSE_UNINSTRUMENTED Step await_stop(const StopArea& area, size_t index) {
  StopEntry& entry = area.entries[index];
  for (unsigned round = 0;; ++round) {
    siginfo_t info;
    info.si_pid = 0;
    // WNOWAIT leaves a signal that the thread is about to take where it is: should this helper be killed, the
    // kernel still delivers it.
    const long result = sys::call(SYS_waitid, P_PID, entry.tid, &info,
                                  WEXITED | WSTOPPED | WNOHANG | WNOWAIT | __WALL, nullptr);
    if (result == -ECHILD) {
      entry.state = kGone;
      return Step::done;
    }
    if (sys::failed(result) && result != -EINTR) return Step::refused;
    if (result == 0 && info.si_pid != 0) {
      if (info.si_code == CLD_TRAPPED || info.si_code == CLD_STOPPED) {
        // An event (our interrupt, or a group stop under way) or a signal about to be delivered. In the
        // latter case the thread stands still as well, and gets the signal when it is released.
        entry.held_signal = info.si_status >> kEventShift == 0 ? info.si_status : 0;
        entry.state = kStopped;
        return read_registers(area, index) ? Step::done : Step::refused;
      }
      int status = 0;
      sys::call(SYS_wait4, entry.tid, &status, WNOHANG | __WALL, nullptr);
      entry.state = kGone;
      return Step::done;
    }
    // A leader that ends before the other threads reports nothing until they have ended.
    if (round % 32 == 31 && TaskList::state_of(area.process, entry.tid) == 'Z') {
      entry.state = kZombie;
      return Step::done;
    }
    if (now_ns() >= area.deadline_ns) return Step::timed_out;
    await_change(round);
  }
}

NONREUSE_UNINSTRUMENTED StopOutcome to_outcome(Step step) {
  if (step == Step::lacking) return StopOutcome::lacking;
  return step == Step::timed_out ? StopOutcome::timed_out : StopOutcome::refused;
}

NONREUSE_UNINSTRUMENTED StopOutcome stop_all(StopArea& area, TaskList& tasks) {
  for (;;) {
    const TaskList::Pass pass = tasks.read(area);
    if (pass.table_full) return StopOutcome::table_full;
    if (pass.error != 0) return outcome_of_error(pass.error);
    for (size_t i = 0; i < area.entry_count; ++i) {
      if (area.entries[i].state != kFresh) continue;
      const Step step = seize(area, tasks, area.entries[i]);
      if (step != Step::done) return to_outcome(step);
    }
    for (size_t i = 0; i < area.entry_count; ++i) {
      if (area.entries[i].state != kSignalled) continue;
      const Step step = await_stop(area, i);
      if (step != Step::done) return to_outcome(step);
    }
    const TaskList::Completeness completeness = tasks.compare_with_count(area);
    if (completeness == TaskList::Completeness::complete) return StopOutcome::stopped;
    if (completeness == TaskList::Completeness::cannot_be_told) return StopOutcome::refused;
    if (now_ns() >= area.deadline_ns) return StopOutcome::timed_out;
    if (pass.fresh == 0) sys::call(SYS_sched_yield);  // for the threads that are ending
  }
}

// Gives back the signals that stops have taken. All other threads are released by the helper's end: the
// kernel lets go of them in the same step in which the helper becomes a zombie, so that they resume together,
// and no resumed thread keeps the helper from the processor while the caller waits for its end. (The kernel
// would deliver the signals then, too: ptrace(2), "Attaching and detaching". Said by us, it needs no trust.)
NONREUSE_UNINSTRUMENTED void give_signals_back(StopArea& area) {
  for (size_t i = 0; i < area.entry_count; ++i) {
    const StopEntry& entry = area.entries[i];
    if (entry.state != kStopped || entry.held_signal == 0) continue;
    sys::call(SYS_ptrace, PTRACE_DETACH, entry.tid, nullptr, static_cast<long>(entry.held_signal));
  }
}

// SIGCHLD is to be queued for us, whatever the program does with its own.
NONREUSE_UNINSTRUMENTED void take_default_action(int signal) {
  uint64_t action[4];  // handler, flags, restorer or mask, mask
  for (uint64_t& word : action) *static_cast<volatile uint64_t*>(&word) = 0;
  sys::call(SYS_rt_sigaction, signal, action, nullptr, kSignalSetBytes);
}

// The kernel kills the helper when its caller ends: the thread, whatever becomes of the process. Where
// another thread calls execve(2), the caller may have ended before that took effect, the process lives on
// under the same number, and nobody would ever tell the helper to let go. So the caller has to say that it is
// there.
NONREUSE_UNINSTRUMENTED bool tied_to_caller(StopArea& area) {
  constexpr uint64_t kPatience = 500 * kMillisecond, kWatch = 500 * kMicrosecond;
  store(&area.phase, uint32_t{kHelperAsksWhetherToGo});
  futex_wake(&area.phase);
  const uint64_t begin = now_ns();
  while (load(&area.command) != kGo) {
    const uint64_t waited = now_ns() - begin;
    if (waited > kPatience) return false;
    if (waited < kWatch)
      relax();
    else
      futex_wait(&area.command, kNoCommand, kPatience - waited);
  }
  return true;
}

NONREUSE_UNINSTRUMENTED long helper_main(void* argument) {
  auto* area = static_cast<StopArea*>(argument);
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &kAllSignals, nullptr, kSignalSetBytes);
  sys::call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  take_default_action(SIGCHLD);
  // An empty table of our own, without copying (and later closing) what the program has open; where the
  // kernel is too old, a copy.
  if (sys::failed(sys::call(kCloseRange, 0u, ~0u, kCloseRangeUnshare))) {
    const long alone = sys::call(SYS_unshare, CLONE_FILES);
    if (sys::failed(alone)) {
      area->outcome = outcome_of_error(alone);
      return 0;
    }
  }
  TaskList tasks;
  const long opened = tasks.open(area->process);
  if (opened != 0) {
    area->outcome = outcome_of_error(opened);
    return 0;
  }
  if (!tied_to_caller(*area)) return 0;
  if (area->began_ns == 0) area->began_ns = now_ns();
  const StopOutcome outcome = stop_all(*area, tasks);
  tasks.close();
  area->outcome = outcome;
  if (outcome == StopOutcome::stopped) {
    const uint32_t command = load(&area->command);
    store(&area->phase, uint32_t{kHelperHolds});
    futex_wake(&area->phase);
    await_command(*area, command);
  }
  give_signals_back(*area);
  area->released_ns = now_ns();  // about: they are when this process has ended
  return 0;
}

// ---- In the caller ----

// Before Linux 5.16 a seccomp filter that kills the helper would write a core dump, for which the kernel ends
// every process that shares the memory. So: no helper under a filter on such a kernel.
NONREUSE_UNINSTRUMENTED bool filter_may_kill_us() {
  constexpr long kFilterMode = 2;
  if (sys::call(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0, 0) != kFilterMode) return false;
  utsname name;
  if (sys::failed(sys::call(SYS_uname, &name))) return true;
  const char* at = name.release;
  int major = 0, minor = 0;
  for (; *at >= '0' && *at <= '9'; ++at) major = major * 10 + (*at - '0');
  if (*at == '.') ++at;
  for (; *at >= '0' && *at <= '9'; ++at) minor = minor * 10 + (*at - '0');
  return major < 5 || (major == 5 && minor < 16);
}

// Takes the helper's exit status, if it has ended or waiting for that is asked for. True when there is no
// helper left.
NONREUSE_UNINSTRUMENTED bool reaped(StopArea& area, int options = WNOHANG) {
  if (area.helper == 0) return true;
  int status = 0;
  const long result = sys::call(SYS_wait4, area.helper, &status, options | __WALL, nullptr);
  if (result == 0 || result == -EINTR) return false;
  // ECHILD: the program itself waits with __WALL and was faster.
  if (result == area.helper && WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) {
    area.helper_was_killed = true;
  }
  area.helper = 0;
  return true;
}

// Watches the helper end for a moment without giving up the processor: on a busy machine, the threads that
// run again would keep it for a time slice or more.
NONREUSE_UNINSTRUMENTED bool reaped_while_watching(StopArea& area) {
  constexpr uint64_t kPatience = 150 * kMicrosecond;
  const uint64_t until = now_ns() + kPatience;
  do {
    if (load(&area.phase) == kHelperEnded && reaped(area)) return true;
    relax();
  } while (now_ns() < until);
  return false;
}

// Waits for the helper's end, which is near; kills one that does not come to it. Gives up after a second
// more: what is left is reaped before the next stop.
NONREUSE_UNINSTRUMENTED void reap(StopArea& area) {
  constexpr uint64_t kSlice = 20 * kMillisecond;
  constexpr unsigned kKillAfter = 50, kGiveUpAfter = 100;
  for (unsigned round = 0; round < kGiveUpAfter; ++round) {
    const uint32_t phase = load(&area.phase);
    // Having written its end, the helper runs no more code of ours and cannot be held up: wait without bound.
    if (phase == kHelperEnded) {
      while (!reaped(area, 0)) {
      }
      return;
    }
    futex_wait(&area.phase, phase, kSlice);
    if (load(&area.phase) == phase && reaped(area)) return;
    if (round == kKillAfter) sys::call(SYS_kill, area.helper, SIGKILL);
  }
}

NONREUSE_UNINSTRUMENTED void withdraw_permission(StopArea& area) {
  if (!area.permission_set) return;
  area.permission_set = false;
  sys::call(SYS_prctl, PR_SET_PTRACER, 0, 0, 0, 0);
}

NONREUSE_UNINSTRUMENTED void answer_permission(StopArea& area) {
  area.permission_set = !sys::failed(sys::call(SYS_prctl, PR_SET_PTRACER, area.helper, 0, 0, 0));
  replace(&area.phase, uint32_t{kHelperAsksForPermission}, uint32_t{kHelperWorking});
  store(&area.command, uint32_t{area.permission_set ? kPermissionGiven : kPermissionNotGiven});
  futex_wake(&area.command);
}

// Waits until the helper holds all threads (true) or is gone, or as good as that.
NONREUSE_UNINSTRUMENTED bool await_helper(StopArea& area) {
  const uint64_t patience = area.deadline_ns < ~kGrace ? area.deadline_ns + kGrace : area.deadline_ns;
  const uint64_t watch_until = now_ns() + 50 * kMicrosecond;
  for (;;) {
    const uint32_t phase = load(&area.phase);
    if (phase == kHelperHolds) return true;
    if (phase == kHelperEnded) return false;
    if (phase == kHelperAsksWhetherToGo) {
      // Not a plain store: the kernel may have written the helper's end meanwhile.
      replace(&area.phase, uint32_t{kHelperAsksWhetherToGo}, uint32_t{kHelperWorking});
      store(&area.command, uint32_t{kGo});
      futex_wake(&area.command);
      continue;
    }
    if (phase == kHelperAsksForPermission) {
      answer_permission(area);
      continue;
    }
    if (now_ns() < watch_until) {  // its first question comes at once
      relax();
      continue;
    }
    futex_wait(&area.phase, phase, 20 * kMillisecond);
    if (load(&area.phase) != phase) continue;
    if (reaped(area)) return false;
    if (now_ns() < patience) continue;
    sys::call(SYS_kill, area.helper, SIGKILL);
    area.outcome = StopOutcome::timed_out;
    return false;
  }
}

// Starts the helper. `stopped` where that worked; nobody is stopped yet.
NONREUSE_UNINSTRUMENTED StopOutcome start_helper(StopArea& area) {
  if (filter_may_kill_us() || !sys::children_stay_in_namespace()) return StopOutcome::refused;
  area.outcome = StopOutcome::lacking;  // until the helper says more: something may end it before
  area.helper_was_killed = false;
  area.permission_missing = false;
  store(&area.command, uint32_t{kNoCommand});
  store(&area.phase, uint32_t{kHelperWorking});

  // The helper inherits the mask: it shall take no signal. But SIGSYS, which a sandbox may answer clone(2)
  // with, would end the process if it were blocked here: the helper blocks that itself.
  const uint64_t all_but_sigsys = kAllSignals & ~(uint64_t{1} << (SIGSYS - 1));
  uint64_t before = 0;
  sys::call(SYS_rt_sigprocmask, SIG_BLOCK, &all_but_sigsys, &before, kSignalSetBytes);
  const long helper = sys::spawn_sharing_memory(helper_main, &area,
                                                {area.helper_stack_top, sys::kCallersThread, &area.phase});
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &before, nullptr, kSignalSetBytes);
  if (sys::failed(helper)) return outcome_of_error(helper);
  area.helper = static_cast<int>(helper);
  return StopOutcome::stopped;
}

}  // namespace

NONREUSE_UNINSTRUMENTED void prepare_for_ptrace(StopArea& area) {
  constexpr uint64_t kPatience = 20 * kMillisecond;
  if (start_helper(area) != StopOutcome::stopped) return;
  const uint64_t until = now_ns() + kPatience;
  while (load(&area.phase) == kHelperWorking && now_ns() < until) {
    futex_wait(&area.phase, kHelperWorking, kPatience);
  }
}

NONREUSE_UNINSTRUMENTED bool helper_has_left(StopArea& area) {
  return reaped(area);
}

NONREUSE_UNINSTRUMENTED StopOutcome stop_by_ptrace(StopArea& area) {
  // One that was made ready and is gone (it waits for half a second) is replaced.
  if (area.helper != 0 && load(&area.phase) == kHelperEnded) {
    reap(area);
    if (area.helper_was_killed) return StopOutcome::refused;
  }
  if (area.helper == 0) {
    const StopOutcome started = start_helper(area);
    if (started != StopOutcome::stopped) return started;
  }
  if (await_helper(area)) return StopOutcome::stopped;
  reap(area);
  withdraw_permission(area);
  if (area.helper_was_killed) return StopOutcome::refused;
  // Killed by something else: by who lacks memory, say.
  return area.outcome == StopOutcome::stopped ? StopOutcome::lacking : area.outcome;
}

NONREUSE_UNINSTRUMENTED bool resume_from_ptrace(StopArea& area) {
  // The kernel writes the helper's end before it releases the threads, so this tells whether they were held.
  const bool held = load(&area.phase) == kHelperHolds;
  area.released_ns = 0;
  store(&area.command, uint32_t{kResume});
  futex_wake(&area.command);
  if (reaped_while_watching(area)) {
    // The threads run since the helper has ended, a moment after its word; who looks much later has waited
    // for a processor meanwhile.
    constexpr uint64_t kMoment = 100 * kMicrosecond;
    const uint64_t now = now_ns();
    if (area.released_ns != 0 && now - area.released_ns < kMoment) area.released_ns = now;
  } else {
    reap(area);
  }
  withdraw_permission(area);
  return held;
}

}  // namespace nonreuse::stop
