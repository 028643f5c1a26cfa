// Pointers by the role they play.
//
//   Wild     what a program hands in: not trusted, may not be dereferenced, only looked up
//   Chunk    a chunk of the heap with the heap's own authority over it: may be zeroed, copied, tagged
//   Payload  what is given out: bounded to the request, with no authority beyond it
//
// On ordinary machines each is a plain address and costs nothing. On a capability machine a Wild is checked
// (tag, seal, offset, bounds) and gives up its authority, a Chunk is derived from the heap's own capability,
// and a Payload is narrowed from a Chunk; there is no way from Wild to Chunk but through the tag map.
//
// A family of the three, with what the allocator asks of it, is a pointer model: PlainPointers here,
// CapabilityPointers in capability_pointers.hpp. The memory platform says which one is used.
#pragma once

#include <cstring>

#include "base/types.hpp"

namespace nonreuse {

class Wild {
 public:
  explicit Wild(const void* pointer) : address_(address_of(pointer)) {}
  Address address() const { return address_; }
  bool null() const { return address_ == 0; }

 private:
  Address address_;
};

class Payload {
 public:
  constexpr Payload() = default;
  explicit Payload(Address address) : address_(address) {}
  void* get() const { return reinterpret_cast<void*>(address_); }
  explicit operator bool() const { return address_ != 0; }

 private:
  Address address_ = 0;
};

class Chunk {
 public:
  Chunk(Address address, Run run) : address_(address), run_(run) {}
  Address address() const { return address_; }
  Run run() const { return run_; }
  size_t bytes() const { return run_.length << kGranuleShift; }

 private:
  Address address_;
  Run run_;
};

// Addresses and nothing else. What a program hands in is judged by the tag map alone.
class PlainPointers {
 public:
  using Wild = nonreuse::Wild;
  using Chunk = nonreuse::Chunk;
  using Payload = nonreuse::Payload;

  static constexpr bool kCapabilities = false;
  // Whether the end of a live chunk may be cut off and reused: a pointer into it is found by the sweep.
  static constexpr bool kMayShrink = true;

  template <class Platform>
  explicit constexpr PlainPointers(Platform&) {}
  template <class Platform>
  void attach(Platform&) {}

  // Room for the request and one byte more, so that a pointer one past its end still points into the chunk.
  static constexpr Granules granules_for(size_t size) { return (size >> kGranuleShift) + 1; }
  // Granules of which the start must be a multiple, at least `wanted`.
  static constexpr Granules alignment_for(size_t, Granules wanted) { return wanted; }
  static Payload payload(const Chunk& chunk, size_t) { return Payload(chunk.address()); }
  // Whether a payload of `size` bytes can begin where the chunk does.
  static constexpr bool fits(const Chunk&, size_t) { return true; }
  static void forget_length(const Chunk&) {}
  static size_t usable(const Chunk& chunk) { return chunk.bytes() - 1; }
  static Wild wild(const void* pointer) { return Wild(pointer); }
  static Address own(Wild pointer, Address) { return pointer.address(); }
  static void copy(Payload to, const Chunk& from, size_t bytes) {
    memcpy(to.get(), reinterpret_cast<const void*>(from.address()), bytes);
  }
};

// The model of a memory platform: its member `Pointers`, else plain addresses.
namespace detail {
template <class Platform>
struct PointersOf {
  using type = PlainPointers;
};
template <class Platform>
requires requires {
  typename Platform::Pointers;
}
struct PointersOf<Platform> {
  using type = typename Platform::Pointers;
};
}  // namespace detail
template <class Platform>
using PointersFor = typename detail::PointersOf<Platform>::type;

}  // namespace nonreuse
