/* Frees a chunk again after much else happened; the stale pointer has kept it in quarantine. */
#include "abuse.h"

static void* kept;

int main(void) {
  kept = malloc(1000);
  announce(kept, kept, 1008);
  free(kept);
  churn(64u << 20);
  sweep();
  churn(64u << 20);
  free(hide(kept));
  return kSurvived;
}
