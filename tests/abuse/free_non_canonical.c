/* Frees an address that no user memory can have. */
#include "abuse.h"

int main(void) {
  announce((void*)0x8000123412341230u, NULL, 0);
  free(hide((void*)0x8000123412341230u));
  return kSurvived;
}
