/* Frees a large chunk twice. */
#include "abuse.h"

int main(void) {
  char* p = malloc(5000000);
  memset(p, 1, 5000000);
  announce(p, p, chunk_size(p));
  free(p);
  free(hide(p));
  return kSurvived;
}
