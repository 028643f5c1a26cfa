/* Frees a variable on the stack. */
#include "abuse.h"

int main(void) {
  _Alignas(16) char local[64] = {0};
  announce(local, local, 0);
  free(hide(local));
  return kSurvived;
}
