/* Frees an odd address on the stack. */
#include "abuse.h"

int main(void) {
  _Alignas(16) char local[64] = {0};
  announce(local + 5, local, 0);
  free(hide(local + 5));
  return kSurvived;
}
