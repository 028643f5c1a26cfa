/* Asks for the usable size at an address inside a chunk. */
#include "abuse.h"

int main(void) {
  char* p = malloc(100);
  announce(p + 48, p, 112);
  size_t size = malloc_usable_size(hide(p + 48));
  (void)hide((void*)size);
  return kSurvived;
}
