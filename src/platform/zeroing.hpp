// Clearing memory that is zero already, most of it.
#pragma once

#include "base/types.hpp"

namespace nonreuse {

// Writes zeroes where `memory` is not zero, and a capability machine's tags go with them; true where anything
// was not. 16-byte multiples. Reading first keeps clean lines clean: most memory was zeroed when it was
// freed, and nothing wrote to it. But where much of a page is asked for, its first word is written in any
// case: reading an absent page would bring the system's page of zeroes, and the program's first write would
// fault once more.
inline bool zero_where_dirty(void* memory, size_t bytes, size_t page_size) {
  auto* word = static_cast<uint64_t*>(memory);
  bool dirty = false;
  size_t part = page_size - (address_of(memory) & (page_size - 1));
  for (; bytes > 0; bytes -= part, part = page_size) {
    if (part > bytes) part = bytes;
    if (part >= page_size / 4) dirty |= __atomic_exchange_n(word, 0, __ATOMIC_RELAXED) != 0;
    for (auto* const stop = word + part / sizeof(uint64_t); word < stop; word += 2) {
      if ((word[0] | word[1]) != 0) [[unlikely]] {
        word[0] = 0;
        word[1] = 0;
        dirty = true;
      }
    }
  }
  return dirty;
}

}  // namespace nonreuse
