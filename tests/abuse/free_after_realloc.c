/* Frees the old address after realloc moved the object. */
#include "abuse.h"

int main(void) {
  void* p = malloc(24);
  void* blocker = malloc(24); /* keeps the chunk from growing in place */
  announce(p, p, 32);
  void* q = realloc(hide(p), 100000);
  require(q != NULL && q != hide(p), "realloc did not move the object");
  free(hide(p));
  free(blocker);
  return kSurvived;
}
