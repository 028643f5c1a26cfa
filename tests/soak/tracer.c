/* tracer BEFORE WHILE COMMAND ARGUMENT...: what a debugger does to a program with threads.
 *
 * Starts the command, attaches to all of its threads after BEFORE milliseconds (and to those that start
 * later), lets them run for WHILE milliseconds, and detaches. Prints "traced T threads, U stops by SIGURG",
 * and ends as the command does; with 77 where tracing is not permitted. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kMaxThreads = 256 };
static int threads[kMaxThreads];
static int thread_count;
static int urgent_stops;
static bool detaching;
static int final_status = -1;

static long now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool is_known(int tid) {
  for (int i = 0; i < thread_count; ++i) {
    if (threads[i] == tid) return true;
  }
  return false;
}
static void know(int tid) {
  if (!is_known(tid) && thread_count < kMaxThreads) threads[thread_count++] = tid;
}
static void forget(int tid) {
  for (int i = 0; i < thread_count; ++i) {
    if (threads[i] == tid) threads[i] = threads[--thread_count];
  }
}

/* One thread has changed. True when it was let go. */
static void handle(int tid, int status, int process) {
  if (WIFEXITED(status) || WIFSIGNALED(status)) {
    forget(tid);
    if (tid == process) final_status = status;
    return;
  }
  if (!WIFSTOPPED(status)) return;
  int signal = WSTOPSIG(status), event = status >> 16;
  know(tid);
  if (event == PTRACE_EVENT_STOP && !detaching && signal != SIGTRAP) {
    ptrace(PTRACE_LISTEN, tid, NULL, NULL); /* a group stop */
    return;
  }
  long pass = event != 0 ? 0 : signal;
  if (event == 0 && signal == SIGURG) ++urgent_stops;
  if (detaching) {
    ptrace(PTRACE_DETACH, tid, NULL, pass);
    forget(tid);
  } else {
    ptrace(PTRACE_CONT, tid, NULL, pass);
  }
}

/* Handles what has changed until `until`, or until no thread is left. */
static void serve(int process, long until) {
  while (now_ms() < until && thread_count > 0) {
    int status;
    int tid = waitpid(-1, &status, __WALL | WNOHANG);
    if (tid > 0) {
      handle(tid, status, process);
    } else {
      if (tid < 0 && errno == ECHILD) return;
      usleep(100);
    }
  }
}

/* Some of its threads may be somebody else's for a moment: the sweeper's helper's. False: not permitted. */
static bool attach_to_all(int process) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/task", process);
  const long patience = now_ms() + 3000;
  for (int complete_passes = 0; complete_passes < 2;) {
    bool refused = false, fresh = false;
    DIR* directory = opendir(path);
    if (directory == NULL) return true;
    for (struct dirent* entry; (entry = readdir(directory)) != NULL;) {
      int tid = atoi(entry->d_name);
      if (tid == 0 || is_known(tid)) continue;
      if (ptrace(PTRACE_SEIZE, tid, NULL, PTRACE_O_TRACECLONE) == 0) {
        know(tid);
        fresh = true;
      } else if (errno == EPERM) {
        refused = true;
      }
    }
    closedir(directory);
    if (refused && now_ms() > patience) return false;
    complete_passes = refused || fresh ? 0 : complete_passes + 1;
    serve(process, now_ms() + 2);
  }
  return true;
}

static void detach_from_all(int process) {
  detaching = true;
  for (int i = 0; i < thread_count; ++i) ptrace(PTRACE_INTERRUPT, threads[i], NULL, NULL);
  serve(process, now_ms() + 10000);
}

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  int process = fork();
  if (process == 0) {
    execvp(argv[3], argv + 3);
    _exit(127);
  }
  usleep((useconds_t)atoi(argv[1]) * 1000);
  if (!attach_to_all(process)) {
    kill(process, SIGKILL);
    printf("skipped: another process's threads may not be traced here\n");
    return 77;
  }
  int traced = thread_count;
  serve(process, now_ms() + atoi(argv[2]));
  detach_from_all(process);
  if (final_status == -1) waitpid(process, &final_status, 0);
  printf("traced %d threads, %d stops by SIGURG\n", traced, urgent_stops);
  if (WIFSIGNALED(final_status)) {
    printf("the command was killed by signal %d\n", WTERMSIG(final_status));
    return 1;
  }
  return WEXITSTATUS(final_status);
}
