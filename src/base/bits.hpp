// Runs of bits in flat arrays of 64-bit words.
#pragma once

#include <bit>

#include "base/types.hpp"

namespace nonreuse::bits {

constexpr uint64_t kAll = ~uint64_t{0};

// Bits [from, to) of one word, 0 <= from < to <= 64.
constexpr uint64_t mask(unsigned from, unsigned to) {
  return (kAll << from) & (kAll >> (64 - to));
}

// Of bits that are set. Where the processor's instruction for it may not be counted on, which is so for
// x86-64, g++'s own is a call and a table.
constexpr unsigned count(uint64_t word) {
  constexpr uint64_t kOdd = 0x5555555555555555, kPairs = 0x3333333333333333, kNibbles = 0x0f0f0f0f0f0f0f0f;
  word -= word >> 1 & kOdd;
  word = (word & kPairs) + (word >> 2 & kPairs);
  return static_cast<unsigned>(((word + (word >> 4)) & kNibbles) * 0x0101010101010101 >> 56);
}

inline bool test(const uint64_t* words, uint64_t bit) {
  return (words[bit >> 6] >> (bit & 63) & 1) != 0;
}

// Calls f(word_index, mask) for each word that [start, start + length) touches; `length` is not 0.
template <class F>
inline void for_each_word(uint64_t start, uint64_t length, F&& f) {
  uint64_t word = start >> 6;
  const uint64_t end = start + length;
  const uint64_t last = (end - 1) >> 6;
  unsigned from = start & 63;
  for (; word < last; ++word, from = 0) f(word, kAll << from);
  f(last, mask(from, static_cast<unsigned>(end - (last << 6))));
}

inline void set(uint64_t* words, uint64_t start, uint64_t length) {
  for_each_word(start, length, [&](uint64_t w, uint64_t m) { words[w] |= m; });
}

inline void clear(uint64_t* words, uint64_t start, uint64_t length) {
  for_each_word(start, length, [&](uint64_t w, uint64_t m) { words[w] &= ~m; });
}

// Any bit of the range set.
inline bool any(const uint64_t* words, uint64_t start, uint64_t length) {
  uint64_t found = 0;
  for_each_word(start, length, [&](uint64_t w, uint64_t m) { found |= words[w] & m; });
  return found != 0;
}

inline bool all(const uint64_t* words, uint64_t start, uint64_t length) {
  uint64_t missing = 0;
  for_each_word(start, length, [&](uint64_t w, uint64_t m) { missing |= ~words[w] & m; });
  return missing == 0;
}

// First clear bit at or after `start`, at most `limit`.
inline uint64_t find_clear(const uint64_t* words, uint64_t start, uint64_t limit) {
  if (start >= limit) return limit;
  uint64_t word = start >> 6;
  uint64_t inverted = ~words[word] & (kAll << (start & 63));
  while (inverted == 0) {
    if (++word << 6 >= limit) return limit;
    inverted = ~words[word];
  }
  const uint64_t found = (word << 6) + static_cast<unsigned>(std::countr_zero(inverted));
  return found < limit ? found : limit;
}

// First set bit at or after `start`, at most `limit`.
inline uint64_t find_set(const uint64_t* words, uint64_t start, uint64_t limit) {
  if (start >= limit) return limit;
  uint64_t word = start >> 6;
  uint64_t found_bits = words[word] & (kAll << (start & 63));
  while (found_bits == 0) {
    if (++word << 6 >= limit) return limit;
    found_bits = words[word];
  }
  const uint64_t found = (word << 6) + static_cast<unsigned>(std::countr_zero(found_bits));
  return found < limit ? found : limit;
}

// Start of the run of set bits that ends (exclusively) at `end`; looks back at most `most` bits.
inline uint64_t run_start_before(const uint64_t* words, uint64_t end, uint64_t most) {
  uint64_t start = end;
  while (start > 0 && end - start < most) {
    const uint64_t word = (start - 1) >> 6;
    const unsigned upto = static_cast<unsigned>(start - (word << 6));  // 1..64
    const uint64_t inverted = ~words[word] & mask(0, upto);
    if (inverted != 0) {
      start = (word << 6) + 64 - static_cast<unsigned>(std::countl_zero(inverted));
      break;
    }
    start = word << 6;
  }
  return start;
}

}  // namespace nonreuse::bits
