// What the benchmark programs share: numbers that are the same everywhere, the size of the work from the
// command line, and a checksum to print, so that two runs can be compared.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace bench {

// xorshift64*: fast, and the same on every machine.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ULL + 1) {}
  uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1dULL;
  }
  // From 0 to limit - 1.
  uint64_t below(uint64_t limit) { return (next() >> 32) * limit >> 32; }

 private:
  uint64_t state_;
};

// Sizes as programs ask for them: most are small, few are large; about half of them under `small` bytes.
inline size_t mixed_size(Random& random, size_t small) {
  const uint64_t kind = random.below(100);
  if (kind < 50) return 8 + random.below(small);
  if (kind < 85) return 8 + random.below(small * 4);
  if (kind < 98) return 8 + random.below(small * 16);
  return 8 + random.below(small * 128);
}

inline uint64_t mix(uint64_t sum, uint64_t value) {
  return (sum ^ value) * 0x100000001b3ULL;
}

// The argument at `place`, or `otherwise`.
inline long argument(int argc, char** argv, int place, long otherwise) {
  return argc > place ? std::atol(argv[place]) : otherwise;
}

// malloc that must succeed, of at least 8 bytes, with a word at both ends of the block that check() verifies
// (at its beginning alone if the block is shorter than two words).
inline void* marked(size_t size, uint64_t mark) {
  auto* block = static_cast<unsigned char*>(std::malloc(size));
  if (block == nullptr) {
    std::perror("malloc");
    std::exit(1);
  }
  std::memcpy(block, &mark, sizeof mark);
  if (size >= 2 * sizeof mark) std::memcpy(block + size - sizeof mark, &mark, sizeof mark);
  return block;
}

// Ends the program if the block's marks are gone. Returns the mark.
inline uint64_t check(const void* block, size_t size) {
  uint64_t first, last;
  std::memcpy(&first, block, sizeof first);
  if (size < 2 * sizeof first) return first;
  std::memcpy(&last, static_cast<const unsigned char*>(block) + size - sizeof last, sizeof last);
  if (first != last) {
    std::fprintf(stderr, "a block of %zu bytes was overwritten\n", size);
    std::exit(1);
  }
  return first;
}

inline void print_checksum(const char* name, uint64_t sum) {
  std::printf("%s %016llx\n", name, static_cast<unsigned long long>(sum));
}

}  // namespace bench
