/* Frees memory that came from mmap. */
#include "abuse.h"

int main(void) {
  free(malloc(10));
  void* p = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  require(p != MAP_FAILED, "no mapping");
  announce(p, p, 0);
  free(hide(p));
  return kSurvived;
}
