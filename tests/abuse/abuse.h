/* What the misuse programs share. Each program makes one mistake, and is expected to be stopped at it.
 *
 * Before the mistake a program announces on standard output which address it will hand in and which chunk
 * that address has to do with, so that the runner can compare the message word for word.
 */
#pragma once

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif
int malloc_revoke(void) __attribute__((weak));
#ifdef __cplusplus
}
#endif

/* Exit codes of a program that got past its mistake, or could not make it. */
enum { kSurvived = 0, kBroken = 3 };

/* Hides from the compiler where a pointer comes from, so that it can neither warn nor drop the mistake. */
__attribute__((noinline, unused)) static void* hide(void* p) {
  __asm__ volatile("" : "+r"(p) : : "memory");
  return p;
}

/* Announces the address to be handed in and the chunk it belongs to. Written at once: abort loses buffers. */
static inline void announce(const void* given, const void* chunk, size_t chunk_size) {
  dprintf(1, "given=0x%lx chunk=0x%lx size=%zu offset=%ld\n", (unsigned long)(uintptr_t)given,
          (unsigned long)(uintptr_t)chunk, chunk_size,
          (long)((intptr_t)(uintptr_t)given - (intptr_t)(uintptr_t)chunk));
}

/* The size of the chunk of a live allocation, as messages name it. */
static inline size_t chunk_size(void* p) {
  return malloc_usable_size(p) + 1;
}

/* Ends a program whose preparation went wrong; what it was to show is then not shown. */
static inline void require(bool condition, const char* what) {
  if (condition) return;
  dprintf(2, "%s\n", what);
  _exit(kBroken);
}

static inline void sweep(void) {
  if (malloc_revoke) malloc_revoke();
}

/* Allocates and frees `bytes` in sizes of 16 bytes to 8 KiB, with 256 objects alive. */
static inline void churn(size_t bytes) {
  static void* slots[256];
  static uint64_t state = 88172645463325252u;
  for (size_t done = 0; done < bytes;) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    size_t slot = state % 256;
    size_t size = (size_t)16 << ((state >> 8) % 10);
    free(slots[slot]);
    slots[slot] = malloc(size);
    require(slots[slot] != NULL, "out of memory");
    memset(slots[slot], 0x5a, size);
    done += size;
  }
}

/* Overwrites dead stack frames and caller-saved registers, where a copy of a pointer may linger. */
__attribute__((noinline, unused)) static void scrub(void) {
  volatile char frame[32768];
  for (size_t i = 0; i < sizeof frame; ++i) frame[i] = 0;
#if defined(__x86_64__)
  __asm__ volatile("" : : "r"(frame) : "memory", "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11");
#elif defined(__aarch64__)
  __asm__ volatile("" : : "r"(frame) : "memory", "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x9", "x10");
#else
  __asm__ volatile("" : : "r"(frame) : "memory", "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "t0", "t1");
#endif
}
