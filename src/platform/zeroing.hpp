// Clearing memory that is zero already, most of it.
#pragma once

#include "base/types.hpp"
#include "platform/attributes.hpp"

namespace nonreuse {

// Writes zeroes where `memory` is not zero, and a capability machine's tags go with them; true where anything
// was not, as far as it was looked at. 16-byte multiples. Reading first keeps clean lines clean: most memory
// was zeroed when it was freed, and nothing wrote to it. But where much of a page is asked for, its first
// word is written, and not looked at: reading an absent page would bring the system's page of zeroes, and the
// program's first write would fault once more. The processors' own fetching ahead ends with each page: they
// are told where to go on. It shows where freed memory comes back from far (random-live-1 of bench/run.py),
// elsewhere hardly.
inline bool zero_where_dirty(void* memory, size_t bytes, size_t page_size) {
  constexpr size_t kAhead = 128;  // words
  auto* word = static_cast<uint64_t*>(memory);
  const uint64_t* const end = word + bytes / sizeof(uint64_t);
  bool dirty = false;
  size_t part = page_size - (address_of(memory) & (page_size - 1));
  for (; bytes > 0; bytes -= part, part = page_size) {
    if (part > bytes) part = bytes;
    if (part >= page_size / 4) __atomic_store_n(word, 0, __ATOMIC_RELAXED);
    auto* const stop = word + part / sizeof(uint64_t);
    // A line at a time: one branch for eight words, whose loads the compiler may join.
    for (; word + 8 <= stop; word += 8) {
      if (static_cast<size_t>(end - word) > kAhead) __builtin_prefetch(word + kAhead, 1);
      const uint64_t first = (word[0] | word[2]) | (word[4] | word[6]);
      const uint64_t second = (word[1] | word[3]) | (word[5] | word[7]);
      if ((first | second) != 0) [[unlikely]] {
        for (int i = 0; i < 8; ++i) word[i] = 0;
        dirty = true;
      }
    }
    for (; word < stop; word += 2) {
      if ((word[0] | word[1]) != 0) [[unlikely]] {
        word[0] = 0;
        word[1] = 0;
        dirty = true;
      }
    }
  }
  return dirty;
}

// 64-byte multiples, of memory that the program may be writing to.
NONREUSE_READS_ANY_MEMORY inline bool all_zero(const void* memory, size_t bytes) {
  const auto* word = static_cast<const uint64_t*>(memory);
  for (const uint64_t* const end = word + bytes / sizeof(uint64_t); word < end; word += 8) {
    const uint64_t first = (word[0] | word[2]) | (word[4] | word[6]);
    const uint64_t second = (word[1] | word[3]) | (word[5] | word[7]);
    if ((first | second) != 0) return false;
  }
  return true;
}

}  // namespace nonreuse
