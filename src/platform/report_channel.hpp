// What a process needs to report on itself: where code lies, and somebody to ask. None of these allocates or
// changes errno. linux_report_channel.cpp, freebsd_report_channel.cpp.
#pragma once

#include "base/types.hpp"

namespace nonreuse::os {

// The code of the module that the library is in, if that is a shared one; else empty.
Range own_code();

struct CodePlace {
  char module[256];  // path, or ""
  uint64_t offset;   // from where the module's file begins in memory
};
// Looks `count` addresses up in the process's list of mappings. False where that cannot be read.
bool find_code(const uint64_t* addresses, size_t count, CodePlace* out);

// Sends the message to whoever listens at the socket `path`, lets that process look at this one, copies what
// it answers to standard error, and returns once it has closed, or after `at_most_ns`. False: nothing was
// answered.
bool ask_reporter(const char* path, const void* message, size_t size, uint64_t at_most_ns);

}  // namespace nonreuse::os
