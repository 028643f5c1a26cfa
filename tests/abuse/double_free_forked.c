/* The parent frees, the child of a fork frees the same chunk again; the child's fate is passed on. */
#include "abuse.h"

#include <signal.h>
#include <sys/wait.h>

int main(void) {
  void* p = malloc(24);
  announce(p, p, 32);
  free(p);
  pid_t child = fork();
  require(child >= 0, "no fork");
  if (child == 0) {
    free(hide(p));
    _exit(kSurvived);
  }
  int status = 0;
  require(waitpid(child, &status, 0) == child, "no child");
  if (!WIFSIGNALED(status)) return kSurvived;
  signal(WTERMSIG(status), SIG_DFL);
  raise(WTERMSIG(status));
  return kBroken;
}
