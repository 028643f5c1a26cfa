/* The library changes nothing about signals: dispositions, masks and pending signals stay as they were, and
 * no child of its own is ever seen by wait(2). */
#include "func.h"

#include <signal.h>
#include <sys/wait.h>

/* Dispositions of every signal a program can set for itself. The two real-time signals below SIGRTMIN belong
 * to the C library. Where ptrace is not permitted the library takes SIGURG; then this test says so. */
static void dispositions(struct sigaction* actions) {
  for (int s = 1; s <= SIGRTMAX; ++s) {
    memset(&actions[s], 0, sizeof actions[s]);
    (void)sigaction(s, NULL, &actions[s]);
  }
}

static atomic_int children;
static void on_child(int number) {
  (void)number;
  atomic_fetch_add(&children, 1);
}

int main(void) {
  static struct sigaction before[128], after[128];
  CHECK(SIGRTMAX < 128);
  struct sigaction action = {.sa_handler = on_child};
  CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
  sigset_t mask, mask_after;
  sigemptyset(&mask);
  sigaddset(&mask, SIGUSR1);
  CHECK(pthread_sigmask(SIG_BLOCK, &mask, NULL) == 0);
  dispositions(before);
  hold_some();
  churners_start(3);
  for (int i = 0; i < 10; ++i) {
    churn_once(8 << 20, (uint64_t)i);
    sweep();
  }
  churners_end();
  dispositions(after);
  for (int s = 1; s < SIGRTMIN; ++s) {
    if (before[s].sa_handler != after[s].sa_handler) dprintf(1, "signal %d has another handler now\n", s);
    CHECK(before[s].sa_handler == after[s].sa_handler);
  }
  CHECK(pthread_sigmask(SIG_BLOCK, NULL, &mask_after) == 0);
  for (int s = 1; s < SIGRTMIN; ++s) CHECK(sigismember(&mask_after, s) == (s == SIGUSR1));
  CHECK(atomic_load(&children) == 0);
  CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
  return 0;
}
