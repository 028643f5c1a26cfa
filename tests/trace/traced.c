/* A program whose calls are known, for the tests of traces. What it allocates has sizes of its own, so that
 * the tests can tell its calls from the C library's. See trace_test.py for each mode. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kThreads = 4 };
static void* volatile sink;

static void pairs(long count, size_t size) {
  for (long i = 0; i < count; ++i) {
    void* volatile block = malloc(size);
    free(block);
  }
}

static void calls(void) {
  char* p = malloc(1001);
  char* q = calloc(3, 334);
  p = realloc(p, 2003);
  q = realloc(q, 1002);
  void* aligned = NULL;
  if (posix_memalign(&aligned, 256, 1003) != 0) abort();
  sink = realloc(NULL, 1004);
  sink = realloc(sink, 0); /* frees */
  free(NULL);
  sink = malloc((size_t)1 << 62); /* fails */
  free(p);
  free(q);
  free(aligned);
}

static void* thread_main(void* argument) {
  (void)argument;
  pairs(20000, 3000);
  return malloc(3001);
}

static void threads(void) {
  pthread_t all[kThreads];
  for (int i = 0; i < kThreads; ++i) pthread_create(&all[i], NULL, thread_main, NULL);
  for (int i = 0; i < kThreads; ++i) {
    void* block;
    pthread_join(all[i], &block);
    free(block);
  }
}

/* Blocks that another thread frees, as fast as can be. */
static void* volatile box;
static void* taker(void* argument) {
  for (long left = (long)argument; left > 0;) {
    void* block = __atomic_exchange_n(&box, NULL, __ATOMIC_ACQ_REL);
    if (block == NULL) {
      sched_yield();
      continue;
    }
    free(block);
    --left;
  }
  return NULL;
}
static void hand(long count) {
  pthread_t thread;
  pthread_create(&thread, NULL, taker, (void*)count);
  for (long i = 0; i < count; ++i) {
    void* block = malloc(500);
    while (__atomic_load_n(&box, __ATOMIC_RELAXED) != NULL) sched_yield();
    __atomic_store_n(&box, block, __ATOMIC_RELEASE);
  }
  pthread_join(thread, NULL);
}

static void* one_block(void* size) {
  return malloc((size_t)size);
}
static void churn(void) {
  for (int i = 0; i < 400; ++i) {
    pthread_t thread;
    pthread_create(&thread, NULL, one_block, (void*)3001);
    void* block;
    pthread_join(thread, &block);
    free(block);
  }
}

static void child_and_parent(int raw) {
  sink = malloc(2001);
  void* kept = malloc(2002);
  const pid_t child = raw ? (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : fork();
  if (child == 0) {
    free(kept);
    pairs(1000, 2004);
    _exit(0); /* no exit handlers */
  }
  pairs(1000, 2003);
  int status;
  waitpid(child, &status, 0);
  if (status != 0) abort();
}

int main(int count, char** arguments) {
  const char* mode = arguments[1];
  if (strcmp(mode, "calls") == 0) calls();
  if (strcmp(mode, "pairs") == 0) pairs(count > 2 ? atol(arguments[2]) : 40000, 3000);
  if (strcmp(mode, "threads") == 0) threads();
  if (strcmp(mode, "hand") == 0) hand(30000);
  if (strcmp(mode, "churn") == 0) churn();
  if (strcmp(mode, "fork") == 0) child_and_parent(0);
  if (strcmp(mode, "raw-fork") == 0) child_and_parent(1);
  if (strcmp(mode, "exec") == 0) {
    sink = malloc(2001);
    if (chdir("/") == 0) execl("/proc/self/exe", arguments[0], "calls", NULL);
    return 3;
  }
  if (strcmp(mode, "kill") == 0) {
    pairs(1000, 3000);
    raise(SIGKILL);
  }
  if (strcmp(mode, "closed") == 0) {
    pairs(1000, 3000);
    for (int i = 3; i < 1024; ++i) close(i);
    /* Files of the program take the numbers. */
    for (int i = 0; i < 300; ++i) {
      if (open(arguments[2], O_RDWR | O_CREAT, 0600) < 0) abort();
    }
    pairs(60000, 3000);
  }
  if (strcmp(mode, "limit") == 0) {
    const struct rlimit limit = {300000, 300000};
    setrlimit(RLIMIT_FSIZE, &limit);
    pairs(200000, 3000);
  }
  if (strcmp(mode, "free-twice") == 0) {
    void* block = malloc(1001);
    free(block);
    free(block);
  }
  puts("done");
  return 0;
}
