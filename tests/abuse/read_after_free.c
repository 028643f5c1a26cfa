/* Reads freed chunks while nothing has been swept, and after sweeps: the bytes are zero, never the old ones
 * and never another object's. */
#include "abuse.h"

static unsigned char* objects[64];

int main(void) {
  static const size_t kSizes[] = {1, 24, 100, 1000, 4096, 40000};
  for (size_t s = 0; s < sizeof kSizes / sizeof *kSizes; ++s) {
    size_t size = kSizes[s];
    for (int i = 0; i < 64; ++i) {
      objects[i] = malloc(size);
      require(objects[i] != NULL, "out of memory");
      memset(objects[i], 0x77, malloc_usable_size(objects[i]));
    }
    for (int i = 0; i < 64; ++i) free(objects[i]);
    for (int round = 0; round < 3; ++round) {
      for (int i = 0; i < 64; ++i) {
        volatile unsigned char* stale = hide(objects[i]);
        for (size_t k = 0; k < size; ++k) require(stale[k] == 0, "a stale read saw something");
      }
      sweep();
      churn(8u << 20);
    }
  }
  return kSurvived;
}
