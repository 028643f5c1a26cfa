/* Programs that close every file they did not open themselves, as daemons do, and go on.
 * argv[1]: rest (from 3 on), all (standard streams, too), reused (their numbers are taken by the program's
 * own files), abort (a double free with no standard error: still the end). */
#include "func.h"

#include <fcntl.h>
#include <sys/mman.h>

int main(int argc, char** argv) {
  CHECK(argc == 2);
  hold_some();
  churn_in_threads(2, 8 << 20);
  sweep();
  bool all = strcmp(argv[1], "rest") != 0;
  for (int fd = all ? 0 : 3; fd < 4096; ++fd) close(fd);
  int files[16];
  if (strcmp(argv[1], "reused") == 0) {
    /* The program's own, now on every low number: nobody may write to, read from or close them. */
    for (int i = 0; i < 16; ++i) {
      files[i] = memfd_create("own", 0);
      if (files[i] != i) _exit(2);
    }
  }
  for (int round = 0; round < 4; ++round) {
    churn_in_threads(2, 16 << 20);
    churn_once(16 << 20, 5);
    sweep();
  }
  if (strcmp(argv[1], "reused") == 0) {
    for (int i = 0; i < 16; ++i) {
      if (lseek(files[i], 0, SEEK_END) != 0) _exit(3);
    }
  }
  if (strcmp(argv[1], "abort") == 0) {
    void* volatile p = malloc(10);
    free(p);
    free(p);
  }
  return 0;
}
