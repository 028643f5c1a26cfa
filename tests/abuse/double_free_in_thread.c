/* The main thread frees, then another thread frees the same chunk and is the one that is stopped. */
#include "abuse.h"

static void* other(void* p) {
  free(p);
  return NULL;
}

int main(void) {
  void* p = malloc(40);
  announce(p, p, 48);
  free(p);
  pthread_t thread;
  require(pthread_create(&thread, NULL, other, hide(p)) == 0, "no thread");
  pthread_join(thread, NULL);
  return kSurvived;
}
