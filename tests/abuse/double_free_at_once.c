/* Frees the same chunk twice in a row. */
#include "abuse.h"

int main(void) {
  void* p = malloc(24);
  announce(p, p, 32);
  free(p);
  free(hide(p));
  return kSurvived;
}
