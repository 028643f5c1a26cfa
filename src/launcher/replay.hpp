// `nonreuse replay`: the recorded calls once more, on this heap under other settings or on another malloc.
#pragma once

#include <string>

#include "launcher/heap_options.hpp"

namespace nonreuse::launcher {

// What the command was told.
struct ReplayRequest {
  HeapOptions heap;
  std::string file, library, allocator, what_if, chart;
  uint32_t process = 0;  // 0: the one with most calls
  bool json = false;
};

// The exit status: 1 where the replay did not end with the live blocks of the trace, or the trace is damaged.
int run_replay(const ReplayRequest& request);

}  // namespace nonreuse::launcher
