/* Drops its privileges while threads churn; what is referenced is not reused. */
#include "func.h"

#include <grp.h>

int main(void) {
  if (geteuid() != 0) return skip("changing the user needs root");
  hold_some();
  churners_start(3);
  churn_once(16 << 20, 1);
  sweep();
  /* Threads that take the C library's signal for this may hold a lock that a sweep waits for. */
  for (int i = 0; i < 100; ++i) CHECK(setresuid(0, 0, 0) == 0);
  CHECK(setgroups(0, NULL) == 0);
  CHECK(setresgid(65534, 65534, 65534) == 0);
  CHECK(setresuid(65534, 65534, 65534) == 0);
  for (int i = 0; i < 5; ++i) {
    churn_once(16 << 20, 2);
    sweep();
  }
  churners_end();
  return 0;
}
