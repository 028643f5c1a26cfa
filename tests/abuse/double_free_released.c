/* Frees a chunk again after nothing pointed to it any more and its memory was released.
 * The address is kept complemented, which no sweep can recognise. */
#include "abuse.h"

static uintptr_t complement;

__attribute__((noinline)) static void allocate_and_free(void) {
  /* Live neighbours, so that the released run is this chunk alone. */
  static void* before;
  static void* after;
  before = malloc(3000);
  void* p = malloc(3000);
  after = malloc(3000);
  require(before && p && after, "out of memory");
  announce(p, p, 3008);
  complement = ~(uintptr_t)p;
  free(p);
}

int main(void) {
  allocate_and_free();
  scrub();
  sweep();
  sweep();
  free(hide((void*)~complement));
  return kSurvived;
}
