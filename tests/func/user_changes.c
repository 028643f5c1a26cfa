/* Drops its privileges while threads churn; what is referenced is not reused. */
#include "func.h"

#include <grp.h>

int main(void) {
  if (geteuid() != 0) return skip("changing the user needs root");
  hold_some();
  churners_start(3);
  churn_once(16 << 20, 1);
  sweep();
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
