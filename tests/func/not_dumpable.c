/* A process that is not dumpable, as an ordinary user: /proc/self is closed to it and it may not be traced.
 * It goes on churning, what is referenced is not reused, and sweeps go on: threads are stopped by signals. */
#include "func.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/prctl.h>

int main(int argc, char** argv) {
  if (geteuid() != 0) return skip("changing the user needs root");
  bool early = argc > 1 && strcmp(argv[1], "early") == 0;
  hold_some();
  if (!early) {
    churn_in_threads(2, 16 << 20);
    sweep();
  }
  CHECK(setgroups(0, NULL) == 0 && setresgid(65534, 65534, 65534) == 0 &&
        setresuid(65534, 65534, 65534) == 0);
  CHECK(prctl(PR_SET_DUMPABLE, 0) == 0);
  CHECK(open("/proc/self/mem", O_RDONLY) < 0);
  churn_once(64u << 20, 1);
  churn_in_threads(3, 32u << 20);
  sweep();
  return 0;
}
