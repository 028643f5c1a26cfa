/* vfork, posix_spawn, system and popen while four threads churn. */
#include "func.h"

#include <spawn.h>
#include <sys/wait.h>

extern char** environ;

static void expect_exit(pid_t child, int expected) {
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == expected);
}

int main(void) {
  hold_some();
  churners_start(4);
  char* truth[] = {(char*)"true", NULL};
  for (int i = 0; i < 200; ++i) {
    pid_t child = 0;
    CHECK(posix_spawn(&child, "/bin/true", NULL, NULL, truth, environ) == 0);
    expect_exit(child, 0);
  }
  for (int i = 0; i < 50; ++i) {
    pid_t child = vfork();
    CHECK(child >= 0);
    if (child == 0) {
      if (i % 2 == 0) _exit(7);
      execve("/bin/false", truth, environ);
      _exit(8);
    }
    expect_exit(child, i % 2 == 0 ? 7 : 1);
  }
  for (int i = 0; i < 20; ++i) {
    int status = system("exit 3");
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3);
    FILE* pipe = popen("echo word", "r");
    char text[16] = {0};
    CHECK(pipe != NULL && fgets(text, sizeof text, pipe) != NULL && strcmp(text, "word\n") == 0);
    CHECK(pclose(pipe) == 0);
  }
  churners_end();
  return 0;
}
