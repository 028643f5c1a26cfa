/* Reads a freed chunk of 5 MB: it traps, or the bytes are zero. */
#include "abuse.h"

static unsigned char* kept;

int main(void) {
  kept = malloc(5000000);
  require(kept != NULL, "out of memory");
  memset(kept, 0x77, 5000000);
  free(kept);
  churn(32u << 20);
  sweep();
  volatile unsigned char* stale = hide(kept);
  for (size_t k = 0; k < 5000000; ++k) require(stale[k] == 0, "a stale read saw something");
  return kSurvived;
}
