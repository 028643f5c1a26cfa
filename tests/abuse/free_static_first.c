/* Frees a static variable before the program has allocated anything. */
#include "abuse.h"

static _Alignas(16) char object[64];

int main(void) {
  announce(object, object, 0);
  free(hide(object));
  return kSurvived;
}
