/* A double free in the last round of thread-exit destructors, and a handler of SIGABRT that allocates, frees
 * and forks, as crash reporters do: nothing may hang, in the parent or in the child. */
#include <limits.h>
#include <signal.h>
#include <sys/wait.h>

#include "func.h"

static pthread_key_t key;

static void on_abort(int signal) {
  (void)signal;
  free(malloc(100));
  pid_t child = fork();
  if (child == 0) {
    free(malloc(100));
    _exit(3);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) _exit(1);
  _exit(WIFEXITED(status) && WEXITSTATUS(status) == 3 ? 0 : 2);
}

static void at_thread_exit(void* value) {
  static _Thread_local int round = 0;
  if (++round <= PTHREAD_DESTRUCTOR_ITERATIONS) pthread_setspecific(key, value);
  if (round < PTHREAD_DESTRUCTOR_ITERATIONS) return;
  char* p = malloc(100);
  free(p);
  free(p); /* misuse, under the front that ending threads share */
}

static void* body(void* unused) {
  pthread_setspecific(key, &key);
  free(malloc(10));
  return unused;
}

int main(void) {
  free(malloc(3)); /* the library makes its own key now, so that its destructors run first */
  signal(SIGABRT, on_abort);
  pthread_key_create(&key, at_thread_exit);
  pthread_t thread;
  if (pthread_create(&thread, NULL, body, NULL) != 0) return 4;
  pthread_join(thread, NULL);
  return 5; /* the double free was not noticed */
}
