/* Frees a variable on another thread's stack, from that thread. */
#include "abuse.h"

static void* body(void* unused) {
  _Alignas(16) char local[64] = {0};
  announce(local, local, 0);
  free(hide(local));
  return unused;
}

int main(void) {
  pthread_t thread;
  require(pthread_create(&thread, NULL, body, NULL) == 0, "no thread");
  pthread_join(thread, NULL);
  return kSurvived;
}
