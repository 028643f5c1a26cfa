/* A program that tracks writes to memory of its own, by userfaultfd as sweeps beside the threads do, has the
 * only pointer to a freed chunk there, in a page that it has protected since. That page was not written
 * since, but no sweep has read it either: it must not be taken for one that a sweep has armed. */
#include "func.h"

#include <dlmalloc_nonreuse.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

enum { kSize = 1000, kLive = 10000, kAgain = 50000 };
static const size_t kBytes = 4 << 20;
/* Older headers lack these. */
static const unsigned long long kAsynchronous = 1ull << 15;
static const unsigned long kProtect = _IOWR(0xAA, 0x06, unsigned long long[3]);

#pragma weak nonreuse_get_statistics

static volatile uintptr_t hidden; /* the complement: the address itself stands in the mapping alone */

static char** slot_in(char* memory) {
  return (char**)(memory + kBytes / 2);
}

__attribute__((noinline)) static void put(char* memory) {
  char* chunk = malloc(kSize);
  hidden = ~(uintptr_t)chunk;
  *slot_in(memory) = chunk;
}

__attribute__((noinline)) static void drop(char* memory) {
  free(*slot_in(memory));
}

/* Nothing of either is left on the stack. */
__attribute__((noinline)) static void overwrite_stack(void) {
  volatile char below[16384];
  for (size_t i = 0; i < sizeof below; ++i) below[i] = 0;
}

static bool track(char* memory) {
  const int faults = (int)syscall(SYS_userfaultfd, O_CLOEXEC | 1);
  struct uffdio_api api = {.api = UFFD_API, .features = kAsynchronous};
  struct uffdio_register all = {.range = {(uintptr_t)memory, kBytes}, .mode = 2};
  const unsigned long long protect[3] = {(uintptr_t)memory, kBytes, 1};
  return faults >= 0 && ioctl(faults, UFFDIO_API, &api) == 0 && ioctl(faults, UFFDIO_REGISTER, &all) == 0 &&
         ioctl(faults, kProtect, protect) == 0;
}

int main(void) {
  char* memory = mmap(NULL, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  memset(memory, 1, kBytes);
  for (int i = 0; i < kLive; ++i) { /* something to read beside the program */
    char* live = malloc(kSize);
    if (live != NULL) memset(live, 1, kSize);
  }
  put(memory);
  if (!track(memory)) return skip("writes cannot be tracked here");
  drop(memory);
  overwrite_stack();
  for (int i = 0; i < 3; ++i) sweep();
  struct nonreuse_statistics seen = {0};
  if (nonreuse_get_statistics) nonreuse_get_statistics(&seen);
  if (seen.concurrent_sweeps == 0) return skip("sweeps do not read beside the program here");
  for (int i = 0; i < kAgain; ++i) CHECK(malloc(kSize) != (char*)~hidden);
  CHECK(*slot_in(memory) == (char*)~hidden);
  return 0;
}
