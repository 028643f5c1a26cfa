/* Writes up to 15 bytes past the end of each object, frees everything, and goes on: nothing may be harmed. */
#include "abuse.h"

enum { kObjects = 2000 };
static unsigned char* objects[kObjects];

static void fill(size_t size) {
  for (int i = 0; i < kObjects; ++i) {
    objects[i] = malloc(size);
    require(objects[i] != NULL, "out of memory");
  }
}

int main(void) {
  for (int round = 0; round < 20; ++round) {
    size_t size = (size_t)(8 + round * 7);
    fill(size);
    /* The chunk's last byte at most: what lies behind is another object. */
    for (int i = 0; i < kObjects; ++i) {
      memset(objects[i], i, malloc_usable_size(objects[i]) + 1);
    }
    for (int i = 0; i < kObjects; ++i) {
      for (size_t k = 0; k < size; ++k) require(objects[i][k] == (unsigned char)i, "objects overlap");
      free(objects[i]);
    }
    sweep();
  }
  churn(64u << 20);
  return kSurvived;
}
