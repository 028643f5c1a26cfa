/* Loads, uses in two threads, and unloads a library that allocates, three hundred times, while threads churn.
 * argv[1]: the library. */
#include "func.h"

#include <dlfcn.h>

static int (*work)(int);

static void* use(void* unused) {
  CHECK(work(21) == 42);
  return unused;
}

int main(int argc, char** argv) {
  CHECK(argc == 2);
  hold_some();
  churners_start(2);
  size_t early = 0;
  for (int round = 0; round < 300; ++round) {
    void* library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    CHECK(library != NULL);
    *(void**)&work = dlsym(library, "plugin_work");
    CHECK(work != NULL);
    CHECK(work(5) == 10);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, use, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(dlclose(library) == 0);
    if (round % 50 == 0) sweep();
    if (round == 100) early = resident_bytes();
  }
  CHECK(resident_bytes() < early + (48u << 20));
  churners_end();
  return 0;
}
