/* Makes and joins 2000 threads, each of which allocates and frees: nothing grows. */
#include "func.h"

enum { kThreads = 2000, kAtOnce = 4 };

static void* body(void* number) {
  void* objects[100];
  for (size_t i = 0; i < 100; ++i) {
    objects[i] = malloc(16 + i * 37);
    CHECK(objects[i] != NULL);
    memset(objects[i], (int)i, 16 + i * 37);
  }
  void* large = malloc(200000);
  CHECK(large != NULL);
  memset(large, 1, 200000);
  for (size_t i = 0; i < 100; ++i) free(objects[i]);
  free(large);
  return number;
}

int main(void) {
  size_t early_resident = 0, early_arena = 0;
  for (int made = 0; made < kThreads; made += kAtOnce) {
    pthread_t threads[kAtOnce];
    for (int i = 0; i < kAtOnce; ++i) CHECK(pthread_create(&threads[i], NULL, body, NULL) == 0);
    for (int i = 0; i < kAtOnce; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
    if (made == kThreads / 4) {
      early_resident = resident_bytes();
      early_arena = mallinfo2().arena;
    }
  }
  size_t resident = resident_bytes(), arena = mallinfo2().arena;
  dprintf(1, "resident %zu then %zu, arena %zu then %zu\n", early_resident, resident, early_arena, arena);
  CHECK(resident < early_resident + (16u << 20));
  CHECK(arena < early_arena + (16u << 20));
  return 0;
}
