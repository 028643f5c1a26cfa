// Finding the program that is to run, and saying beforehand why a preloaded library would not protect it.
#pragma once

#include <stdexcept>
#include <string>

#include "launcher/elf_file.hpp"

namespace nonreuse::launcher {

inline constexpr int kUsageStatus = 2;        // the command line is wrong
inline constexpr int kCannotRunStatus = 126;  // as in the shell: found, but it cannot be run (protected)
inline constexpr int kNotFoundStatus = 127;   // as in the shell

// A problem that ends the launcher: one line for the user, and its exit status.
class Failure : public std::runtime_error {
 public:
  Failure(int status, const std::string& line) : std::runtime_error(line), status_(status) {}
  int status() const { return status_; }

 private:
  int status_;
};

// The path that execvp(3) would run for `name`. Throws Failure with 127 or 126 where there is none.
std::string find_program(const std::string& name);

// Throws Failure where `program` (a path) would run without the library: static, for another machine, linked
// with another C library, or started with more authority than the user has, in which case the loader ignores
// LD_PRELOAD (ld.so(8), "secure-execution mode"). For scripts the interpreter is checked.
void check_program(const std::string& program, const ElfFile& library);

// The library to preload: `given` if not empty, else looked for beside this executable, in ../lib, and where
// it is installed. Absolute. Throws Failure.
std::string find_library(const std::string& given);

}  // namespace nonreuse::launcher
