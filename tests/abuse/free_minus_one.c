/* Frees an error value, (void*)-1, as MAP_FAILED is. */
#include "abuse.h"

int main(void) {
  announce((void*)-1, NULL, 0);
  free(hide((void*)-1));
  return kSurvived;
}
