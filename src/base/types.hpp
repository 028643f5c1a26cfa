// Units of the heap: granules, runs, sizes. Everything the heap knows about memory is said in granule
// indices from the start of the reserved range, so the heap never needs to touch a chunk to manage it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nonreuse {

inline constexpr unsigned kGranuleShift = 4;
inline constexpr size_t kGranule = size_t{1} << kGranuleShift;  // bytes; also the alignment of every chunk

using Granule = uint64_t;   // index of a granule in the reserved range
using Granules = uint64_t;  // a count of granules

// A number that says where something lies, and nothing more: on a capability machine it carries no authority.
// Memory is reached through pointers that were given out, or through MemoryPlatform::pointer().
using Address = uint64_t;
inline Address address_of(const void* pointer) {
  return static_cast<Address>(reinterpret_cast<uintptr_t>(pointer));
}

// A half-open range of granules.
struct Run {
  Granule start = 0;
  Granules length = 0;
  constexpr Granule end() const { return start + length; }
  constexpr bool empty() const { return length == 0; }
  constexpr bool operator==(const Run&) const = default;
};

// A half-open range of addresses.
struct Range {
  Address begin = 0;
  Address end = 0;
  constexpr size_t size() const { return end - begin; }
  constexpr bool contains(Address a) const { return a - begin < end - begin; }
  constexpr bool empty() const { return begin >= end; }
};

constexpr uint64_t align_up(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}
constexpr uint64_t align_down(uint64_t value, uint64_t alignment) {
  return value & ~(alignment - 1);
}
constexpr bool is_power_of_two(uint64_t value) {
  return value != 0 && (value & (value - 1)) == 0;
}

}  // namespace nonreuse
