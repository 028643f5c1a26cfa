/* A protected program that sweeps, then waits until its standard input is closed.
 *   busy [THREADS]   with so many other threads that stand by
 * Prints "ready" when its figures do not change any more. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int malloc_revoke(void) __attribute__((weak));

static void* stand_by(void* argument) {
  (void)argument;
  pause();
  return NULL;
}

static void* volatile kept;

int main(int argc, char** argv) {
  const int threads = argc > 1 ? atoi(argv[1]) : 0;
  for (int i = 0; i < threads; ++i) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, stand_by, NULL) != 0) return 1;
  }
  kept = malloc(300000);
  memset(kept, 1, 300000);
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 2000; ++i) free(malloc(1000));
    if (malloc_revoke != NULL && malloc_revoke() != 0) return 2;
  }
  if (write(1, "ready\n", 6) != 6) return 3;
  char end;
  while (read(0, &end, 1) > 0) {
  }
  return 0;
}
