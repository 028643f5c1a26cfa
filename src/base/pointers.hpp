// Pointers by the role they play.
//
//   Wild     what a program hands in: not trusted, may not be dereferenced, only looked up
//   Chunk    a chunk of the heap with the heap's own authority over it: may be zeroed, copied, tagged
//   Payload  what is given out: bounded to the request, with no authority beyond it
//
// On ordinary machines each is a plain address and costs nothing. On a capability machine a Wild is checked
// (tag, seal, offset, bounds) and gives up its authority, a Chunk is derived from the heap's own capability,
// and a Payload is narrowed from a Chunk; there is no way from Wild to Chunk but through the tag map.
#pragma once

#include "base/types.hpp"

namespace nonreuse {

class Wild {
 public:
  explicit Wild(const void* pointer) : address_(reinterpret_cast<uintptr_t>(pointer)) {}
  uintptr_t address() const { return address_; }
  bool null() const { return address_ == 0; }

 private:
  uintptr_t address_;
};

class Payload {
 public:
  constexpr Payload() = default;
  // `size` is what the program asked for: the bounds on a capability machine.
  Payload(uintptr_t address, size_t size) : address_(address) { (void)size; }
  void* get() const { return reinterpret_cast<void*>(address_); }
  explicit operator bool() const { return address_ != 0; }

 private:
  uintptr_t address_ = 0;
};

class Chunk {
 public:
  Chunk(uintptr_t address, Run run) : address_(address), run_(run) {}
  uintptr_t address() const { return address_; }
  Run run() const { return run_; }
  size_t bytes() const { return run_.length << kGranuleShift; }
  Payload payload(size_t size) const { return Payload(address_, size); }

 private:
  uintptr_t address_;
  Run run_;
};

}  // namespace nonreuse
