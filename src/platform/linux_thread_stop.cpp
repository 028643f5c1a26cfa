// ThreadStopper on Linux: the thread list, the memory, and the choice between the two mechanisms.
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <initializer_list>

#include "platform/linux_emulator.hpp"
#include "platform/linux_stop.hpp"

namespace nonreuse {
namespace {

using namespace stop;

constexpr size_t kHelperStack = 64 * 1024;  // a multiple of every page size
constexpr size_t kListingBytes = 8192;      // about 340 threads a call
constexpr size_t kSpareEntries = 16;
constexpr size_t kOwnLinks = 2;  // a /proc task directory has a link for each thread besides these
constexpr uint32_t kStopsAfterRefusal = 63;
constexpr uint32_t kNeverAgain = ~uint32_t{0};

// A path below /proc/<process>/task, or relative to it, built without snprintf.
class TaskPath {
 public:
  NONREUSE_UNINSTRUMENTED TaskPath() { path_[0] = '\0'; }
  NONREUSE_UNINSTRUMENTED explicit TaskPath(int process) {
    text("/proc/");
    number(process);
    text("/task");
  }
  NONREUSE_UNINSTRUMENTED void text(const char* s) {
    while (*s != '\0' && length_ < sizeof path_ - 1) path_[length_++] = *s++;
    path_[length_] = '\0';
  }
  NONREUSE_UNINSTRUMENTED void number(int value) {
    char digits[12];
    size_t count = 0;
    do {
      digits[count++] = static_cast<char>('0' + value % 10);
      value /= 10;
    } while (value != 0);
    while (count > 0 && length_ < sizeof path_ - 1) path_[length_++] = digits[--count];
    path_[length_] = '\0';
  }
  NONREUSE_UNINSTRUMENTED const char* get() const { return path_; }

 private:
  size_t length_ = 0;
  char path_[80];
};

NONREUSE_UNINSTRUMENTED int parse_tid(const char* name) {
  int tid = 0;
  for (; *name >= '0' && *name <= '9'; ++name) tid = tid * 10 + (*name - '0');
  return *name == '\0' ? tid : 0;
}

// 0, or -errno: -ESRCH where /proc numbers processes as another PID namespace does: its lists would name
// strangers.
NONREUSE_UNINSTRUMENTED long check_that_proc_speaks_of(int process) {
  char name[16];
  const long length = sys::call(SYS_readlinkat, AT_FDCWD, "/proc/self", name, sizeof name - 1);
  if (sys::failed(length)) return length;
  name[length] = '\0';
  return parse_tid(name) == process ? 0 : -ESRCH;
}

// Reads the head of /proc/<process>/task/<tid>/<name>; the length, or -errno.
NONREUSE_UNINSTRUMENTED long read_task_file(int process, int tid, const char* name, char* buffer,
                                            size_t size) {
  TaskPath path(process);
  path.text("/");
  path.number(tid);
  path.text("/");
  path.text(name);
  const long fd = sys::call(SYS_openat, AT_FDCWD, path.get(), O_RDONLY | O_CLOEXEC);
  if (sys::failed(fd)) return fd;
  const long length = sys::call(SYS_read, fd, buffer, size);
  sys::call(SYS_close, fd);
  return length;
}

NONREUSE_UNINSTRUMENTED uint64_t deadline_after(uint64_t timeout_ns) {
  const uint64_t now = now_ns();
  return timeout_ns < ~now ? now + timeout_ns : ~uint64_t{0};
}

// The records of getdents64(2).
struct DirectoryEntry {
  uint64_t inode;
  int64_t offset;
  uint16_t length;
  uint8_t type;
  char name[1];
};

}  // namespace

namespace stop {

NONREUSE_UNINSTRUMENTED long TaskList::open(int process) {
  cursor_ = 0;
  fd_ = sys::call(SYS_openat, AT_FDCWD, TaskPath(process).get(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  return sys::failed(fd_) ? fd_ : 0;
}

NONREUSE_UNINSTRUMENTED void TaskList::close() {
  if (!sys::failed(fd_)) sys::call(SYS_close, fd_);
  fd_ = -1;
}

NONREUSE_UNINSTRUMENTED TaskList::Pass TaskList::read(StopArea& area) {
  Pass pass{0, false, 0};
  cursor_ = 0;
  pass.error = sys::call(SYS_lseek, fd_, 0, SEEK_SET);
  if (sys::failed(pass.error)) return pass;
  for (;;) {
    const long filled = sys::call(SYS_getdents64, fd_, area.listing, area.listing_bytes);
    if (sys::failed(filled)) {
      pass.error = filled;
      return pass;
    }
    if (filled == 0) return pass;
    for (long at = 0; at < filled;) {
      const auto* record = reinterpret_cast<const DirectoryEntry*>(area.listing + at);
      at += record->length;
      const int tid = parse_tid(record->name);
      if (tid == 0 || tid == area.caller || emulator::owns_thread(tid)) continue;  // 0: "." and ".."
      if (!note(area, tid, pass)) {
        pass.table_full = true;
        return pass;
      }
    }
  }
}

// Makes sure that the table has `tid`. False when there is no room.
NONREUSE_UNINSTRUMENTED bool TaskList::note(StopArea& area, int tid, Pass& pass) {
  // The kernel lists in the same order each time, so the entry after the last one found is the likely one.
  const size_t count = area.entry_count;
  size_t vacant = count;
  for (size_t step = 0; step < count; ++step) {
    size_t i = cursor_ + step;
    if (i >= count) i -= count;
    StopEntry& entry = area.entries[i];
    const uint32_t state = load(&entry.state);
    if (state == kGone) {
      vacant = i;
      continue;
    }
    if (entry.tid != tid) continue;
    cursor_ = i + 1;
    // A zombie's tid may have been given to a new thread. (Not a leader's: it is the process's own.)
    if (state == kZombie && tid != area.process && state_of(area.process, tid) != 'Z') {
      store(&entry.state, uint32_t{kFresh});
      ++pass.fresh;
    }
    return true;
  }
  if (vacant == area.capacity) return false;
  StopEntry& entry = area.entries[vacant];
  store(&entry.tid, tid);
  entry.held_signal = 0;
  entry.register_count = 0;
  entry.stack_pointer = 0;
  entry.thread_pointer = 0;
  store(&entry.state, uint32_t{kFresh});
  if (vacant == count) store(&area.entry_count, count + 1);
  cursor_ = vacant + 1;
  ++pass.fresh;
  return true;
}

NONREUSE_UNINSTRUMENTED TaskList::Completeness TaskList::compare_with_count(const StopArea& area) const {
  struct stat status;
  if (sys::call(SYS_newfstatat, fd_, "", &status, AT_EMPTY_PATH) != 0) return Completeness::cannot_be_told;
  const size_t counted = status.st_nlink - kOwnLinks - emulator::thread_count();
  size_t settled = 1;  // the caller
  for (size_t i = 0; i < area.entry_count; ++i) {
    const StopEntry& entry = area.entries[i];
    const uint32_t state = load(&entry.state);
    // No other zombie than the leader: it may be gone from the count by now, with a new thread in its place.
    if (state == kStopped || (state == kZombie && entry.tid == area.process)) ++settled;
  }
  if (counted == settled) return Completeness::complete;
  return counted > settled && status.st_nlink > kOwnLinks ? Completeness::more_to_come
                                                          : Completeness::cannot_be_told;
}

NONREUSE_UNINSTRUMENTED bool TaskList::has(int tid) const {
  TaskPath name;
  name.number(tid);
  struct stat status;
  return sys::call(SYS_newfstatat, fd_, name.get(), &status, 0) == 0;
}

NONREUSE_UNINSTRUMENTED char TaskList::state_of(int process, int tid) {
  char text[128];
  const long length = read_task_file(process, tid, "stat", text, sizeof text);
  if (length <= 0) return '\0';
  // "tid (name) S …": the name, of at most 15 characters, may hold anything, so search from the end: what
  // follows is made of digits, blanks, minus signs and the letter.
  for (long i = length - 1; i >= 0; --i) {
    if (text[i] == ')') return i + 2 < length ? text[i + 2] : '\0';
  }
  return '\0';
}

NONREUSE_UNINSTRUMENTED bool TaskList::is_pending(int process, int tid, int signal) {
  char text[2048];
  const long length = read_task_file(process, tid, "status", text, sizeof text);
  const char key[] = {'\n', 'S', 'i', 'g', 'P', 'n', 'd', ':', '\t'};
  for (long i = 0; i + static_cast<long>(sizeof key) + 16 <= length; ++i) {
    size_t matched = 0;
    while (matched < sizeof key && text[i + static_cast<long>(matched)] == key[matched]) ++matched;
    if (matched < sizeof key) continue;
    uint64_t set = 0;
    for (long digit = 0; digit < 16; ++digit) {
      const char c = text[i + static_cast<long>(sizeof key) + digit];
      set = set << 4 | static_cast<uint64_t>(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return (set >> (signal - 1) & 1) != 0;
  }
  return false;
}

NONREUSE_UNINSTRUMENTED size_t register_words() {
  constexpr size_t kGeneralWords = 48;  // the largest set (aarch64: 34), thread pointers, one to spare
#if defined(__x86_64__)
  // The XSAVE area of all components the processor has, standard format (SDM volume 1, 13.4).
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  unsigned bytes = 512 + 64;
  if (__get_cpuid_count(0xd, 0, &eax, &ebx, &ecx, &edx) != 0) {
    if (ebx > bytes) bytes = ebx;
    if (ecx > bytes) bytes = ecx;
  }
  return align_up(kGeneralWords + bytes / 8 + 8, 8);
#elif defined(__aarch64__)
  constexpr unsigned long kHasSve = 1UL << 22;
  constexpr size_t kFloatingBytes = 33 * 16;
  // Signal frames carry the records of the first and of the scalable registers, at most 2048 bits each.
  constexpr size_t kFrameBytes = 4096 + 64;
  constexpr size_t kScalableBytes = 64 + 32 * 256 + 17 * 32 + 64;
  const bool scalable = (getauxval(AT_HWCAP) & kHasSve) != 0;
  return align_up(kGeneralWords + (kFloatingBytes + kFrameBytes + (scalable ? kScalableBytes : 0)) / 8, 8);
#else
  // Floating-point registers, and vector registers of up to 1024 bits (RISC-V allows more; such a stop
  // fails).
  constexpr size_t kFloatingBytes = 544;
  constexpr size_t kVectorBytes = 64 + 32 * 128;
  return align_up(kGeneralWords + (kFloatingBytes + kVectorBytes) / 8, 8);
#endif
}

}  // namespace stop

NONREUSE_UNINSTRUMENTED size_t count_threads() {
  struct stat status;
  if (sys::call(SYS_newfstatat, AT_FDCWD, "/proc/self/task", &status, 0) != 0) return 0;
  const size_t others = kOwnLinks + emulator::thread_count();
  return status.st_nlink > others ? status.st_nlink - others : 0;
}

// Layout: a page that stays unmapped, the helper's stack, the head, the tables, the registers.
NONREUSE_UNINSTRUMENTED bool ThreadStopper::reserve(size_t capacity) {
  if (area_ != nullptr && area_->capacity >= capacity) return true;
  const size_t words = area_ != nullptr ? area_->register_words : register_words();
  const size_t stack_end = kHelperStack + kHelperStack;  // the first half is the guard, whatever a page is
  const size_t entries_at = stack_end + align_up(sizeof(StopArea), 64);
  const size_t threads_at = entries_at + align_up(capacity * sizeof(StopEntry), 64);
  const size_t listing_at = threads_at + align_up(capacity * sizeof(StoppedThread), 64);
  const size_t registers_at = listing_at + kListingBytes;
  const size_t size = align_up(registers_at + capacity * words * sizeof(uint64_t), kHelperStack);
  const long mapped = sys::call(SYS_mmap, nullptr, size, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (sys::failed(mapped)) return false;
  const uintptr_t base = static_cast<uintptr_t>(mapped);
  sys::call(SYS_mprotect, base, kHelperStack, PROT_NONE);

  auto* area = reinterpret_cast<StopArea*>(base + stack_end);  // the kernel's zeros are its initial state
  area->capacity = capacity;
  area->register_words = words;
  area->entries = reinterpret_cast<StopEntry*>(base + entries_at);
  area->threads = reinterpret_cast<StoppedThread*>(base + threads_at);
  area->listing = reinterpret_cast<char*>(base + listing_at);
  area->listing_bytes = kListingBytes;
  area->registers = reinterpret_cast<uint64_t*>(base + registers_at);
  area->helper_stack_top = base + stack_end;

  if (area_ != nullptr) {
    area->process = area_->process;
    area->caller = area_->caller;
    area->deadline_ns = area_->deadline_ns;
    area->began_ns = area_->began_ns;
    area->may_ask = area_->may_ask;
  }
  const Range old = own_memory_;
  area_ = area;
  threads_ = area->threads;
  own_memory_ = Range{base, base + size};
  if (!old.empty()) sys::call(SYS_munmap, old.begin, old.size());
  return true;
}

NONREUSE_UNINSTRUMENTED void ThreadStopper::block_signals() {
  // What a fault of the thread itself raises stays open: blocked, it would end the process without a word,
  // and programs emulate system calls in handlers for SIGSYS.
  uint64_t set = kAllSignals;
  for (const int open : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS}) {
    set &= ~(uint64_t{1} << (open - 1));
  }
  sys::call(SYS_rt_sigprocmask, SIG_BLOCK, &set, &signals_before_, kSignalSetBytes);
}

NONREUSE_UNINSTRUMENTED void ThreadStopper::unblock_signals() {
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &signals_before_, nullptr, kSignalSetBytes);
}

NONREUSE_UNINSTRUMENTED void ThreadStopper::prepare(StopMethod method, uint64_t timeout_ns) {
  thread_count_ = 0;
  const size_t known = count_threads();
  prepared_ = Prepared::alone;
  if (known == 1) return;
  block_signals();
  prepared_ = make_ready(known, deadline_after(timeout_ns)) ? Prepared::ready : Prepared::failed;
  const bool helper = prepared_ == Prepared::ready && numbering_ == 0 && helper_goes_first(method);
  if (helper) prepare_for_ptrace(*area_);
}

// A handler or helper of an earlier stop that was late may still write into the area.
NONREUSE_UNINSTRUMENTED bool ThreadStopper::make_ready(size_t known, uint64_t deadline_ns) {
  if (!handlers_have_left(deadline_ns) || (area_ != nullptr && !helper_has_left(*area_))) return false;
  if (!reserve(known + known / 4 + kSpareEntries)) return false;
  area_->process = static_cast<int>(sys::call(SYS_getpid));
  area_->caller = static_cast<int>(sys::call(SYS_gettid));
  numbering_ = check_that_proc_speaks_of(area_->process);
  return true;
}

NONREUSE_UNINSTRUMENTED bool ThreadStopper::helper_goes_first(StopMethod method) const {
  if (method != StopMethod::automatic) return method == StopMethod::ptrace_helper;
  return stops_by_permission_ > 0 || stops_without_ptrace_ == 0;
}

NONREUSE_UNINSTRUMENTED StopResult ThreadStopper::stop(StopMethod method, uint64_t timeout_ns) {
  if (prepared_ == Prepared::no) prepare(method, timeout_ns);
  const Prepared prepared = prepared_;
  prepared_ = Prepared::no;
  if (prepared == Prepared::alone) return StopResult::alone;
  const StopResult result =
      prepared == Prepared::ready ? stop_listed(method, deadline_after(timeout_ns)) : StopResult::timed_out;
  if (result != StopResult::stopped) unblock_signals();
  return result;
}

NONREUSE_UNINSTRUMENTED StopResult ThreadStopper::stop_listed(StopMethod method, uint64_t deadline_ns) {
  area_->began_ns = 0;
  if (numbering_ != 0) return sys::may_pass(numbering_) ? StopResult::timed_out : StopResult::refused;
  if (method == StopMethod::automatic) return stop_by_either(deadline_ns);
  area_->may_ask = true;
  switch (attempt(method, deadline_ns)) {
    case Attempt::stopped:
      return conclude(method);
    case Attempt::refused:
      return StopResult::refused;
    default:
      return StopResult::timed_out;
  }
}

// One of the two mechanisms, with as large a table as it takes.
NONREUSE_UNINSTRUMENTED ThreadStopper::Attempt ThreadStopper::attempt(StopMethod method,
                                                                      uint64_t deadline_ns) {
  for (;;) {
    area_->entry_count = 0;
    area_->deadline_ns = deadline_ns;
    if (method == StopMethod::signal && area_->began_ns == 0) area_->began_ns = now_ns();
    switch (method == StopMethod::signal ? stop_by_signal(*area_) : stop_by_ptrace(*area_)) {
      case StopOutcome::stopped:
        return Attempt::stopped;
      case StopOutcome::timed_out:
        return Attempt::timed_out;
      case StopOutcome::refused:
        return Attempt::refused;
      case StopOutcome::lacking:
        return Attempt::lacking;
      case StopOutcome::table_full:
        if (now_ns() >= deadline_ns || !handlers_have_left(deadline_ns) || !helper_has_left(*area_)) {
          return Attempt::timed_out;
        }
        if (!reserve(area_->capacity * 2)) return Attempt::lacking;
        break;
    }
  }
}

// The helper; signals where that is refused; and last the helper with the permission of PR_SET_PTRACER, which
// Yama's ptrace_scope 1 asks for and which takes the place of what the program may have permitted by that
// call. Only what both mechanisms refuse is refused.
NONREUSE_UNINSTRUMENTED StopResult ThreadStopper::stop_by_either(uint64_t deadline_ns) {
  const bool by_permission = stops_by_permission_ > 0;
  const bool helper_first = helper_goes_first(StopMethod::automatic);
  if (by_permission) --stops_by_permission_;
  if (stops_without_asking_ > 0) --stops_without_asking_;
  Attempt helper = Attempt::refused;
  if (helper_first) {
    helper = attempt_helper(by_permission, deadline_ns);
    if (helper == Attempt::stopped) return conclude(StopMethod::ptrace_helper);
    if (helper == Attempt::timed_out) return StopResult::timed_out;
  } else if (stops_without_ptrace_ != kNeverAgain) {
    --stops_without_ptrace_;
  }
  const uint64_t now = now_ns();
  const bool may_ask = permission_missing_ && stops_without_asking_ == 0 && now < deadline_ns;
  const Attempt signals = attempt(StopMethod::signal, may_ask ? now + (deadline_ns - now) / 2 : deadline_ns);
  if (signals == Attempt::stopped) return conclude(StopMethod::signal);
  const bool untried = !helper_first && signals == Attempt::refused;
  const bool again = (may_ask || untried) && stops_without_ptrace_ != kNeverAgain;
  if (again && handlers_have_left(deadline_ns) && helper_has_left(*area_)) {
    helper = attempt_helper(may_ask, deadline_ns);
    if (helper == Attempt::stopped) {
      if (may_ask) stops_by_permission_ = kStopsAfterRefusal;
      return conclude(StopMethod::ptrace_helper);
    }
    if (may_ask) stops_without_asking_ = kStopsAfterRefusal;
  }
  return helper == Attempt::refused && signals == Attempt::refused ? StopResult::refused
                                                                   : StopResult::timed_out;
}

// Remembers a refusal for the next stops.
NONREUSE_UNINSTRUMENTED ThreadStopper::Attempt ThreadStopper::attempt_helper(bool may_ask,
                                                                             uint64_t deadline_ns) {
  area_->may_ask = may_ask;
  const Attempt helper = attempt(StopMethod::ptrace_helper, deadline_ns);
  if (helper == Attempt::refused) {
    stops_without_ptrace_ = area_->helper_was_killed ? kNeverAgain : kStopsAfterRefusal;
    stops_by_permission_ = 0;
    permission_missing_ = area_->permission_missing;
  } else if (helper == Attempt::stopped) {
    stops_without_ptrace_ = 0;
  }
  return helper;
}

// Every thread is stopped: lists those that have registers, side by side.
NONREUSE_UNINSTRUMENTED StopResult ThreadStopper::conclude(StopMethod method) {
  size_t count = 0;
  for (size_t i = 0; i < area_->entry_count; ++i) {
    const StopEntry& entry = area_->entries[i];
    if (load(&entry.state) != kStopped) continue;
    StoppedThread& thread = area_->threads[count++];
    thread.tid = entry.tid;
    thread.stack_pointer = entry.stack_pointer;
    thread.thread_pointer = entry.thread_pointer;
    thread.registers = area_->words(i);
    thread.register_count = entry.register_count;
  }
  thread_count_ = count;
  began_ns_ = area_->began_ns;
  running_ = method;
  if (count > 0) {
    last_method_ = method;
    return StopResult::stopped;
  }
  // Only zombies besides us. A helper killed meanwhile changes nothing: nobody was there to stop.
  resume_threads();
  return StopResult::alone;
}

NONREUSE_UNINSTRUMENTED bool ThreadStopper::resume_threads() {
  bool held = true;
  if (running_ == StopMethod::ptrace_helper) held = resume_from_ptrace(*area_);
  if (running_ == StopMethod::signal) resume_from_signal();
  const bool told = running_ == StopMethod::ptrace_helper && area_->released_ns != 0;
  resumed_ns_ = told ? area_->released_ns : now_ns();
  running_ = StopMethod::automatic;
  thread_count_ = 0;
  return held;
}

NONREUSE_UNINSTRUMENTED bool ThreadStopper::resume() {
  if (running_ == StopMethod::automatic) return true;
  const bool held = resume_threads();
  unblock_signals();
  return held;
}

NONREUSE_UNINSTRUMENTED void ThreadStopper::after_fork_in_child() {
  emulator::after_fork_in_child();
  forget_signal_stop();
  running_ = StopMethod::automatic;
  prepared_ = Prepared::no;
  thread_count_ = 0;
  if (area_ != nullptr) {
    area_->helper = 0;
    area_->permission_set = false;
    area_->entry_count = 0;
  }
}

}  // namespace nonreuse
