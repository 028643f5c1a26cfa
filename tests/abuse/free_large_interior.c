/* Frees an address inside a live chunk of 5 MB. */
#include "abuse.h"

int main(void) {
  char* p = malloc(5000000);
  announce(p + 65536, p, chunk_size(p));
  free(hide(p + 65536));
  return kSurvived;
}
