/* Two threads allocate, two others free what they are handed: contents stay, nothing overlaps, nothing grows.
 */
#include "func.h"

#include <sched.h>

enum { kRing = 4096, kObjects = 400000 };
struct object {
  size_t size;
  unsigned char bytes[];
};
static _Atomic(struct object*) ring[2][kRing];

static void* producer(void* argument) {
  uintptr_t lane = (uintptr_t)argument;
  uint64_t state = 77 + lane;
  for (size_t i = 0; i < kObjects; ++i) {
    size_t size = next_random(&state) % 600 + 1;
    struct object* o = malloc(sizeof *o + size);
    CHECK(o != NULL);
    CHECK(!overlaps_held((char*)o, sizeof *o + size));
    o->size = size;
    memset(o->bytes, (int)size, size);
    while (atomic_load(&ring[lane][i % kRing]) != NULL) sched_yield();
    atomic_store(&ring[lane][i % kRing], o);
  }
  return NULL;
}

static void* consumer(void* argument) {
  uintptr_t lane = (uintptr_t)argument;
  for (size_t i = 0; i < kObjects; ++i) {
    struct object* o = NULL;
    while ((o = atomic_load(&ring[lane][i % kRing])) == NULL) sched_yield();
    atomic_store(&ring[lane][i % kRing], NULL);
    CHECK(o->bytes[0] == (unsigned char)o->size && o->bytes[o->size - 1] == (unsigned char)o->size);
    free(o);
  }
  return NULL;
}

int main(void) {
  hold_some();
  pthread_t threads[4];
  for (uintptr_t lane = 0; lane < 2; ++lane) {
    CHECK(pthread_create(&threads[lane], NULL, producer, (void*)lane) == 0);
    CHECK(pthread_create(&threads[2 + lane], NULL, consumer, (void*)lane) == 0);
  }
  for (int i = 0; i < 4; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  /* 800,000 objects of 300 bytes passed through; a few thousand were alive at a time. */
  size_t resident = resident_bytes();
  dprintf(1, "resident %zu\n", resident);
  CHECK(resident < (100u << 20));
  return 0;
}
