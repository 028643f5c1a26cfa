/* Forks a hundred times while four threads churn. Each child checks what it inherited, frees it, sweeps,
 * starts threads that allocate, forks once more now and then, and ends in one of the two ways. */
#include "func.h"

#include <sys/wait.h>

enum { kForks = 100, kInherited = 500, kSeconds = 20 };
static unsigned char* inherited[kInherited];

static void wait_for(pid_t child, int round) {
  int status = 0;
  for (int i = 0; i < kSeconds * 1000; ++i) {
    pid_t ended = waitpid(child, &status, WNOHANG);
    CHECK(ended >= 0);
    if (ended == child) {
      if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        dprintf(1, "round %d: the child ended with status %#x\n", round, status);
        _exit(1);
      }
      return;
    }
    usleep(1000);
  }
  dprintf(1, "round %d: the child %d hangs\n", round, (int)child);
  _exit(1);
}

static void live_as_child(int round) {
  alarm(kSeconds + 5); /* never left behind */
  for (int i = 0; i < kInherited; ++i) {
    for (int k = 0; k < 100; ++k) CHECK(inherited[i][k] == (unsigned char)i);
    free(inherited[i]);
    inherited[i] = NULL;
  }
  churn_once(2 << 20, (uint64_t)round);
  sweep();
  churn_in_threads(2, 1 << 20);
  sweep();
  if (round % 10 == 0) {
    pid_t grandchild = fork();
    CHECK(grandchild >= 0);
    if (grandchild == 0) {
      churn_in_threads(2, 1 << 20);
      sweep();
      _exit(0);
    }
    wait_for(grandchild, round);
  }
  if (round % 2 == 0) exit(0);
  _exit(0);
}

int main(void) {
  hold_some();
  churners_start(4);
  for (int round = 0; round < kForks; ++round) {
    for (int i = 0; i < kInherited; ++i) {
      inherited[i] = malloc(100);
      CHECK(inherited[i] != NULL);
      memset(inherited[i], i, 100);
    }
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) live_as_child(round);
    for (int i = 0; i < kInherited; ++i) free(inherited[i]);
    wait_for(child, round);
  }
  churners_end();
  return 0;
}
