#include "launcher/observed.hpp"

#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstring>
#include <fstream>

#include "launcher/program.hpp"
#include "platform/linux_registers.hpp"

namespace nonreuse::launcher {
namespace {

constexpr int kPatience = 500;            // looks, 10 ms apart
constexpr int kArmThreadPointer = 0x401;  // NT_ARM_TLS

void nap() {
  const timespec ten_ms{0, 10'000'000};
  nanosleep(&ten_ms, nullptr);
}

pid_t tracer_of(pid_t process) {
  std::ifstream status(fmt::format("/proc/{}/status", process));
  std::string word;
  while (status >> word) {
    if (word != "TracerPid:") continue;
    pid_t tracer = 0;
    status >> tracer;
    return tracer;
  }
  return 0;
}

std::vector<pid_t> thread_ids(pid_t process) {
  std::vector<pid_t> ids;
  DIR* folder = opendir(fmt::format("/proc/{}/task", process).c_str());
  if (folder == nullptr) return ids;
  while (const dirent* entry = readdir(folder)) {
    if (entry->d_name[0] != '.') ids.push_back(static_cast<pid_t>(strtol(entry->d_name, nullptr, 10)));
  }
  closedir(folder);
  return ids;
}

std::string reason_against(pid_t process, int error) {
  if (error == ESRCH) return fmt::format("there is no process {}", process);
  if (const pid_t tracer = tracer_of(process); tracer != 0)
    return fmt::format("process {} is being traced by process {} (a debugger?)", process, tracer);
  std::ifstream yama("/proc/sys/kernel/yama/ptrace_scope");
  int scope = 0;
  yama >> scope;
  return fmt::format("process {} may not be looked at: {} ({})", process, strerror(error),
                     scope > 0 ? fmt::format("kernel.yama.ptrace_scope is {}: try as root", scope)
                               : "another user's, or not dumpable: try as root");
}

// Waits until the thread has stopped. -1: it did not, or is gone; else the signal to deliver later.
int await_stop(pid_t thread) {
  for (int look = 0; look < kPatience; ++look) {
    int status = 0;
    const pid_t got = waitpid(thread, &status, __WALL | WNOHANG);
    if (got < 0) return -1;
    if (got == thread) {
      if (!WIFSTOPPED(status)) return -1;
      return status >> 16 == PTRACE_EVENT_STOP ? 0 : WSTOPSIG(status);
    }
    if (look < 20)
      usleep(200);
    else
      nap();
  }
  return -1;
}

}  // namespace

std::string ObservedProcess::command() const {
  char path[PATH_MAX];
  const ssize_t size = readlink(fmt::format("/proc/{}/exe", id()).c_str(), path, sizeof path);
  if (size > 0) return {path, static_cast<size_t>(size)};
  std::ifstream file(fmt::format("/proc/{}/comm", id()));
  std::string name;
  std::getline(file, name);
  return name;
}

ObservedProcess::Seized ObservedProcess::seize(pid_t id) {
  if (ptrace(PTRACE_SEIZE, id, nullptr, nullptr) != 0) return errno == ESRCH ? Seized::gone : Seized::no;
  ptrace(PTRACE_INTERRUPT, id, nullptr, nullptr);
  const int signal = await_stop(id);
  if (signal < 0) {
    ptrace(PTRACE_DETACH, id, nullptr, nullptr);
    return Seized::gone;
  }
  ObservedThread thread;
  thread.id = id;
  thread.signal = signal;
  read_registers(thread);
  threads_.push_back(std::move(thread));
  return Seized::yes;
}

// True if there were any.
bool ObservedProcess::stop_new_threads() {
  bool any = false;
  for (const pid_t thread : thread_ids(id())) {
    const auto is_known = [thread](const ObservedThread& known) { return known.id == thread; };
    if (std::any_of(threads_.begin(), threads_.end(), is_known)) continue;
    Seized seized = seize(thread);
    // A sweep of the process's own may be tracing it just now.
    for (int look = 0; seized == Seized::no && look < kPatience / 2 && tracer_of(id()) != 0; ++look) {
      nap();
      seized = seize(thread);
    }
    if (seized == Seized::no) throw Failure(kCannotRunStatus, reason_against(id(), errno));
    any = any || seized == Seized::yes;
  }
  return any;
}

void ObservedProcess::stop() {
  if (kill(id(), 0) != 0 && errno == ESRCH) throw Failure(kCannotRunStatus, reason_against(id(), ESRCH));
  while (stop_new_threads()) {
  }
  if (threads_.empty()) throw Failure(kCannotRunStatus, fmt::format("process {} has ended", id()));
}

void ObservedProcess::resume() {
  for (const ObservedThread& thread : threads_) ptrace(PTRACE_DETACH, thread.id, nullptr, thread.signal);
  threads_.clear();
}

void ObservedProcess::read_registers(ObservedThread& thread) const {
  const auto note = [&](int kind, size_t words) {
    std::vector<uint64_t> values(words);
    iovec block{values.data(), words * sizeof(uint64_t)};
    const long got = ptrace(PTRACE_GETREGSET, thread.id, kind, &block);
    values.resize(got == 0 ? block.iov_len / sizeof(uint64_t) : 0);
    return values;
  };
  thread.registers = note(NT_PRSTATUS, kRegisterNames.size());
  thread.vectors = note(kRegisterLayout.vector_note, 2048);
  if (thread.registers.size() < kRegisterNames.size()) return;
  thread.stack_pointer = thread.registers[kRegisterLayout.stack_pointer];
  thread.program_counter = thread.registers[kRegisterLayout.program_counter];
  if constexpr (kRegisterLayout.thread_pointer == kElsewhere) {
    const std::vector<uint64_t> words = note(kArmThreadPointer, 1);
    thread.thread_pointer = words.empty() ? 0 : words[0];
  } else {
    thread.thread_pointer = thread.registers[kRegisterLayout.thread_pointer];
  }
}

std::vector<ObservedMapping> ObservedProcess::mappings() const {
  std::vector<ObservedMapping> list;
  Range guard;
  const int error = each_mapping([&](const Mapping& mapping) {
    ObservedMapping seen;
    seen.range = mapping.range;
    seen.readable = mapping.readable;
    seen.writable = mapping.writable;
    seen.shared = mapping.shared;
    seen.main_stack = is_main_stack(mapping);
    seen.kind = classify(mapping, 0);
    seen.name.assign(mapping.name, mapping.name_size);
    const bool plain = seen.kind == MappingKind::private_anonymous && seen.name.empty();
    if (plain && guard.end == seen.range.begin) seen.guard_below = guard.size();
    guard = !seen.readable && !seen.writable && !seen.shared ? seen.range : Range{};
    list.push_back(std::move(seen));
  });
  if (error != 0) throw Failure(kCannotRunStatus, reason_against(id(), error));
  return list;
}

size_t ObservedProcess::default_stack_bytes() const {
  rlimit limit{};
  if (prlimit(id(), RLIMIT_STACK, nullptr, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
    return size_t{2} << 20;
  return align_up(limit.rlim_cur, page_bytes());
}

// An entry for each page; none where the list cannot be read.
std::vector<uint64_t> ObservedProcess::page_entries(Range range) const {
  const int file = open(fmt::format("/proc/{}/pagemap", id()).c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return {};
  const size_t page = page_bytes();
  std::vector<uint64_t> entries(range.size() / page);
  const ssize_t wanted = static_cast<ssize_t>(entries.size() * sizeof(uint64_t));
  const ssize_t got = pread(file, entries.data(), static_cast<size_t>(wanted),
                            static_cast<off_t>(range.begin / page * sizeof(uint64_t)));
  close(file);
  if (got != wanted) entries.clear();
  return entries;
}

}  // namespace nonreuse::launcher
