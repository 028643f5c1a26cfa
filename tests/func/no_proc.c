/* Changes its root to an empty directory without /proc, and goes on churning: what is referenced is not
 * reused, memory stays bounded, and one line says what is missing. argv[1]: early, before anything was swept;
 * or busy, while threads churn and sweep. */
#include "func.h"

#include <sys/stat.h>

int main(int argc, char** argv) {
  if (geteuid() != 0) return skip("chroot needs root");
  bool early = argc > 1 && strcmp(argv[1], "early") == 0;
  bool busy = argc > 1 && strcmp(argv[1], "busy") == 0;
  hold_some();
  if (!early) {
    churn_in_threads(2, 16 << 20);
    sweep();
  }
  if (busy) churners_start(3);
  FILE* statm = fopen("/proc/self/statm", "r");
  CHECK(statm != NULL);
  char directory[] = "emptyXXXXXX"; /* in the folder that the test runs in */
  CHECK(mkdtemp(directory) != NULL);
  char outside[64] = "../";
  strcat(outside, directory);
  CHECK(chdir(directory) == 0 && rmdir(outside) == 0 && chroot(".") == 0);
  CHECK(access("/proc/self/maps", F_OK) != 0);
  if (busy) {
    for (int i = 0; i < 8; ++i) {
      churn_once(1u << 20, 3);
      sweep();
    }
    churners_end();
  }
  churn_once(64u << 20, 1);
  churn_in_threads(2, 64u << 20);
  sweep();
  churn_once(64u << 20, 2);
  unsigned long size = 0, resident = 0;
  CHECK(fscanf(statm, "%lu %lu", &size, &resident) == 2);
  dprintf(1, "resident %lu KiB\n", resident * 4);
  CHECK(resident * 4096 < (128u << 20));
  return 0;
}
