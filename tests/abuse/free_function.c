/* Frees a function. */
#include "abuse.h"

int main(void) {
  announce((void*)(uintptr_t)&main, NULL, 0);
  free(hide((void*)(uintptr_t)&main));
  return kSurvived;
}
