/* Frees the last aligned address inside a live chunk of 300 MB. */
#include "abuse.h"

int main(void) {
  char* p = malloc(300000000);
  announce(p + 299999984, p, chunk_size(p));
  free(hide(p + 299999984));
  return kSurvived;
}
