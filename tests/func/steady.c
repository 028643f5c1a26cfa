/* Steady churn of four threads: resident memory and address space in use stay where they were. */
#include "func.h"

int main(void) {
  hold_some();
  size_t early = 0;
  for (int round = 0; round < 12; ++round) {
    churn_in_threads(4, 48u << 20);
    if (round == 3) early = resident_bytes();
  }
  size_t late = resident_bytes();
  dprintf(1, "resident %zu then %zu\n", early, late);
  CHECK(late < early + (16u << 20));
  return 0;
}
