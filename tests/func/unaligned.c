/* With the option unaligned=1 a word counts wherever it starts: also across the ends of the pieces in which
 * shared memory is copied before it is read, and across two mappings that touch. */
#include "func.h"

#include <sys/mman.h>

enum { kPiece = 64 * 1024, kPieces = 24, kWords = kPieces - 1, kSize = 48 };

/* The complement of what each word points to: no sweep takes it for a pointer. */
static uintptr_t secrets[kWords];
static char* area;

/* The word that starts 1 to 7 bytes before a piece ends. */
static char* place(int i) {
  return area + (size_t)(i + 1) * kPiece - 1 - i % 7;
}

__attribute__((noinline)) static void plant(void) {
  for (int i = 0; i < kWords; ++i) {
    char* p = malloc(kSize);
    CHECK(p != NULL);
    secrets[i] = ~(uintptr_t)p;
    memcpy(place(i), &p, sizeof p);
    free(p);
    p = NULL;
  }
}

/* How many chunks have memory that is handed out again. */
__attribute__((noinline)) static int reused(void) {
  static bool seen[kWords];
  memset(seen, 0, sizeof seen);
  for (int round = 0; round < 4; ++round) {
    churn_once(8 << 20, (uint64_t)round);
    sweep();
    for (int k = 0; k < 20000; ++k) {
      uintptr_t complement = ~(uintptr_t)malloc(kSize);
      for (int i = 0; i < kWords; ++i) {
        seen[i] = seen[i] || complement - secrets[i] + kSize - 1 < 2 * kSize - 1; /* they overlap */
      }
    }
  }
  int count = 0;
  for (int i = 0; i < kWords; ++i) count += seen[i];
  return count;
}

__attribute__((noinline)) static void scrub(void) {
  volatile char frame[16384];
  for (size_t i = 0; i < sizeof frame; ++i) frame[i] = 0;
}

int main(int argc, char** argv) {
  CHECK(argc == 2);
  bool touching = strcmp(argv[1], "mappings") == 0;
  int sharing = touching ? MAP_PRIVATE : MAP_SHARED;
  size_t bytes = (size_t)kPieces * kPiece;
  area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);
  CHECK(area != MAP_FAILED);
  /* Every other piece shared: neighbours are read in different ways. */
  for (int i = 0; touching && i < kPieces; i += 2) {
    CHECK(mmap(area + (size_t)i * kPiece, kPiece, PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
  }
  memset(area, 1, bytes);
  memset(area, 0, bytes);
  plant();
  scrub();
  int while_held = reused();
  if (while_held != 0) {
    dprintf(1, "%d of %d chunks were reused while a word pointed to them\n", while_held, kWords);
    return 1;
  }
  memset(area, 0, bytes);
  scrub();
  int after = reused();
  if (after < kWords - 2) {
    dprintf(1, "%d of %d chunks came back once no word pointed to them\n", after, kWords);
    return 1;
  }
  return 0;
}
