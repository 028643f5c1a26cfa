// Ending a program that misuses the heap: one line that names the kind and the chunk, then SIGABRT.
#pragma once

#include "base/pointers.hpp"
#include "base/types.hpp"

namespace nonreuse::misuse {

enum class Found : uint8_t {
  freed_start,   // the start of a chunk that was freed already
  live_inside,   // inside a live chunk
  freed_inside,  // inside a chunk that was freed already
  unaligned,     // no multiple of 16
  foreign,       // not an address of this heap
  unallocated,   // an address of this heap at which nothing is allocated
};

// `call` is the function the program called: "free", "realloc", "malloc_usable_size".
[[noreturn]] void stop(const char* call, Address address, Found found, Address chunk, size_t bytes);

// Called behind the line of stop(), before the program ends, with what stop() was told. At start.
using History = void (*)(Address address, Found found, Address chunk, size_t bytes);
void tell_history(History history);

// One line on standard error.
void say(const char* text);

}  // namespace nonreuse::misuse
