/* Allocates until there is no more, frees everything, and does so again: nothing is lost.
 * argv[1]: as-before, data-before (a limit that the program starts under), as-after, data-after (a limit set
 * while it runs; memory reserved earlier may lie outside it, then the program stops by itself). */
#include "func.h"

#include <sys/mman.h>
#include <sys/resource.h>

static const size_t kLimit = 512u << 20;
static const size_t kEnough = 1024u << 20; /* stop here where no limit shows */

struct block {
  struct block* next;
  size_t size;
};
static struct block* blocks;

/* Blocks of one size until there is no more, then smaller ones. Returns the bytes. */
static size_t allocate_all(bool* limited) {
  static const size_t kSizes[] = {1 << 20, 64 << 10, 3000, 100};
  size_t total = 0;
  *limited = true;
  for (int s = 0; s < 4; ++s) {
    for (;;) {
      errno = 0;
      struct block* b = malloc(kSizes[s]);
      if (b == NULL) break;
      b->next = blocks;
      b->size = kSizes[s];
      blocks = b;
      total += kSizes[s];
      if (total >= kEnough) {
        *limited = false;
        return total;
      }
    }
    CHECK(errno == ENOMEM);
  }
  errno = 0;
  CHECK(calloc(1, 600u << 20) == NULL && errno == ENOMEM);
  void* out = NULL;
  CHECK(posix_memalign(&out, 4096, 600u << 20) == ENOMEM && out == NULL);
  /* realloc fails and keeps the object. */
  CHECK(realloc(blocks, 600u << 20) == NULL && blocks->size == 100);
  return total;
}

__attribute__((noinline)) static void free_all(void) {
  while (blocks != NULL) {
    struct block* next = blocks->next;
    free(blocks);
    blocks = next;
  }
}

int main(int argc, char** argv) {
  CHECK(argc >= 2);
  bool data = strncmp(argv[1], "data", 4) == 0;
  bool before = strstr(argv[1], "before") != NULL;
  if (argc == 2) {
    churn_once(1 << 20, 1);
    struct rlimit limit = {kLimit, kLimit};
    CHECK(setrlimit(data ? RLIMIT_DATA : RLIMIT_AS, &limit) == 0);
    if (before) {
      execl("/proc/self/exe", argv[0], argv[1], "limited", (char*)NULL);
      return 1;
    }
  }
  hold_some();
  size_t first = 0;
  for (int round = 0; round < 4; ++round) {
    bool limited = false;
    size_t total = allocate_all(&limited);
    dprintf(1, "round %d: %zu bytes%s\n", round, total, limited ? "" : ", no limit seen");
    if (before) CHECK(limited && total >= kLimit / 4 && total <= kLimit);
    if (round == 0) first = total;
    CHECK(total >= first / 10 * 9);
    free_all();
    sweep();
    sweep();
    churn_once(8 << 20, (uint64_t)round);
  }
  return 0;
}
