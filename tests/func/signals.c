/* A timer interrupts the process a thousand times a second while four threads churn and sweep; others block
 * every signal, or sit in system calls that are restarted. */
#include "func.h"

#include <signal.h>
#include <sys/time.h>

static atomic_int ticks;
static int ends[2];
static atomic_bool interrupted;
static atomic_bool is_deaf, go_on;

static void on_alarm(int number) {
  (void)number;
  int saved = errno;
  atomic_fetch_add(&ticks, 1);
  errno = saved;
}

/* read(2) is restarted after a handler with SA_RESTART: it must not be seen to fail. */
static void* reader(void* unused) {
  char c;
  ssize_t length = read(ends[0], &c, 1);
  if (length != 1) atomic_store(&interrupted, true);
  return unused;
}

static void* deaf(void* unused) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, NULL);
  atomic_store(&is_deaf, true);
  while (!atomic_load(&go_on)) usleep(1000);
  churn_once(32 << 20, 9);
  return unused;
}

int main(void) {
  hold_some();
  CHECK(pipe(ends) == 0);
  struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
  CHECK(sigaction(SIGALRM, &action, NULL) == 0);
  pthread_t blocked, other;
  CHECK(pthread_create(&blocked, NULL, reader, NULL) == 0);
  struct itimerval timer = {{0, 1000}, {0, 1000}};
  CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
  CHECK(pthread_create(&other, NULL, deaf, NULL) == 0);
  while (!atomic_load(&is_deaf)) usleep(1000);
  sweep(); /* with a thread that no signal stops */
  atomic_store(&go_on, true);
  churners_start(4);
  for (int i = 0; i < 20; ++i) {
    churn_once(4 << 20, (uint64_t)i);
    sweep();
  }
  churners_end();
  CHECK(pthread_join(other, NULL) == 0);
  timer = (struct itimerval){{0, 0}, {0, 0}};
  CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
  CHECK(write(ends[1], "x", 1) == 1);
  CHECK(pthread_join(blocked, NULL) == 0);
  CHECK(!atomic_load(&interrupted));
  CHECK(atomic_load(&ticks) > 20);
  return 0;
}
