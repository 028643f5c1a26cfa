/* Forks a hundred times while four threads churn. Each child checks what it inherited, frees it, sweeps,
 * starts threads that allocate, forks once more now and then, and ends in one of the two ways. With the
 * argument "sweeping" two threads sweep without rest, so that forks fall into every state of a sweep, and in
 * the children, too. With "large" the threads take, cut, lengthen and free chunks whose sizes take several
 * tags to say; the children only exit, where a DEBUG=1 library looks for halves of sizes. A number as second
 * argument says how often to fork. */
#include "func.h"

#include <sys/wait.h>

enum { kForks = 100, kInherited = 500, kSeconds = 20 };
static unsigned char* inherited[kInherited];

static bool sweeping, large;
static atomic_bool sweepers_stop;
static pthread_t sweepers[2];

static void* sweep_on(void* seed) {
  struct churn c = {.state = (uintptr_t)seed * 0x9e3779b97f4a7c15u + 88172645463325252u};
  while (!atomic_load(&sweepers_stop)) {
    churn_some(&c, 1 + next_random(&c.state) % 20000);
    sweep();
  }
  churn_end(&c);
  return NULL;
}

static void sweepers_start(void) {
  atomic_store(&sweepers_stop, false);
  for (uintptr_t i = 0; sweeping && i < 2; ++i) {
    CHECK(pthread_create(&sweepers[i], NULL, sweep_on, (void*)(i + 31)) == 0);
  }
}

static void sweepers_end(void) {
  atomic_store(&sweepers_stop, true);
  for (int i = 0; sweeping && i < 2; ++i) CHECK(pthread_join(sweepers[i], NULL) == 0);
}

static void* resize_on(void* seed) {
  uint64_t state = (uintptr_t)seed * 0x9e3779b97f4a7c15u + 88172645463325252u;
  while (!atomic_load(&churners_stop)) {
    char* p = NULL;
    for (int i = 0; i < 4; ++i) { /* 57 granules and more: one tag says up to 62 */
      char* resized = realloc(p, 900 + next_random(&state) % 4000);
      CHECK(resized != NULL);
      p = resized;
    }
    free(p);
  }
  return NULL;
}

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
  if (large) exit(0);
  for (int i = 0; i < kInherited; ++i) {
    for (int k = 0; k < 100; ++k) CHECK(inherited[i][k] == (unsigned char)i);
    free(inherited[i]);
    inherited[i] = NULL;
  }
  sweepers_start();
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
  if (round % 3 != 0) sweepers_end(); /* else the process ends with them inside a sweep */
  if (round % 2 == 0) exit(0);
  _exit(0);
}

int main(int argc, char** argv) {
  sweeping = argc > 1 && strcmp(argv[1], "sweeping") == 0;
  large = argc > 1 && strcmp(argv[1], "large") == 0;
  const int forks = argc > 2 ? atoi(argv[2]) : sweeping ? kForks / 6 : kForks;
  CHECK(forks > 0);
  hold_some();
  if (large)
    churners_start_with(kMaxChurners, resize_on);
  else
    churners_start(sweeping ? 2 : 4);
  sweepers_start();
  for (int round = 0; round < forks; ++round) {
    if (sweeping) usleep((useconds_t)(round * 7919 % 3000));
    for (int i = 0; !large && i < kInherited; ++i) {
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
  sweepers_end();
  churners_end();
  return 0;
}
