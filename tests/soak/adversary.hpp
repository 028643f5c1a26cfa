// The adversary: 64 freed chunks, of each the only reference goes from place to place without rest, while
// other threads allocate and free at full speed and sweeps run back to back. Nothing may be allocated over
// one of them, in any moment.
//
// A reference is a plain word, in one place at a time; for the length of a move, in a register as well. Who
// checks knows the chunks by the complements of their addresses, which descend as addresses ascend: two of
// these can be compared without either being turned back into an address, which a sweep would find.
//
// A function that has had a reference in its hands leaves nothing of it: places are emptied by exchange, and
// scratch registers and the dead stack are wiped at its end. What a compiler may copy is not passed between
// functions: they are given the word that holds the reference, never the reference.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "support/wipe_registers.hpp"

namespace adversary {

using support::wipe_registers;

using Word = std::atomic<uintptr_t>;
using PlainWord = volatile uintptr_t;

inline constexpr size_t kChunks = 64;
inline constexpr size_t kPool = 128;  // slots that everybody exchanges with: twice as many as references

enum class Mode { hop, mremap, remap, fork, read, recv, held };
inline constexpr const char* kModeNames[] = {"hop", "mremap", "remap", "fork", "read", "recv", "held"};

// Ends the process: something that is no verdict on the library.
[[noreturn]] void give_up(const char* what);
// Ends the process with a verdict.
[[noreturn]] void fail(const char* what);

inline uint64_t next_random(uint64_t& state) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state;
}

// ---- The chunks (adversary.cpp)

void* checked_malloc(size_t size);  // checked against all chunks
void check_fresh(const void* p);    // the same for what realloc gave
// Drops the reference in `hand`, and puts there one to a fresh chunk of the same size, freed.
void renew(Word& hand);
// A moment of something else: computes, allocates, sleeps.
void work(uint64_t& random);
// A slot of the pool.
Word& pool_slot(uint64_t random);
// Exchanges what is in `hand` with what is in `slot`.
void exchange(Word& hand, Word& slot);
// Exchanges with slots of the pool until the hand is empty.
void put_down(Word& hand, uint64_t& random);

// ---- The places (adversary_places.cpp)

// What one hopper has besides its hand. One for each.
struct Courier;
struct Hopper {
  uint64_t random;
  Word* own_global;
  Courier* courier;  // modes read and recv
};

// Takes the reference out of `hand`, keeps it in some place for a while, and brings it back (or, by courier,
// into the pool: then the hand is empty). The hand must not be empty.
void visit_some_place(Mode mode, Hopper& hopper, Word& hand);

Courier* start_courier(Mode mode, uint64_t seed);
void end_courier(Courier* courier);

// ---- Leaving no trace

// Zeroes the register of `value` itself; an assignment of 0 would be optimised away.
inline __attribute__((always_inline)) void forget(uintptr_t& value) {
#if defined(__x86_64__)
  asm volatile("xor %k0, %k0" : "+r"(value) : : "cc");
#else
  value = 0;
  asm volatile("" : "+r"(value));
#endif
}

// Zeroes scratch registers and the stack below the caller's frame.
void scrub();

}  // namespace adversary
