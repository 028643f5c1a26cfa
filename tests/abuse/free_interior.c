/* Frees an aligned address inside a live chunk. */
#include "abuse.h"

int main(void) {
  char* p = malloc(100);
  announce(p + 16, p, 112);
  free(hide(p + 16));
  return kSurvived;
}
