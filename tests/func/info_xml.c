/* Writes malloc_info to standard output, while threads churn, for a parser to read. */
#include "func.h"

int main(void) {
  hold_some();
  churners_start(2);
  churn_once(16 << 20, 1);
  CHECK(malloc_info(0, stdout) == 0);
  fflush(stdout);
  churners_end();
  return 0;
}
