// Atomic operations on single bytes, for processors whose instructions know words alone. Compilers (g++
// before 13 on riscv64) call these functions, which are libatomic's; the library links with libc alone, so it
// brings its own: a byte is changed by a compare-and-swap of the word around it.
#if defined(__riscv)

#include <cstdint>

#define NONREUSE_AS(name) __asm__(name) __attribute__((visibility("hidden")))

extern "C" {
bool nonreuse_compare_exchange_1(volatile void* memory, void* expected, uint8_t desired, int, int)
    NONREUSE_AS("__atomic_compare_exchange_1");
uint8_t nonreuse_exchange_1(volatile void* memory, uint8_t desired, int) NONREUSE_AS("__atomic_exchange_1");
}

namespace {

// The word around a byte, and where in it the byte lies (riscv64 is little-endian).
struct Place {
  explicit Place(volatile void* memory)
      : word(reinterpret_cast<volatile uint32_t*>(reinterpret_cast<uintptr_t>(memory) & ~uintptr_t{3})),
        shift((reinterpret_cast<uintptr_t>(memory) & 3) * 8) {}
  uint8_t in(uint32_t value) const { return static_cast<uint8_t>(value >> shift); }
  uint32_t with(uint32_t value, uint8_t byte) const {
    return (value & ~(uint32_t{0xff} << shift)) | uint32_t{byte} << shift;
  }
  bool swap(uint32_t& seen, uint8_t byte) const {
    return __atomic_compare_exchange_n(word, &seen, with(seen, byte), true, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
  }

  volatile uint32_t* word;
  unsigned shift;
};

}  // namespace

// The orders that callers ask for are all met by the strongest one.
bool nonreuse_compare_exchange_1(volatile void* memory, void* expected, uint8_t desired, int, int) {
  const Place place(memory);
  auto* wanted = static_cast<uint8_t*>(expected);
  uint32_t seen = __atomic_load_n(place.word, __ATOMIC_SEQ_CST);
  do {
    if (place.in(seen) != *wanted) {
      *wanted = place.in(seen);
      return false;
    }
  } while (!place.swap(seen, desired));
  return true;
}

uint8_t nonreuse_exchange_1(volatile void* memory, uint8_t desired, int) {
  const Place place(memory);
  uint32_t seen = __atomic_load_n(place.word, __ATOMIC_SEQ_CST);
  while (!place.swap(seen, desired)) {
  }
  return place.in(seen);
}

#endif
