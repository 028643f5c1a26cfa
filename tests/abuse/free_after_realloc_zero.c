/* realloc(p, 0) frees p, as in glibc; freeing it once more is a double free. */
#include "abuse.h"

int main(void) {
  void* p = malloc(24);
  announce(p, p, 32);
  void* q = realloc(hide(p), 0);
  require(q == NULL, "realloc(p, 0) did not free");
  free(hide(p));
  return kSurvived;
}
