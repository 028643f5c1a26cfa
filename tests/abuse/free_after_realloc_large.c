/* Frees the old address after realloc moved a large object. */
#include "abuse.h"

int main(void) {
  char* p = malloc(5000000);
  memset(p, 1, 5000000);
  size_t size = chunk_size(p);
  void* blocker = malloc(5000000);
  announce(p, p, size);
  void* q = realloc(hide(p), 50000000);
  require(q != NULL && q != hide(p), "realloc did not move the object");
  free(hide(p));
  free(blocker);
  return kSurvived;
}
