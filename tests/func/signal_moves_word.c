/* One thread, and a signal handler that moves the only pointer to a freed chunk between two words far apart,
 * at 5 kHz, while the program churns and sweeps. If a sweep could be interrupted by the handler, it would
 * read each word while the pointer is in the other one, and the chunk would be handed out again. */
#include "func.h"

#include <signal.h>
#include <sys/time.h>

enum { kFar = 1 << 20, kSize = 200 };

static char* volatile words[kFar];
static volatile unsigned long moves;
static volatile uintptr_t hidden; /* the complement: the address itself stands in the words alone */

static void move(int signal) {
  (void)signal;
  const int from = words[0] != NULL ? 0 : kFar - 1;
  const int to = kFar - 1 - from;
  words[to] = words[from];
  words[from] = NULL;
  ++moves;
}

int main(void) {
  char* held = malloc(kSize);
  hidden = ~(uintptr_t)held;
  words[0] = held;
  free(held);
  held = NULL;
  /* Something in between that takes time to read. */
  for (int i = 1; i < kFar - 1; i += 8) words[i] = (char*)(uintptr_t)i;
  struct sigaction action = {.sa_handler = move, .sa_flags = SA_RESTART};
  CHECK(sigaction(SIGALRM, &action, NULL) == 0);
  const struct itimerval often = {{0, 200}, {0, 200}};
  CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
  for (int round = 0; round < 400000; ++round) {
    char* block = malloc(kSize);
    CHECK(block != NULL);
    const uintptr_t start = (uintptr_t)block, victim = ~hidden;
    CHECK(start + kSize <= victim || start >= victim + kSize);
    free(block);
  }
  const struct itimerval never = {{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &never, NULL);
  CHECK(moves > 10);
  puts("ok");
  return 0;
}
