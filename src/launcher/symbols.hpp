// Names for addresses of a process: functions with file and line, static data, the frames of its threads.
// Kept by libdw; what a module's file or its separate debug file does not say is left empty.
#pragma once

#include <elfutils/libdwfl.h>

#include <map>
#include <string>
#include <vector>

#include "launcher/observed.hpp"

namespace nonreuse::launcher {

struct CodeFrame {
  uint64_t address = 0;
  uint64_t offset = 0;  // the address as the module's file has it, for addr2line(1)
  std::string module;   // path, or ""
  std::string symbol;   // function, demangled, or ""
  std::string file;
  int line = 0;
};

struct DataName {
  std::string module, symbol;
  uint64_t offset = 0;  // from the symbol; from the module's start where there is no symbol
};

// A frame of a stopped thread: what it has on the stack lies from `stack_pointer` up to its caller's.
struct LiveFrame {
  uint64_t stack_pointer = 0, program_counter = 0;
  bool exact = false;  // the program counter is that of the instruction, not behind a call
};

class Symbols {
 public:
  explicit Symbols(pid_t process);
  ~Symbols();
  Symbols(const Symbols&) = delete;
  Symbols& operator=(const Symbols&) = delete;

  // `exact`: the instruction at the address itself; else the call before it. Functions that were inlined
  // there come first, innermost first; there is always one frame.
  const std::vector<CodeFrame>& frames_at(uint64_t address, bool exact = false);
  // The innermost of them.
  const CodeFrame& code(uint64_t address, bool exact = false) { return frames_at(address, exact).front(); }
  // The function that has the frame on the stack.
  const CodeFrame& function(uint64_t address, bool exact = false) { return frames_at(address, exact).back(); }
  // `inside` is an address in the file's part of the same module; zeroed data have none.
  DataName data(uint64_t address, uint64_t inside);
  // In which module's thread-local block, `offset` bytes from its start. `number` counts modules with such.
  DataName thread_local_data(size_t number, uint64_t offset) const;
  // The process must be stopped by this thread. Innermost first; none where they cannot be told.
  std::vector<LiveFrame> frames(pid_t thread);

 private:
  struct Symbol {
    uint64_t begin, end;  // of nothing where these are the same: up to the next
    int preference;       // of several at the same address
    bool is_function;
    std::string name;
  };
  Dwfl_Module* module(uint64_t address) const;
  // libdw goes through the whole table for each question; here it is sorted once.
  const std::vector<Symbol>& table_of(Dwfl_Module* module);
  const Symbol* find(Dwfl_Module* module, uint64_t address, bool function);

  pid_t process_;
  Dwfl* dwfl_ = nullptr;
  bool attached_ = false;
  std::map<Dwfl_Module*, std::vector<Symbol>> tables_;
  std::map<std::pair<uint64_t, bool>, std::vector<CodeFrame>> known_;
};

// "function (file.c:12)", "function in libfoo.so", "libfoo.so+0x7f0", "0x7f00".
std::string frame_text(const CodeFrame& frame);

}  // namespace nonreuse::launcher
