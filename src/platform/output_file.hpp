// Writing a file as a whole: whoever reads it sees the old content or all of the new one.
// Allocates nothing and leaves errno alone. One implementation a system.
#pragma once

#include "base/types.hpp"

namespace nonreuse {

// What is written goes to a new file beside `path`, which takes its place at the end; of several processes
// that do so the last one wins. Where `path` is no ordinary file (a device, a pipe, a link), or no new file
// can be made there, it is written to directly; behind what is there already below /dev and /proc.
class OutputFile {
 public:
  bool open(const char* path);
  bool write(const char* text, size_t size);
  // True: everything is at `path`. Call after every open() that succeeded.
  bool close();
  long error() const { return error_; }  // of the system, or 0

 private:
  bool await_room();
  static constexpr size_t kLongest = 560;
  bool fail(long error);
  bool open_directly();
  long fd_ = -1;
  long error_ = 0;
  [[maybe_unused]] uint64_t room_ = 0;  // bytes that may be written before the kernel would send SIGXFSZ
  char path_[kLongest] = {};
  [[maybe_unused]] char fresh_[kLongest + 32] = {};  // the new file's name, or ""
};

// Puts the working directory in front of a relative path. False: it is not known, or there is no room.
bool make_absolute(char* path, size_t capacity);

}  // namespace nonreuse
