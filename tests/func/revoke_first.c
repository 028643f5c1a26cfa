/* malloc_revoke before any free does nothing, and a small program stays alone: no thread is made for it. */
#include "func.h"

#include <dirent.h>

static int threads(void) {
  int count = 0;
  DIR* directory = opendir("/proc/self/task");
  CHECK(directory != NULL);
  for (struct dirent* entry; (entry = readdir(directory)) != NULL;) count += entry->d_name[0] != '.';
  closedir(directory);
  return count;
}

int main(void) {
  CHECK(malloc_revoke != NULL && malloc_is_revoking != NULL);
  errno = 4242;
  CHECK(malloc_revoke() == 0);
  CHECK(malloc_is_revoking() == 0);
  CHECK(errno == 4242);
  void* p = malloc(100);
  CHECK(malloc_revoke() == 0);
  CHECK(malloc_is_revoking() == 0);
  free(p);
  CHECK(threads() == 1);
  return 0;
}
