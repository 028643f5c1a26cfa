/* Frees the address one past the end of the requested size. */
#include "abuse.h"

int main(void) {
  char* p = malloc(32);
  announce(p + 32, p, 48);
  free(hide(p + 32));
  return kSurvived;
}
