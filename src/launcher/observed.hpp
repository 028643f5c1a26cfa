// Another process, looked at from outside: its memory, its mappings, its threads while they are stopped.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/types.hpp"
#include "launcher/process_memory.hpp"

namespace nonreuse::launcher {

struct ObservedMapping {
  Range range;
  bool readable = false, writable = false, shared = false, main_stack = false;
  MappingKind kind = MappingKind::ignored;
  size_t guard_below = 0;  // bytes of the inaccessible private mapping before it, if it is anonymous
  std::string name;        // "" for plain anonymous memory
};

struct ObservedThread {
  pid_t id = 0;
  int signal = 0;                   // to be delivered when it goes on
  std::vector<uint64_t> registers;  // as kRegisterNames
  std::vector<uint64_t> vectors;    // vector registers, as words
  uint64_t stack_pointer = 0, program_counter = 0, thread_pointer = 0;
};

class ObservedProcess : public ProcessMemory {
 public:
  explicit ObservedProcess(pid_t process) : ProcessMemory(process) {}
  ~ObservedProcess() { resume(); }
  ObservedProcess(const ObservedProcess&) = delete;
  ObservedProcess& operator=(const ObservedProcess&) = delete;

  std::string command() const;  // path of its program, or its name

  // Stops every thread and reads registers; they go on when this object ends. Throws Failure with a line that
  // says why it cannot be done.
  void stop();
  void resume();
  const std::vector<ObservedThread>& threads() const { return threads_; }

  // Read anew each time. Throws Failure.
  std::vector<ObservedMapping> mappings() const;
  // Bytes of the stacks that the C library makes by default.
  size_t default_stack_bytes() const;
  // Calls f(range) for runs of pages of a mapping that hold something of the program's own.
  template <class F>
  void for_each_used(const ObservedMapping& mapping, F&& f) const;

 private:
  enum class Seized { yes, no, gone };
  Seized seize(pid_t thread);
  bool stop_new_threads();
  void read_registers(ObservedThread& thread) const;
  std::vector<uint64_t> page_entries(Range range) const;

  std::vector<ObservedThread> threads_;
};

template <class F>
void ObservedProcess::for_each_used(const ObservedMapping& mapping, F&& f) const {
  // proc_pid_pagemap(5): bit 63 present, 62 swapped, 61 still the file's (or shared).
  constexpr uint64_t kPresent = uint64_t{1} << 63, kSwapped = uint64_t{1} << 62, kFile = uint64_t{1} << 61;
  constexpr size_t kPiece = size_t{256} << 20;
  const bool shared =
      mapping.kind != MappingKind::private_anonymous && mapping.kind != MappingKind::private_file;
  const bool file = mapping.kind == MappingKind::private_file;
  for (uint64_t at = mapping.range.begin; at < mapping.range.end; at += kPiece) {
    const Range piece{at, std::min<uint64_t>(at + kPiece, mapping.range.end)};
    const std::vector<uint64_t> entries = page_entries(piece);
    if (entries.empty() || (shared && mapping.range.size() <= kPiece)) {
      f(piece);
      continue;
    }
    const size_t page = piece.size() / entries.size();
    Range run{piece.begin, piece.begin};
    for (size_t i = 0; i < entries.size(); ++i) {
      const bool used = (entries[i] & (kPresent | kSwapped)) != 0 && !(file && (entries[i] & kFile) != 0);
      const uint64_t end = piece.begin + (i + 1) * page;
      if (used) {
        run.end = end;
        continue;
      }
      if (!run.empty()) f(run);
      run = {end, end};
    }
    if (!run.empty()) f(run);
  }
}

}  // namespace nonreuse::launcher
