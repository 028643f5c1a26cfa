/* Writes into freed chunks, drops the pointers, and goes on: memory handed out later is zero all the same. */
#include "abuse.h"

enum { kObjects = 512 };
static unsigned char* objects[kObjects];
static unsigned char* later[20000];

int main(void) {
  static const size_t kSizes[] = {24, 100, 1000, 4096, 40000};
  for (size_t s = 0; s < sizeof kSizes / sizeof *kSizes; ++s) {
    size_t size = kSizes[s];
    for (int i = 0; i < kObjects; ++i) {
      objects[i] = malloc(size);
      require(objects[i] != NULL, "out of memory");
      memset(objects[i], 0x11, size);
    }
    for (int i = 0; i < kObjects; ++i) free(objects[i]);
    for (int i = 0; i < kObjects; ++i) {
      memset(hide(objects[i]), 0xee, size);
      objects[i] = NULL;
    }
    scrub();
    sweep();
    sweep();
    size_t count = (64u << 20) / size;
    if (count > sizeof later / sizeof *later) count = sizeof later / sizeof *later;
    for (size_t i = 0; i < count; ++i) {
      later[i] = calloc(1, size);
      require(later[i] != NULL, "out of memory");
      for (size_t k = 0; k < size; ++k) {
        require(later[i][k] == 0, "calloc gave memory that is not zero");
      }
    }
    for (size_t i = 0; i < count; ++i) free(later[i]);
  }
  churn(64u << 20);
  return kSurvived;
}
