/* One thread frees, then another one frees the same chunk. */
#include "abuse.h"

static void* other(void* p) {
  free(p);
  return NULL;
}

int main(void) {
  void* p = malloc(40);
  announce(p, p, 48);
  pthread_t thread;
  require(pthread_create(&thread, NULL, other, p) == 0, "no thread");
  pthread_join(thread, NULL);
  free(hide(p));
  return kSurvived;
}
