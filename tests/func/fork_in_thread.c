/* Several threads fork at the same time, and churn in between. */
#include "func.h"

#include <sys/wait.h>

static void* forker(void* number) {
  for (int round = 0; round < 15; ++round) {
    churn_once(1 << 20, (uintptr_t)number);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      alarm(25);
      churn_once(1 << 20, 7);
      sweep();
      churn_in_threads(1, 1 << 20);
      _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  return NULL;
}

int main(void) {
  hold_some();
  pthread_t threads[4];
  for (uintptr_t i = 0; i < 4; ++i) CHECK(pthread_create(&threads[i], NULL, forker, (void*)i) == 0);
  for (int i = 0; i < 4; ++i) pthread_join(threads[i], NULL);
  return 0;
}
