// adversary [hop|mremap|remap|fork|read|recv|held] [--seconds S] [--hoppers N] [--churners N]
//
// See adversary.hpp. Prints one line of counts. Exit status: 0 passed; 1 something was allocated over a chunk
// that was referenced, or no sweep ran, or the chunks were not reused once the references were gone; 2 usage,
// 3 the test itself went wrong.
#include "soak/adversary.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <iterator>

#include "dlmalloc_nonreuse.h"
#include "support/write_tracking.hpp"

namespace adversary {

void give_up(const char* what) {
  dprintf(2, "adversary: %s\n", what);
  _exit(3);
}

void fail(const char* what) {
  dprintf(1, "adversary: FAILED: %s\n", what);
  _exit(1);
}

__attribute__((noinline)) void scrub() {
  volatile char frame[2048];
  for (size_t i = 0; i < sizeof frame; ++i) frame[i] = 0;
  wipe_registers();
}

namespace {

// ---- The library, where it is loaded

int (*sweep_now)();
void (*get_statistics)(nonreuse_statistics*);

nonreuse_statistics statistics() {
  nonreuse_statistics now{};
  if (get_statistics != nullptr) get_statistics(&now);
  return now;
}

// ---- The chunks

constexpr size_t kSizes[] = {24, 40, 100, 250, 500, 1000, 2000, 4096, 10000, 20000, 40000, 100000, 307200};

size_t size_of(size_t chunk) {
  return kSizes[chunk % std::size(kSizes)];
}
// What is kept points to the start, the middle, the last byte, or one past the end.
size_t offset_of(size_t chunk) {
  const size_t offsets[] = {0, size_of(chunk) / 2, size_of(chunk) - 1, size_of(chunk)};
  return offsets[chunk / std::size(kSizes) % std::size(offsets)];
}

// Complement of the start; 0: no reference is kept at present.
std::atomic<uintptr_t> codes[kChunks];
std::atomic<bool> overlapped[kChunks];

std::atomic<uint64_t> hops, allocations, overlaps, renewals, forks;
std::atomic<bool> stopping;

// While a fork is made nobody renews: the child must find a chunk that is freed, and known, or neither.
std::atomic<bool> no_renewals;
std::atomic<int> renewing;

// ---- The pool: half of it global, half in heap blocks of several sizes

constexpr size_t kGlobalSlots = kPool / 2;
struct alignas(64) GlobalSlot {
  Word word{0};
};
GlobalSlot global_slots[kGlobalSlots];
Word* heap_slots[kPool - kGlobalSlots];

void make_pool() {
  uint64_t random = 88172645463325252u;
  for (Word*& slot : heap_slots) {
    const size_t words = 1 + next_random(random) % 600;
    auto* block = static_cast<Word*>(calloc(words, sizeof(Word)));
    if (block == nullptr) give_up("out of memory");
    slot = &block[next_random(random) % words];
  }
}

Word& slot_at(size_t i) {
  return i < kGlobalSlots ? global_slots[i].word : *heap_slots[i - kGlobalSlots];
}

// A global word for each hopper, far from each other; the last ones are the forking thread's.
constexpr size_t kMaxHoppers = 16;
constexpr size_t kForkerWords = 8;
GlobalSlot hopper_words[kMaxHoppers][64];
GlobalSlot forker_words[kForkerWords];

// ---- Threads that allocate

__attribute__((noinline)) size_t churn_size(uint64_t& random) {
  const uint64_t r = next_random(random);
  if (r % 64 == 0) return 1 + (r >> 8) % 400000;
  if (r % 8 < 3) return kSizes[(r >> 8) % (r % 16 == 0 ? std::size(kSizes) : 9)];
  return 1 + (r >> 8) % 1200;
}

void churn_slot(void*& slot, uint64_t& random) {
  const size_t size = churn_size(random);
  auto* p = static_cast<char*>(checked_malloc(size));
  memset(p, 0x5a, std::min<size_t>(size, 256));
  p[size - 1] = 0x5a;
  void* old = slot;
  slot = p;
  free(old);
}

void* run_churner(void* seed) {
  constexpr size_t kSlots = 400;
  void** slots = static_cast<void**>(calloc(kSlots, sizeof(void*)));
  if (slots == nullptr) give_up("out of memory");
  uint64_t random = reinterpret_cast<uintptr_t>(seed) * 0x9e3779b97f4a7c15u + 88172645463325252u;
  while (!stopping.load(std::memory_order_relaxed)) {
    for (int i = 0; i < 100; ++i) churn_slot(slots[next_random(random) % kSlots], random);
  }
  for (size_t i = 0; i < kSlots; ++i) free(slots[i]);
  free(slots);
  return nullptr;
}

void* run_revoker(void* seed) {
  uint64_t random = reinterpret_cast<uintptr_t>(seed) * 0x9e3779b97f4a7c15u + 88172645463325252u;
  void* kept = nullptr;
  while (!stopping.load(std::memory_order_relaxed)) {
    if (sweep_now != nullptr) sweep_now();
    for (uint64_t i = next_random(random) % 64; i != 0; --i) churn_slot(kept, random);
    // The others must get on between two stops; now and then the next sweep follows at once.
    if (random % 4 != 0) usleep(static_cast<useconds_t>(random >> 8) % 300);
  }
  free(kept);
  return nullptr;
}

// ---- Threads that pass references around

struct HopperStart {
  Mode mode;
  size_t index;
  uint64_t seed;
};

void* run_hopper(void* argument) {
  const HopperStart start = *static_cast<HopperStart*>(argument);
  delete static_cast<HopperStart*>(argument);
  const bool by_courier = start.mode == Mode::read || start.mode == Mode::recv;
  Hopper hopper{start.seed * 0x9e3779b97f4a7c15u + 88172645463325252u, &hopper_words[start.index][17].word,
                by_courier ? start_courier(start.mode, start.seed + 77) : nullptr};
  // Its hand lies in turn on the stack, in the heap and in static data.
  Word on_stack{0};
  Word* hands[] = {&on_stack, static_cast<Word*>(calloc(40, sizeof(Word))),
                   &hopper_words[start.index][41].word};
  if (hands[1] == nullptr) give_up("out of memory");
  hands[1] += 7;
  while (!stopping.load(std::memory_order_relaxed)) {
    Word& hand = *hands[next_random(hopper.random) % std::size(hands)];
    for (unsigned i = 0; i < 64; ++i) {
      exchange(hand, pool_slot(next_random(hopper.random)));
      if (hand.load() == 0) continue;
      hops.fetch_add(1, std::memory_order_relaxed);
      const uint64_t r = next_random(hopper.random);
      if (r % 512 == 0) renew(hand);
      if ((r >> 10) % 4 == 0) visit_some_place(start.mode, hopper, hand);
    }
    put_down(hand, hopper.random);
  }
  if (hopper.courier != nullptr) end_courier(hopper.courier);
  free(hands[1] - 7);
  return nullptr;
}

// ---- All of it, for a while

struct Settings {
  Mode mode = Mode::hop;
  double seconds = 1;
  size_t hoppers = 3;
  size_t churners = 2;
  bool beside = false;  // sweeps must have read beside the threads
};

void run_forker(const Settings& settings, std::chrono::steady_clock::time_point end);

pthread_t start_thread(void* (*body)(void*), void* argument) {
  pthread_t thread;
  if (pthread_create(&thread, nullptr, body, argument) != 0) give_up("no thread");
  return thread;
}

void run_all(const Settings& settings) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(settings.seconds);
  stopping.store(false);
  pthread_t threads[2 * kMaxHoppers + 1];
  size_t count = 0;
  const auto seed = static_cast<uint64_t>(end.time_since_epoch().count()) & 0xffffff;
  for (size_t i = 0; i < settings.hoppers; ++i) {
    threads[count++] = start_thread(run_hopper, new HopperStart{settings.mode, i, seed + i});
  }
  for (size_t i = 0; i < settings.churners; ++i) {
    threads[count++] = start_thread(run_churner, reinterpret_cast<void*>(seed + 100 + i));
  }
  threads[count++] = start_thread(run_revoker, reinterpret_cast<void*>(seed + 200));
  if (settings.mode == Mode::fork) {
    run_forker(settings, std::chrono::time_point_cast<std::chrono::steady_clock::duration>(end));
  }
  while (std::chrono::steady_clock::now() < end) usleep(10000);
  stopping.store(true);
  for (size_t i = 0; i < count; ++i) pthread_join(threads[i], nullptr);
}

// ---- Forks

// In the child only those chunks are referenced whose references lay in memory that is no thread's own.
void keep_what_was_inherited() {
  bool found[kChunks] = {};
  const auto look_at = [&](const Word& word) {
    const uintptr_t code = ~word.load();
    for (size_t i = 0; i < kChunks; ++i) {
      if (codes[i].load() != 0 && codes[i].load() == code + offset_of(i)) found[i] = true;
    }
  };
  for (size_t i = 0; i < kPool; ++i) look_at(slot_at(i));
  for (const GlobalSlot& slot : forker_words) look_at(slot.word);
  for (size_t i = 0; i < kChunks; ++i) {
    if (!found[i]) codes[i].store(0);
  }
  scrub();
}

[[noreturn]] void live_as_child(const Settings& settings) {
  alarm(60);  // never left behind
  keep_what_was_inherited();
  uint64_t random = 4711;
  for (GlobalSlot& slot : forker_words) put_down(slot.word, random);
  overlaps.store(0);
  renewing.store(0);
  no_renewals.store(false);
  const uint64_t sweeps_before = statistics().sweeps;
  if (sweep_now != nullptr) sweep_now();
  Settings own = settings;
  own.mode = Mode::hop;
  own.seconds = 0.05;
  own.hoppers = 1;
  own.churners = 1;
  run_all(own);
  if (overlaps.load() != 0) fail("in a fork's child something was allocated over a chunk that is referenced");
  if (get_statistics != nullptr && statistics().sweeps == sweeps_before)
    fail("no sweep ran in a fork's child");
  _exit(0);
}

void run_forker(const Settings& settings, std::chrono::steady_clock::time_point end) {
  uint64_t random = 271828;
  while (std::chrono::steady_clock::now() < end) {
    for (GlobalSlot& slot : forker_words) exchange(slot.word, pool_slot(next_random(random)));
    no_renewals.store(true);
    while (renewing.load() != 0) usleep(10);
    const pid_t child = fork();
    if (child == 0) live_as_child(settings);
    no_renewals.store(false);
    if (child < 0) give_up("no child");
    for (GlobalSlot& slot : forker_words) put_down(slot.word, random);
    int status = 0;
    if (waitpid(child, &status, 0) != child) give_up("waitpid");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 1) overlaps.fetch_add(1);
    if (WIFSIGNALED(status)) fail("a fork's child was killed");
    if (WIFEXITED(status) && WEXITSTATUS(status) > 1) give_up("in a fork's child");
    forks.fetch_add(1);
  }
}

// ---- The end: without references the chunks come back

bool is_reused(size_t chunk) {
  return overlapped[chunk].load();
}
size_t reused_count() {
  size_t count = 0;
  for (size_t i = 0; i < kChunks; ++i) count += is_reused(i);
  return count;
}

// Allocates and keeps blocks of one size until they cover every chunk of that size, or `bytes`.
__attribute__((noinline)) void cover(size_t size, size_t bytes) {
  for (size_t done = 0, n = 0; done < bytes; done += size, ++n) {
    bool covered = true;
    for (size_t i = 0; n % 64 == 0 && i < kChunks; ++i)
      covered = covered && (size_of(i) != size || is_reused(i));
    if (n % 64 == 0 && covered) return;
    checked_malloc(size);
  }
}

// Free memory of one size may have been set aside for another: all sizes are tried, again and again, until
// nine tenths of the chunks are covered. Stale words may hold some of the others.
size_t look_for_reuse() {
  for (size_t i = 0; i < kPool; ++i) slot_at(i).store(0);
  for (std::atomic<bool>& flag : overlapped) flag.store(false);
  for (int round = 0; round < 3; ++round) {
    scrub();
    if (sweep_now != nullptr) sweep_now();
    for (size_t size : kSizes) cover(size, size_t{8} << 20);
    if (reused_count() * 10 >= kChunks * 9 || statistics().sweeps == 0) break;
    for (size_t size = 8; size < 5000; size += 16) {
      for (int i = 0; i < 300; ++i) checked_malloc(size);
    }
  }
  return reused_count();
}

int judge(const Settings& settings) {
  run_all(settings);
  const nonreuse_statistics end = statistics();
  const uint64_t found = overlaps.load();
  const uint64_t allocated = allocations.load();
  const size_t reused = look_for_reuse();
  printf(
      "adversary %s: seconds=%g hops=%lu renewals=%lu forks=%lu allocations=%lu sweeps=%lu abandoned=%lu "
      "beside=%lu released_MiB=%lu overlaps=%lu reused=%zu/%zu\n",
      kModeNames[static_cast<int>(settings.mode)], settings.seconds, hops.load(), renewals.load(),
      forks.load(), allocated, end.sweeps, end.sweeps_abandoned, end.concurrent_sweeps,
      end.released_bytes >> 20, found, reused, kChunks);
  fflush(stdout);
  bool good = true;
  const auto demand = [&](bool condition, const char* what) {
    if (!condition) printf("adversary: FAILED: %s\n", what);
    good = good && condition;
  };
  demand(found == 0, "something was allocated over a chunk that is referenced");
  demand(end.sweeps != 0 && end.released_bytes != 0, "no sweep ran");
  const bool unable = settings.beside && end.concurrent_sweeps == 0 && !support::writes_can_be_tracked();
  demand(!settings.beside || unable || end.concurrent_sweeps != 0, "no sweep read beside the threads");
  demand(hops.load() != 0 && allocated != 0, "nothing happened");
  demand(settings.mode != Mode::fork || forks.load() != 0, "no fork was made");
  demand(reused * 10 >= kChunks * 8, "chunks that nothing references are not reused");
  if (good && unable) printf("adversary: this system cannot track writes: nothing was read beside threads\n");
  return !good ? 1 : unable ? 77 : 0;
}

}  // namespace

void check_fresh(const void* p) {
  const size_t size = malloc_usable_size(const_cast<void*>(p));
  uintptr_t first = ~reinterpret_cast<uintptr_t>(p);
  asm volatile("" : "+r"(first));  // no compiler turns the comparison back
  const uintptr_t last = first - (size - 1);
  for (size_t i = 0; i < kChunks; ++i) {
    const uintptr_t code = codes[i].load(std::memory_order_acquire);
    if (code == 0 || code < last || code - (size_of(i) - 1) > first) continue;
    overlapped[i].store(true);
    overlaps.fetch_add(1);
  }
  allocations.fetch_add(1, std::memory_order_relaxed);
}

void* checked_malloc(size_t size) {
  void* p = malloc(size);
  if (p == nullptr) give_up("out of memory");
  check_fresh(p);
  return p;
}

Word& pool_slot(uint64_t random) {
  return slot_at(random % kPool);
}

__attribute__((noinline)) void exchange(Word& hand, Word& slot) {
  uintptr_t v = hand.exchange(0);
  v = slot.exchange(v);
  hand.exchange(v);
  forget(v);
  wipe_registers();
}

void put_down(Word& hand, uint64_t& random) {
  while (hand.load() != 0) exchange(hand, pool_slot(next_random(random)));
  wipe_registers();
}

// A new chunk is known before it is freed: nothing may overlap it from its allocation on.
__attribute__((noinline)) static void replace_chunk(Word& hand, size_t chunk) {
  codes[chunk].store(0);
  hand.store(0);
  wipe_registers();
  auto* p = static_cast<char*>(malloc(size_of(chunk)));
  if (p == nullptr) give_up("out of memory");
  p[0] = 1;
  hand.store(reinterpret_cast<uintptr_t>(p + offset_of(chunk)));
  codes[chunk].store(~reinterpret_cast<uintptr_t>(p));
  free(p);
}

void renew(Word& hand) {
  renewing.fetch_add(1);
  if (!no_renewals.load()) {
    const uintptr_t code = ~hand.load();
    size_t chunk = 0;
    while (chunk < kChunks && codes[chunk].load() != code + offset_of(chunk)) ++chunk;
    // In a fork's child there are references that are not watched.
    if (chunk < kChunks) {
      replace_chunk(hand, chunk);
      renewals.fetch_add(1, std::memory_order_relaxed);
    }
  }
  renewing.fetch_sub(1);
  scrub();
}

__attribute__((noinline)) void work(uint64_t& random) {
  const uint64_t r = next_random(random);
  if (r % 64 == 0) {
    usleep(static_cast<useconds_t>(r >> 8) % 500);
  } else if (r % 4 == 0) {
    void* slots[4] = {};
    for (uint64_t i = 0; i < (r >> 8) % 32; ++i) churn_slot(slots[i % 4], random);
    for (void* slot : slots) free(slot);
  } else {
    for (uint64_t i = 0; i < (r >> 8) % 300; ++i) asm volatile("" : "+r"(i));
  }
}

}  // namespace adversary

int main(int argc, char** argv) {
  using namespace adversary;
  Settings settings;
  for (int i = 1; i < argc; ++i) {
    const auto* name = std::find_if(std::begin(kModeNames), std::end(kModeNames),
                                    [&](const char* known) { return strcmp(known, argv[i]) == 0; });
    if (name != std::end(kModeNames)) {
      settings.mode = static_cast<Mode>(name - kModeNames);
    } else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) {
      settings.seconds = atof(argv[++i]);
    } else if (strcmp(argv[i], "--beside") == 0) {
      settings.beside = true;
    } else if (strcmp(argv[i], "--hoppers") == 0 && i + 1 < argc) {
      settings.hoppers = std::clamp(strtoul(argv[++i], nullptr, 10), 1ul, kMaxHoppers);
    } else if (strcmp(argv[i], "--churners") == 0 && i + 1 < argc) {
      settings.churners = std::clamp(strtoul(argv[++i], nullptr, 10), 1ul, kMaxHoppers);
    } else {
      fprintf(stderr,
              "usage: adversary [hop|mremap|remap|fork|read|recv|held] [--seconds S] [--hoppers N] "
              "[--churners N] [--beside]\n");
      return 2;
    }
  }
  sweep_now = reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "malloc_revoke"));
  get_statistics =
      reinterpret_cast<void (*)(nonreuse_statistics*)>(dlsym(RTLD_DEFAULT, "nonreuse_get_statistics"));
  make_pool();
  for (size_t i = 0; i < kChunks; ++i) replace_chunk(slot_at(2 * i), i);
  scrub();
  return judge(settings);
}
