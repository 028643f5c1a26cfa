/* unshare(CLONE_NEWUSER) and setns(2) work only in a process with one thread, whose memory no other process
 * shares: after many sweeps, which no helper may outlive, they still do; and sweeps go on. */
#include "func.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>

static bool is_permitted(void) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) _exit(unshare(CLONE_NEWUSER) == 0 ? 0 : 1);
  int status;
  CHECK(waitpid(child, &status, 0) == child);
  return status == 0;
}

/* Who has no name in the new namespace may make none within it. */
static void map_ids(const char* users, const char* groups) {
  const char* files[] = {"/proc/self/setgroups", "/proc/self/uid_map", "/proc/self/gid_map"};
  const char* texts[] = {"deny", users, groups};
  for (int i = 0; i < 3; ++i) {
    int fd = open(files[i], O_WRONLY);
    CHECK(fd >= 0 && write(fd, texts[i], strlen(texts[i])) > 0);
    close(fd);
  }
}

static void sweep_a_lot(void) {
  for (int i = 0; i < 20; ++i) {
    churn_once(1 << 20, (uint64_t)i);
    sweep();
  }
  churn_once(32 << 20, 77); /* sweeps by itself */
}

int main(int argc, char** argv) {
  bool threads_before = argc > 1 && strcmp(argv[1], "threads-before") == 0;
  if (!is_permitted()) return skip("unshare(CLONE_NEWUSER) is not permitted here");
  hold_some();
  /* Threads that have ended do not count, but what stopped them might. */
  if (threads_before) churn_in_threads(3, 16 << 20);
  sweep_a_lot();
  char users[64], groups[64];
  snprintf(users, sizeof users, "0 %u 1", geteuid());
  snprintf(groups, sizeof groups, "0 %u 1", getegid());
  CHECK(unshare(CLONE_NEWUSER) == 0);
  map_ids(users, groups);
  sweep_a_lot();
  CHECK(unshare(CLONE_NEWNS | CLONE_FS) == 0);
  /* Of a child's user namespace one may become a member likewise. */
  int ready[2], leave[2];
  CHECK(pipe(ready) == 0 && pipe(leave) == 0);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    char byte = unshare(CLONE_NEWUSER) == 0 ? 'y' : 'n';
    close(leave[1]);
    CHECK(write(ready[1], &byte, 1) == 1);
    _exit(read(leave[0], &byte, 1) == 0 ? 0 : 1);
  }
  char byte = 0;
  CHECK(read(ready[0], &byte, 1) == 1 && byte == 'y');
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/ns/user", (int)child);
  int fd = open(path, O_RDONLY);
  CHECK(fd >= 0);
  sweep_a_lot();
  CHECK(setns(fd, CLONE_NEWUSER) == 0);
  close(leave[1]);
  int status;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  sweep_a_lot();
  churn_in_threads(2, 8 << 20);
  sweep();
  return 0;
}
