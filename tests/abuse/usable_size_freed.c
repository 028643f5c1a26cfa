/* Asks for the usable size of a freed chunk. */
#include "abuse.h"

int main(void) {
  void* p = malloc(24);
  announce(p, p, 32);
  free(p);
  size_t size = malloc_usable_size(hide(p));
  (void)hide((void*)size);
  return kSurvived;
}
