/* Frees a chunk of posix_memalign twice. */
#include "abuse.h"

int main(void) {
  void* p = NULL;
  require(posix_memalign(&p, 4096, 1000) == 0, "out of memory");
  announce(p, p, chunk_size(p));
  free(p);
  free(hide(p));
  return kSurvived;
}
