// Which chunks in quarantine are still pointed to, and from where: what a sweep would find at this moment, by
// the rules of docs/guarantees.md, with the places remembered.
#pragma once

#include <map>
#include <vector>

#include "launcher/heap_image.hpp"
#include "launcher/observed.hpp"

namespace nonreuse::launcher {

struct PointerPlace {
  enum class Kind : uint8_t { memory, stack, register_, heap };
  Kind kind = Kind::memory;
  uint64_t address = 0;  // of the word; 0 for registers
  uint64_t offset = 0;   // of what it points at, from the start of the chunk
  size_t mapping = 0;    // memory, stack: index into the mappings
  size_t thread = 0;     // stack, register: index into the threads
  size_t number = 0;     // register: as kRegisterNames; from there on, vector registers
  size_t owner = 0;      // heap: index into the chunks
};

struct DanglingChunk {
  size_t chunk = 0;  // index into the chunks
  uint64_t pointer_count = 0;
  std::vector<PointerPlace> pointers;  // the first of them
};

// The process is stopped. In address order.
std::vector<DanglingChunk> find_dangling(const ObservedProcess& process,
                                         const std::vector<ObservedMapping>& mappings, const HeapImage& heap);

}  // namespace nonreuse::launcher
