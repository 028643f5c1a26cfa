/* Small objects of ever changing sizes, released by many small sweeps, so that free memory is cut and joined
 * in every way: no two objects may share a byte, and calloc gives zero. argv[1]: rounds. */
#include "func.h"

enum { kSlots = 3000 };
static unsigned char* slots[kSlots];
static uint32_t sizes[kSlots];
static uint32_t marks[kSlots];

/* Every 4 bytes of the object say whose it is, so that not even a stray one is missed. */
static void mark(size_t slot, uint32_t value) {
  marks[slot] = value;
  for (size_t i = 0; i + 4 <= sizes[slot]; i += 4) memcpy(slots[slot] + i, &value, 4);
}
static void check_marks(size_t slot) {
  for (size_t i = 0; i + 4 <= sizes[slot]; i += 4) CHECK(memcmp(slots[slot] + i, &marks[slot], 4) == 0);
}

int main(int argc, char** argv) {
  int rounds = argc > 1 ? atoi(argv[1]) : 20;
  uint32_t next = 1;
  for (int round = 1; round <= rounds; ++round) {
    uint64_t state = (uint64_t)round * 0x9e3779b97f4a7c15u;
    /* Another mix and another beat of sweeps each round. */
    size_t largest = (size_t)64 << (round % 6);
    size_t beat = 500 + next_random(&state) % 5000;
    size_t used = 100 + next_random(&state) % (kSlots - 100);
    for (size_t i = 0; i < 40000; ++i) {
      size_t slot = next_random(&state) % used;
      if (slots[slot] != NULL) check_marks(slot);
      free(slots[slot]);
      size_t size = next_random(&state) % largest + 4;
      /* Sizes at the edge between what a thread carves for itself and what comes from the heap. */
      if (next_random(&state) % 6 == 0) size = 985 + next_random(&state) % 40;
      if (next_random(&state) % 16 == 0) size = next_random(&state) % 9000 + 4;
      if (next_random(&state) % 256 == 0) size = next_random(&state) % 200000 + 4;
      bool zero = next_random(&state) % 8 == 0;
      slots[slot] = zero ? calloc(1, size) : malloc(size);
      CHECK(slots[slot] != NULL);
      for (size_t k = 0; zero && k < size; ++k) CHECK(slots[slot][k] == 0);
      sizes[slot] = (uint32_t)size;
      mark(slot, next++);
      if (i % beat == beat - 1) sweep();
    }
    /* Free most of it, from one end, from the other, or here and there. */
    for (size_t i = 0; i < kSlots; ++i) {
      if (slots[i] == NULL || (round % 3 == 0 ? i % 3 == 0 : round % 3 == 1 ? i > 2500 : i < 500)) continue;
      check_marks(i);
      free(slots[i]);
      slots[i] = NULL;
    }
    sweep();
  }
  return 0;
}
