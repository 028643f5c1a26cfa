/* What the functional test programs share: checks, churn that verifies itself, and a set of freed chunks that
 * a global array points to, which churn must never overlap.
 */
#pragma once

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int malloc_revoke(void) __attribute__((weak));
int malloc_is_revoking(void) __attribute__((weak));

enum { kSkip = 77 };

/* Says on standard output what failed, and ends the program: standard error belongs to the library. */
#define CHECK(condition)                                                                          \
  do {                                                                                            \
    if (!(condition)) {                                                                           \
      int error_ = errno;                                                                         \
      dprintf(1, "%s:%d: %s does not hold (errno %d)\n", __FILE__, __LINE__, #condition, error_); \
      _exit(1);                                                                                   \
    }                                                                                             \
  } while (0)

__attribute__((unused)) static int skip(const char* why) {
  dprintf(1, "skipped: %s\n", why);
  return kSkip;
}

__attribute__((unused)) static void sweep(void) {
  if (malloc_revoke) (void)malloc_revoke();
}

__attribute__((unused)) static uint64_t next_random(uint64_t* state) {
  *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
  return *state;
}

/* Resident and mapped memory of this process, in bytes. Uses no stdio: the heap is under test. */
__attribute__((unused)) static size_t statm_field(int field) {
  char text[256] = {0};
  FILE* file = fopen("/proc/self/statm", "r");
  CHECK(file != NULL);
  CHECK(fgets(text, sizeof text, file) != NULL);
  fclose(file);
  char* at = text;
  size_t pages = 0;
  for (int i = 0; i <= field; ++i) pages = strtoul(at, &at, 10);
  return pages * (size_t)sysconf(_SC_PAGESIZE);
}
__attribute__((unused)) static size_t resident_bytes(void) {
  return statm_field(1);
}
__attribute__((unused)) static size_t mapped_bytes(void) {
  return statm_field(0);
}

/* ---- freed chunks that stay referenced */

enum { kHeld = 64 };
static char* held[kHeld];
static const size_t kHeldSizes[] = {24, 100, 1000, 4096, 40000};
static size_t held_size(int i) {
  return kHeldSizes[i % 5];
}

__attribute__((unused)) static void hold_some(void) {
  for (int i = 0; i < kHeld; ++i) {
    held[i] = malloc(held_size(i));
    CHECK(held[i] != NULL);
  }
  for (int i = 0; i < kHeld; ++i) free(held[i]);
}

static bool overlaps_held(const char* p, size_t size) {
  for (int i = 0; i < kHeld; ++i) {
    if (held[i] != NULL && p < held[i] + held_size(i) && held[i] < p + size) return true;
  }
  return false;
}

/* ---- churn */

enum { kChurnSlots = 256 };
struct churn {
  unsigned char* slots[kChurnSlots];
  size_t sizes[kChurnSlots];
  uint64_t state;
};

__attribute__((unused)) static void churn_check(const unsigned char* p, size_t size, size_t slot) {
  CHECK(p[0] == (unsigned char)slot && p[size / 2] == (unsigned char)slot &&
        p[size - 1] == (unsigned char)slot);
}

/* Replaces objects until `bytes` were allocated; each is filled, checked before it is freed, and must not
 * overlap what is held. */
__attribute__((unused)) static void churn_some(struct churn* c, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    uint64_t r = next_random(&c->state);
    size_t slot = r % kChurnSlots;
    size_t size = ((size_t)16 << ((r >> 8) % 9)) + (r >> 20) % 16;
    if ((r >> 30) % 512 == 0) size = 40000 + (r >> 40) % 400000;
    if (c->slots[slot] != NULL) {
      churn_check(c->slots[slot], c->sizes[slot], slot);
      free(c->slots[slot]);
    }
    c->slots[slot] = malloc(size);
    CHECK(c->slots[slot] != NULL);
    CHECK(!overlaps_held((char*)c->slots[slot], size));
    memset(c->slots[slot], (int)slot, size);
    c->sizes[slot] = size;
    done += size;
  }
}

__attribute__((unused)) static void churn_end(struct churn* c) {
  for (size_t slot = 0; slot < kChurnSlots; ++slot) {
    if (c->slots[slot] != NULL) churn_check(c->slots[slot], c->sizes[slot], slot);
    free(c->slots[slot]);
    c->slots[slot] = NULL;
  }
}

__attribute__((unused)) static void churn_once(size_t bytes, uint64_t seed) {
  struct churn c = {.state = seed * 0x9e3779b97f4a7c15u + 88172645463325252u};
  churn_some(&c, bytes);
  churn_end(&c);
}

/* Threads that churn until they are told to stop. */
enum { kMaxChurners = 16 };
static pthread_t churners[kMaxChurners];
static int churner_count;
static atomic_bool churners_stop;

static void* churner(void* seed) {
  struct churn c = {.state = (uintptr_t)seed * 0x9e3779b97f4a7c15u + 88172645463325252u};
  while (!atomic_load(&churners_stop)) churn_some(&c, 1 << 20);
  churn_end(&c);
  return NULL;
}

__attribute__((unused)) static void churners_start_with(int count, void* (*body)(void* seed)) {
  atomic_store(&churners_stop, false);
  for (churner_count = 0; churner_count < count; ++churner_count) {
    void* seed = (void*)(uintptr_t)(churner_count + 1);
    CHECK(pthread_create(&churners[churner_count], NULL, body, seed) == 0);
  }
}
__attribute__((unused)) static void churners_start(int count) {
  churners_start_with(count, churner);
}

__attribute__((unused)) static void churners_end(void) {
  atomic_store(&churners_stop, true);
  for (int i = 0; i < churner_count; ++i) CHECK(pthread_join(churners[i], NULL) == 0);
  churner_count = 0;
}

/* Churns `bytes` in each of `count` threads, and waits for them. */
struct churn_task {
  size_t bytes;
  uint64_t seed;
};
static void* churn_task_body(void* argument) {
  struct churn_task* task = argument;
  churn_once(task->bytes, task->seed);
  return NULL;
}
__attribute__((unused)) static void churn_in_threads(int count, size_t bytes) {
  pthread_t threads[kMaxChurners];
  struct churn_task tasks[kMaxChurners];
  for (int i = 0; i < count; ++i) {
    tasks[i] = (struct churn_task){bytes, (uint64_t)i + 1};
    CHECK(pthread_create(&threads[i], NULL, churn_task_body, &tasks[i]) == 0);
  }
  for (int i = 0; i < count; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
}
