/* Reallocates an address inside a live chunk. */
#include "abuse.h"

int main(void) {
  char* p = malloc(100);
  announce(p + 16, p, 112);
  void* q = realloc(hide(p + 16), 200);
  (void)hide(q);
  return kSurvived;
}
