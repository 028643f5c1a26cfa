/* A little of everything under the preloaded library, whatever its settings: blocks of all sizes, realloc,
 * threads (unless the library takes no locks), a process of its own. Contents must survive. */
#include <dlmalloc_nonreuse.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kBlocks = 500, kRounds = 60000 };

static void require(int condition, const char* what) {
  if (condition) return;
  fprintf(stderr, "failed: %s\n", what);
  abort();
}

static void* churn(void* argument) {
  unsigned state = 12345u + (unsigned)(size_t)argument;
  unsigned char* blocks[kBlocks] = {0};
  size_t sizes[kBlocks] = {0};
  for (int round = 0; round < kRounds; ++round) {
    state = state * 1103515245u + 12345u;
    unsigned slot = (state >> 8) % kBlocks;
    size_t size = 1 + (state >> 16) % (round % 1000 == 0 ? 300000 : 800);
    unsigned char* old = blocks[slot];
    if (old != NULL)
      require(old[0] == (unsigned char)slot && old[sizes[slot] - 1] == (unsigned char)slot, "contents");
    if (round % 7 == 0) {
      blocks[slot] = realloc(old, size);
      require(blocks[slot] != NULL, "realloc");
      if (old != NULL) require(blocks[slot][0] == (unsigned char)slot, "contents after realloc");
    } else {
      free(old);
      blocks[slot] = malloc(size);
      require(blocks[slot] != NULL, "malloc");
    }
    memset(blocks[slot], (int)slot, size);
    sizes[slot] = size;
  }
  for (int slot = 0; slot < kBlocks; ++slot) free(blocks[slot]);
  return NULL;
}

int main(void) {
  churn(NULL);
  if (USE_LOCKS) {
    pthread_t threads[3];
    for (size_t i = 0; i < 3; ++i) require(pthread_create(&threads[i], NULL, churn, (void*)i) == 0, "thread");
    for (size_t i = 0; i < 3; ++i) pthread_join(threads[i], NULL);
  }
  pid_t child = fork();
  if (child == 0) {
    churn(NULL);
    _exit(0);
  }
  int status = 1;
  require(waitpid(child, &status, 0) == child && status == 0, "the child of a fork");
#if MALLOC_UTRACE
  require(unlink("nonreuse.trace") == 0, "the trace is there");
#else
  require(access("nonreuse.trace", F_OK) != 0, "there is no trace");
#endif
  puts("done");
  return 0;
}
