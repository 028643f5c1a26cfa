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

namespace adversary {

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

// Zeroes the registers that a call does not preserve.
inline __attribute__((always_inline)) void wipe_registers() {
#if defined(__x86_64__)
  asm volatile(
      "pxor %%xmm0, %%xmm0\n pxor %%xmm1, %%xmm1\n pxor %%xmm2, %%xmm2\n pxor %%xmm3, %%xmm3\n"
      "pxor %%xmm4, %%xmm4\n pxor %%xmm5, %%xmm5\n pxor %%xmm6, %%xmm6\n pxor %%xmm7, %%xmm7\n"
      "pxor %%xmm8, %%xmm8\n pxor %%xmm9, %%xmm9\n pxor %%xmm10, %%xmm10\n pxor %%xmm11, %%xmm11\n"
      "pxor %%xmm12, %%xmm12\n pxor %%xmm13, %%xmm13\n pxor %%xmm14, %%xmm14\n pxor %%xmm15, %%xmm15\n"
      "xor %%eax, %%eax\n xor %%ecx, %%ecx\n xor %%edx, %%edx\n xor %%esi, %%esi\n xor %%edi, %%edi\n"
      "xor %%r8d, %%r8d\n xor %%r9d, %%r9d\n xor %%r10d, %%r10d\n xor %%r11d, %%r11d\n" ::
          : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
            "xmm12", "xmm13", "xmm14", "xmm15", "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11",
            "cc", "memory");
#else
  asm volatile("" ::: "memory");
#endif
}

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
