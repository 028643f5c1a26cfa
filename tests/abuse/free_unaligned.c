/* Frees an address that no allocation can have. */
#include "abuse.h"

int main(void) {
  char* p = malloc(100);
  announce(p + 3, p, 112);
  free(hide(p + 3));
  return kSurvived;
}
