/* Frees an address of the heap's range that was never handed out. */
#include "abuse.h"

int main(void) {
  char* p = malloc(100);
  announce(p + (128u << 20), p, 112);
  free(hide(p + (128u << 20)));
  return kSurvived;
}
