/* Whatever happens inside free, also a sweep, errno stays; so it does where malloc succeeds. */
#include "func.h"

int main(void) {
  hold_some();
  churners_start(2);
  uint64_t state = 99;
  static void* slots[1000];
  for (int i = 0; i < 400000; ++i) {
    uint64_t r = next_random(&state);
    errno = 1000 + i % 1000;
    free(slots[r % 1000]);
    CHECK(errno == 1000 + i % 1000);
    slots[r % 1000] = malloc((r >> 20) % 2000);
    CHECK(slots[r % 1000] != NULL);
    CHECK(errno == 1000 + i % 1000);
    if (i % 50000 == 0) {
      sweep();
      CHECK(errno == 1000 + i % 1000);
    }
  }
  churners_end();
  return 0;
}
