/* Frees an address that is a multiple of 8, not of 16. */
#include "abuse.h"

int main(void) {
  char* p = malloc(100);
  announce(p + 8, p, 112);
  free(hide(p + 8));
  return kSurvived;
}
