/* Asks for the usable size of a variable on the stack. */
#include "abuse.h"

int main(void) {
  _Alignas(16) char local[64] = {0};
  announce(local, local, 0);
  size_t size = malloc_usable_size(hide(local));
  (void)hide((void*)size);
  return kSurvived;
}
