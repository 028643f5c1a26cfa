/* Two threads free the same chunk at the same moment: exactly one may succeed. The runner repeats it. */
#include "abuse.h"

#include <stdatomic.h>

static atomic_int ready;
static atomic_bool go;
static void* shared;

static void* racer(void* unused) {
  (void)unused;
  free(malloc(24)); /* the thread's own state exists before the race */
  atomic_fetch_add(&ready, 1);
  while (!atomic_load(&go)) {
  }
  free(shared);
  return NULL;
}

int main(void) {
  pthread_t threads[2];
  shared = malloc(24);
  announce(shared, shared, 32);
  for (int i = 0; i < 2; ++i) require(pthread_create(&threads[i], NULL, racer, NULL) == 0, "no thread");
  while (atomic_load(&ready) != 2) {
  }
  atomic_store(&go, true);
  for (int i = 0; i < 2; ++i) pthread_join(threads[i], NULL);
  return kSurvived;
}
