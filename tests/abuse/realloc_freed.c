/* Reallocates a chunk that is freed. */
#include "abuse.h"

int main(void) {
  void* p = malloc(24);
  announce(p, p, 32);
  free(p);
  void* q = realloc(hide(p), 100);
  (void)hide(q);
  return kSurvived;
}
