/* Frees an aligned address inside a chunk that is freed already. */
#include "abuse.h"

int main(void) {
  char* p = malloc(100);
  announce(p + 32, p, 112);
  free(p);
  free(hide(p + 32));
  return kSurvived;
}
