/* Frees a small integer. */
#include "abuse.h"

int main(void) {
  announce((void*)8, NULL, 0);
  free(hide((void*)8));
  return kSurvived;
}
