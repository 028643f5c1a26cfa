// hold PLACE [--threads N] [--fork] [--hold-only]: see hold.hpp. Exit status: 0 passed, 1 failed, 77 the
// place is not to be had here, 3 the test itself went wrong.
#include "sound/hold.hpp"

#include <dlfcn.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "dlmalloc_nonreuse.h"
#include "support/wipe_registers.hpp"
#include "support/write_tracking.hpp"

extern char** environ;

namespace hold {

Word* main_frame;
Word* environment_words;

void give_up(const char* what) {
  dprintf(2, "hold: %s\n", what);
  _exit(3);
}

__attribute__((noinline)) void scrub() {
  volatile char frame[65536];
  for (size_t i = 0; i < sizeof frame; ++i) frame[i] = 0;
  support::wipe_registers();
}

__attribute__((noinline)) static void reveal_words(Word* words, const Secret* secrets, size_t count) {
  for (size_t i = 0; i < count; ++i) words[i] = reveal(secrets[i]);
}

void reveal_into(Word* words, const Secret* secrets, size_t count) {
  reveal_words(words, secrets, count);
  scrub();
}

void wipe(Word* words, size_t count) {
  for (size_t i = 0; i < count; ++i) words[i] = 0;
}

size_t environment_capacity() {
  size_t count = 0;
  while (environ[count] != nullptr) ++count;
  return std::min(count, kMaxWords);
}

const Plugin& plugin() {
  static Plugin loaded;
  if (loaded.thread_words == nullptr) {
    const char* path = getenv("NONREUSE_TEST_PLUGIN");
    void* handle = path == nullptr ? nullptr : dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) give_up("the plugin (NONREUSE_TEST_PLUGIN) cannot be loaded");
    loaded.thread_words = reinterpret_cast<Word* (*)()>(dlsym(handle, "hold_plugin_thread_words"));
    loaded.page_words = static_cast<Word*>(dlsym(handle, "hold_plugin_page_words"));
  }
  return loaded;
}

namespace {

// ---- the chunks that must not be reused

constexpr size_t kSizes[] = {24, 100, 1000, 4096, 40000, 300000, 5000000};
constexpr size_t kVictimsOfSize[] = {64, 64, 64, 64, 32, 16, 4};
constexpr size_t kSizeCount = std::size(kSizes);

struct Victim {
  Secret start;
  size_t size = 0;
  std::atomic<bool> overlapped{false};
};

Victim victims[kMaxWords];
size_t victim_count;
Secret pointers[kMaxWords];      // what the place keeps: start, middle, last byte, one past the end
uint16_t by_address[kMaxWords];  // victims in ascending order

uint64_t next_random(uint64_t& state) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state;
}

void* checked_malloc(size_t size) {
  void* p = malloc(size);
  if (p == nullptr) give_up("out of memory");
  return p;
}

__attribute__((noinline)) void allocate_victim(size_t index, size_t size, unsigned kind) {
  char* p = static_cast<char*>(checked_malloc(size));
  p[0] = 1, p[size - 1] = 1;
  const size_t offset[] = {0, size / 2, size - 1, size};
  victims[index].start = conceal(p);
  victims[index].size = size;
  pointers[index] = conceal(p + offset[kind]);
  // Every other chunk gets a live neighbour, so that some are released alone and some in longer runs.
  if (index % 2 == 0) memset(checked_malloc(40), 0x5a, 40);
}

void allocate_victims(size_t capacity) {
  // The heap's first byte is no victim: under qemu-user a pointer to it was seen to be left in the emulator's
  // own memory, which sweeps read, too.
  memset(checked_malloc(40), 0x5a, 40);
  size_t all = 0;
  for (size_t count : kVictimsOfSize) all += count;
  if (capacity >= all) {
    for (size_t s = 0; s < kSizeCount; ++s) {
      for (size_t i = 0; i < kVictimsOfSize[s]; ++i) allocate_victim(victim_count++, kSizes[s], i % 4);
    }
  } else {
    for (size_t i = 0; i < capacity; ++i) {
      allocate_victim(victim_count++, kSizes[i % kSizeCount], (i / kSizeCount + i) % 4);
    }
  }
  for (size_t i = 0; i < victim_count; ++i) by_address[i] = static_cast<uint16_t>(i);
  std::sort(by_address, by_address + victim_count,
            [](uint16_t a, uint16_t b) { return victims[a].start.complement > victims[b].start.complement; });
  scrub();
}

__attribute__((noinline)) void free_victims() {
  for (size_t i = 0; i < victim_count; ++i) free(reinterpret_cast<void*>(reveal(victims[i].start)));
}

// Marks every victim that the new object, with all that is usable of it, overlaps. Compares complements,
// which descend as addresses ascend.
void look_for_overlap(void* p) {
  const size_t size = malloc_usable_size(p);
  const uintptr_t last = ~(reinterpret_cast<uintptr_t>(p) + size - 1);  // complement of the last byte
  // The first victim, by address, that ends behind p. Victims do not overlap each other.
  const uintptr_t first = ~reinterpret_cast<uintptr_t>(p);
  const uint16_t* found = std::partition_point(by_address, by_address + victim_count, [first](uint16_t v) {
    return victims[v].start.complement - (victims[v].size - 1) > first;
  });
  for (; found != by_address + victim_count && victims[*found].start.complement >= last; ++found) {
    victims[*found].overlapped.store(true, std::memory_order_relaxed);
  }
}

// ---- churn

size_t random_size(uint64_t& state) {
  const uint64_t r = next_random(state);
  if (r % 4096 == 0) return 1000000 + (r >> 20) % 7000000;
  if (r % 64 == 0) return 4096 + (r >> 20) % 250000;
  if (r % 4 == 0) return kSizes[(r >> 20) % 5];
  return (size_t{16} << ((r >> 20) % 8)) + (r >> 30) % 16;
}

// Allocates and frees `bytes` with 512 objects alive, checks every object against the victims, and asks for
// a sweep now and then.
__attribute__((noinline)) void churn(size_t bytes, uint64_t seed) {
  constexpr size_t kSlots = 512;
  void** slots = static_cast<void**>(calloc(kSlots, sizeof(void*)));
  if (slots == nullptr) give_up("out of memory");
  uint64_t state = seed * 0x9e3779b97f4a7c15u + 88172645463325252u;
  size_t until_revoke = bytes / 16;
  for (size_t done = 0; done < bytes;) {
    const size_t slot = next_random(state) % kSlots;
    const size_t size = random_size(state);
    free(slots[slot]);
    char* p = static_cast<char*>(checked_malloc(size));
    slots[slot] = p;
    look_for_overlap(p);
    memset(p, 0x5a, std::min<size_t>(size, 8192));
    p[size - 1] = 0x5a;
    done += size;
    if (done >= until_revoke) {
      until_revoke += bytes / 16;
      if (malloc_revoke != nullptr) malloc_revoke();
    }
  }
  for (size_t i = 0; i < kSlots; ++i) free(slots[i]);
  free(slots);
}

struct Worker {
  pthread_t thread;
  size_t bytes;
  uint64_t seed;
  void* stack;
};

void* churn_in_thread(void* worker) {
  churn(static_cast<Worker*>(worker)->bytes, static_cast<Worker*>(worker)->seed);
  return nullptr;
}

void churn_with(size_t threads, size_t bytes, uint64_t seed) {
  if (threads == 0) return churn(bytes, seed);
  // Their stacks go with them. What the C library keeps of a dead thread is memory like any other: words left
  // there held chunks in one run of a hundred, when all that this test knows of had been cleared.
  Worker workers[16];
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  size_t size = 0;
  pthread_attr_getstacksize(&attributes, &size);
  // As the C library makes them: the lowest page is a guard.
  const size_t guard = static_cast<size_t>(getpagesize());
  for (size_t i = 0; i < threads; ++i) {
    void* stack = mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED) give_up("no stack");
    char* const lowest = static_cast<char*>(stack) + guard;
    if (mprotect(lowest, size - guard, PROT_READ | PROT_WRITE) != 0) give_up("no stack");
    workers[i] = {{}, bytes / threads, seed * 16 + i, stack};
    if (pthread_attr_setstack(&attributes, lowest, size - guard) != 0) give_up("no stack");
    if (pthread_create(&workers[i].thread, &attributes, churn_in_thread, &workers[i]) != 0)
      give_up("no thread");
  }
  pthread_attr_destroy(&attributes);
  for (size_t i = 0; i < threads; ++i) {
    pthread_join(workers[i].thread, nullptr);
    munmap(workers[i].stack, size);
  }
}

// ---- the verdicts

size_t overlapped_of_size(size_t size) {
  return static_cast<size_t>(std::count_if(
      victims, victims + victim_count, [size](const Victim& v) { return v.size == size && v.overlapped; }));
}

size_t victims_of_size(size_t size) {
  return static_cast<size_t>(
      std::count_if(victims, victims + victim_count, [size](const Victim& v) { return v.size == size; }));
}

// Allocates chunks of one size and keeps them, until they cover every victim of that size or `bytes`.
__attribute__((noinline)) void fill(size_t victims_size, size_t size, size_t bytes) {
  const size_t wanted = victims_of_size(victims_size);
  for (size_t done = 0, n = 0; done < bytes; done += size, ++n) {
    if (n % 1024 == 0 && overlapped_of_size(victims_size) == wanted) return;
    look_for_overlap(checked_malloc(size));
  }
}

bool reused_enough(unsigned percent) {
  return std::all_of(std::begin(kSizes), std::end(kSizes), [percent](size_t size) {
    return overlapped_of_size(size) * 100 >= victims_of_size(size) * percent;
  });
}

void look_for_reuse(size_t threads, unsigned percent, size_t bytes) {
  for (Victim& v : victims) v.overlapped = false;
  for (uint64_t round = 0; round < 3; ++round) {
    for (int i = 0; i < 2; ++i) {
      if (malloc_revoke != nullptr) malloc_revoke();
    }
    churn_with(threads, bytes, 100 + round);
  }
  for (size_t size : kSizes) {
    fill(size, size, std::max<size_t>(size_t{128} << 20, size * 64));
    if (overlapped_of_size(size) * 100 < victims_of_size(size) * percent) fill(size, 24, size_t{64} << 20);
  }
  // Free memory may have been put aside for another small size, and what is allocated of that size makes the
  // heap put more aside: go on until old holes have run out. What came back behind the heap's cursor is found
  // after the next sweep, or by requests of its own size.
  for (int pass = 0; pass < 20 && !reused_enough(percent); ++pass) {
    if (malloc_revoke != nullptr) malloc_revoke();
    for (size_t size = 2048; size < 16384; size += 512) {
      for (int i = 0; i < 30; ++i) look_for_overlap(checked_malloc(size));
    }
    for (size_t size = 8; size < 2048; size += 16) {
      for (int i = 0; i < 300; ++i) look_for_overlap(checked_malloc(size));
    }
  }
}

size_t churn_bytes() {
  const char* text = getenv("NONREUSE_TEST_CHURN");
  if (text == nullptr) return size_t{200} << 20;
  char* suffix = nullptr;
  const size_t value = strtoull(text, &suffix, 10);
  switch (*suffix) {
    case 'g':
      return value << 30;
    case 'm':
      return value << 20;
    case 'k':
      return value << 10;
    default:
      return value;
  }
}

struct Settings {
  const Place* place = nullptr;
  size_t threads = 0;
  bool in_fork = false;
  bool hold_only = false;
  bool beside = false;  // sweeps must have read beside the threads
  size_t ballast = 0;   // bytes that live all the time
  size_t bytes = 0;     // to churn
};

// 0, 1 or 77.
int judge_sweeps() {
  const auto get =
      reinterpret_cast<void (*)(nonreuse_statistics*)>(dlsym(RTLD_DEFAULT, "nonreuse_get_statistics"));
  nonreuse_statistics seen{};
  if (get != nullptr) get(&seen);
  printf("sweeps=%lu beside=%lu\n", seen.sweeps, seen.concurrent_sweeps);
  if (seen.concurrent_sweeps != 0) return 0;
  if (support::writes_can_be_tracked()) return 1;
  printf("skipped: this system cannot track writes: nothing was read beside threads\n");
  return 77;
}

int judge(const Settings& settings) {
  churn_with(settings.threads, settings.bytes, 1);
  size_t overlapped[kSizeCount];
  for (size_t s = 0; s < kSizeCount; ++s) overlapped[s] = overlapped_of_size(kSizes[s]);
  if (!settings.hold_only) {
    settings.place->clear();
    scrub();
    look_for_reuse(settings.threads, settings.place->reused_percent, settings.bytes / 16);
  }
  int status = 0;
  for (size_t s = 0; s < kSizeCount; ++s) {
    const size_t count = victims_of_size(kSizes[s]);
    const size_t reused = settings.hold_only ? count : overlapped_of_size(kSizes[s]);
    printf("size=%zu victims=%zu overlapped=%zu reused=%zu\n", kSizes[s], count, overlapped[s], reused);
    if (overlapped[s] != 0 || reused * 100 < count * settings.place->reused_percent) status = 1;
  }
  if (status == 0 && settings.beside) status = judge_sweeps();
  fflush(stdout);
  return status;
}

constexpr size_t kBallast = 10000;  // of one block

int run(const Settings& settings) {
  const Place& place = *settings.place;
  if (const char* why = place.missing == nullptr ? nullptr : place.missing()) {
    printf("skipped: %s\n", why);
    return 77;
  }
  if (place.prepare != nullptr) place.prepare();
  for (size_t left = settings.ballast; left >= kBallast; left -= kBallast)
    memset(checked_malloc(kBallast), 1, kBallast);
  allocate_victims(place.capacity);
  place.plant(pointers, victim_count);
  free_victims();
  scrub();
  if (!settings.in_fork) return judge(settings);
  const pid_t child = fork();
  if (child == 0) {
    const int status = judge(settings);
    _exit(status);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) give_up("no child");
  if (!WIFEXITED(status)) give_up("the child was killed");
  return WEXITSTATUS(status);
}

template <class Visit>
void each_place(Visit visit) {
  for (PlaceTable table : {memory_places(), thread_places(), register_places()}) {
    for (size_t i = 0; i < table.count; ++i) visit(table.places[i]);
  }
}

int usage() {
  fprintf(stderr,
          "usage: hold PLACE [--threads N] [--fork] [--hold-only] [--beside] [--ballast MIB]; places:\n");
  each_place([](const Place& place) { fprintf(stderr, "%s\n", place.name); });
  return 2;
}

}  // namespace
}  // namespace hold

int main(int argc, char** argv) {
  hold::Word frame[hold::kMaxWords];
  hold::wipe(frame, hold::kMaxWords);
  hold::main_frame = frame;
  hold::environment_words = reinterpret_cast<hold::Word*>(environ);
  setvbuf(stdout, nullptr, _IOLBF, 4096);

  hold::Settings settings;
  settings.bytes = hold::churn_bytes();  // now: one of the places overwrites the environment
  for (int i = 1; i < argc; ++i) {
    if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc) {
      settings.threads = std::min(16ul, strtoul(argv[++i], nullptr, 10));
    } else if (strcmp(argv[i], "--fork") == 0) {
      settings.in_fork = true;
    } else if (strcmp(argv[i], "--beside") == 0) {
      settings.beside = true;
    } else if (strcmp(argv[i], "--ballast") == 0 && i + 1 < argc) {
      settings.ballast = strtoul(argv[++i], nullptr, 10) << 20;
    } else if (strcmp(argv[i], "--hold-only") == 0) {
      settings.hold_only = true;
    } else {
      hold::each_place([&](const hold::Place& place) {
        if (strcmp(argv[i], place.name) == 0) settings.place = &place;
      });
      if (settings.place == nullptr) return hold::usage();
    }
  }
  if (settings.place == nullptr) return hold::usage();
  return hold::run(settings);
}
