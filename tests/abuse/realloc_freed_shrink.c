/* Reallocates a freed chunk to a smaller size, which could have been served in place. */
#include "abuse.h"

int main(void) {
  void* p = malloc(1000);
  announce(p, p, 1008);
  free(p);
  void* q = realloc(hide(p), 10);
  (void)hide(q);
  return kSurvived;
}
