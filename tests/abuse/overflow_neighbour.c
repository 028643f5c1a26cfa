/* Writes 64 bytes past the end of live objects into their live neighbours, then frees them all.
 * The program's own data is harmed, the heap is not: later objects neither overlap nor get lost. */
#include "abuse.h"

enum { kObjects = 2000 };
static unsigned char* objects[kObjects];

static bool is_object(const unsigned char* p) {
  for (int i = 0; i < kObjects; ++i) {
    if (objects[i] == p) return true;
  }
  return false;
}

int main(void) {
  int overflows = 0;
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < kObjects; ++i) {
      objects[i] = malloc(24);
      require(objects[i] != NULL, "out of memory");
    }
    /* Only where all 64 bytes belong to live objects: free memory is not to be written to. */
    for (int i = 0; i < kObjects; ++i) {
      unsigned char* p = objects[i];
      if (!is_object(p + 32) || !is_object(p + 64)) continue;
      memset(hide(p + 24), 0xff, 64);
      ++overflows;
    }
    for (int i = 0; i < kObjects; ++i) free(objects[i]);
    sweep();
    for (int i = 0; i < kObjects; ++i) {
      objects[i] = calloc(1, 24);
      require(objects[i] != NULL, "out of memory");
      for (int k = 0; k < 24; ++k) require(objects[i][k] == 0, "calloc gave memory that is not zero");
      memset(objects[i], i, 24);
    }
    for (int i = 0; i < kObjects; ++i) {
      for (int k = 0; k < 24; ++k) require(objects[i][k] == (unsigned char)i, "objects overlap");
    }
    for (int i = 0; i < kObjects; ++i) free(objects[i]);
  }
  require(overflows > 1000, "too few objects had neighbours");
  churn(64u << 20);
  return kSurvived;
}
