/* Frees a static variable. */
#include "abuse.h"

static _Alignas(16) char object[64];

int main(void) {
  free(malloc(10));
  announce(object, object, 0);
  free(hide(object));
  return kSurvived;
}
