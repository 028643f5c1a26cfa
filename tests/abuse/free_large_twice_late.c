/* Frees a large chunk a second time after much else happened. */
#include "abuse.h"

static char* kept;

int main(void) {
  kept = malloc(5000000);
  memset(kept, 1, 5000000);
  announce(kept, kept, chunk_size(kept));
  free(kept);
  churn(64u << 20);
  sweep();
  free(hide(kept));
  return kSurvived;
}
