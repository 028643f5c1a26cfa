// The process that replays. It uses nothing that allocates besides the recorded calls (and what the C library
// allocates for a thread), so that what is measured is the replayed program's heap.
#include <dlmalloc_nonreuse.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

#include "base/histogram.hpp"
#include "launcher/replay_plan.hpp"

// There if this library is preloaded.
extern "C" __attribute__((weak)) void nonreuse_get_statistics(nonreuse_statistics*);

namespace nonreuse::launcher {
namespace {

constexpr uint32_t kTurnMask = (1u << 22) - 1;
// The smallest page of any machine; larger ones are touched more than once.
constexpr size_t kTouchStep = 4096;

struct Counters {
  uint64_t calls = 0, made = 0, resized = 0, freed = 0, requested = 0, failed = 0, corrupted = 0;
};

char* memory = nullptr;
ReplayHeader* header = nullptr;
ReplaySlot* slots = nullptr;
Counters total;
pthread_mutex_t total_lock = PTHREAD_MUTEX_INITIALIZER;

uint64_t clock_ns(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

// A figure of /proc/self/status in bytes.
uint64_t status_bytes(const char* name) {
  char text[4096];
  const int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  const ssize_t got = read(file, text, sizeof text - 1);
  close(file);
  text[got > 0 ? got : 0] = '\0';
  const char* at = strstr(text, name);
  return at == nullptr ? 0 : strtoull(at + strlen(name), nullptr, 10) * 1024;
}

// A program writes to its memory: the slot's number at the start, to be found again, and a byte in each page.
void fill(char* block, uint64_t from, uint64_t size, uint64_t slot) {
  if (size >= sizeof slot) memcpy(block, &slot, sizeof slot);
  for (uint64_t at = (from + kTouchStep) / kTouchStep * kTouchStep; at < size; at += kTouchStep)
    block[at] = 1;
}

bool intact(const char* block, uint64_t size, uint64_t slot) {
  uint64_t found = slot;
  if (size >= sizeof slot) memcpy(&found, block, sizeof found);
  return found == slot;
}

void await_turn(const ReplaySlot& slot, uint32_t turn) {
  for (unsigned spins = 0; (slot.turn.load(std::memory_order_acquire) & kTurnMask) != turn; ++spins) {
    if (spins > 64) sched_yield();
  }
}

void* thread_main(void* number);

void spawn(uint64_t number) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  header->running.fetch_add(1);
  while (pthread_create(&thread, &attributes, thread_main, reinterpret_cast<void*>(number)) != 0)
    usleep(1000);
  pthread_attr_destroy(&attributes);
}

void make(ReplaySlot& slot, const ReplayCall& call, Counters& count) {
  void* block = nullptr;
  if (static_cast<ReplayKind>(call.kind) == ReplayKind::make_aligned) {
    if (posix_memalign(&block, size_t{1} << call.align_shift, call.size) != 0) block = nullptr;
  } else {
    block = malloc(call.size);
  }
  ++count.made;
  count.requested += call.size;
  if (block == nullptr) {
    ++count.failed;
  } else {
    fill(static_cast<char*>(block), 0, call.size, call.slot);
  }
  slot.block = block;
  slot.size = block == nullptr ? 0 : call.size;
}

void resize(ReplaySlot& slot, const ReplayCall& call, Counters& count) {
  ++count.resized;
  count.requested += call.size;
  // What was smaller than a number does not hold it.
  const uint64_t both = slot.size < call.size ? slot.size : call.size;
  void* block = realloc(slot.block, call.size);
  if (block == nullptr) {
    ++count.failed;
    return;
  }
  if (!intact(static_cast<char*>(block), both, call.slot)) ++count.corrupted;
  fill(static_cast<char*>(block), slot.size, call.size, call.slot);
  slot.block = block;
  slot.size = call.size;
}

void perform(const ReplayCall& call, Counters& count) {
  if (static_cast<ReplayKind>(call.kind) == ReplayKind::spawn) return spawn(call.slot);
  ReplaySlot& slot = slots[call.slot];
  await_turn(slot, call.turn);
  ++count.calls;
  switch (static_cast<ReplayKind>(call.kind)) {
    case ReplayKind::resize:
      resize(slot, call, count);
      break;
    case ReplayKind::free:
      ++count.freed;
      if (slot.block != nullptr && !intact(static_cast<char*>(slot.block), slot.size, call.slot))
        ++count.corrupted;
      free(slot.block);
      slot.block = nullptr;
      slot.size = 0;
      break;
    default:
      make(slot, call, count);
      break;
  }
  slot.turn.store(call.turn + 1, std::memory_order_release);
}

void* thread_main(void* number) {
  const auto* threads = reinterpret_cast<ReplayThread*>(memory + header->threads_at);
  const ReplayThread mine = threads[reinterpret_cast<uintptr_t>(number)];
  auto* calls = reinterpret_cast<ReplayCall*>(memory + header->calls_at);
  constexpr uint64_t kForget =
      65536;  // calls behind which the plan's pages are given up: they are not the program's
  Counters count;
  for (uint64_t i = mine.first; i < mine.first + mine.count; ++i) {
    perform(calls[i], count);
    if (i % kForget != 0 || i < mine.first + kForget) continue;
    char* from = reinterpret_cast<char*>(calls + (i - kForget));
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    from = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(from) + page - 1) & ~(page - 1));
    madvise(from, (kForget * sizeof(ReplayCall) & ~(page - 1)) - page, MADV_DONTNEED);
  }
  pthread_mutex_lock(&total_lock);
  total.calls += count.calls;
  total.made += count.made;
  total.resized += count.resized;
  total.freed += count.freed;
  total.requested += count.requested;
  total.failed += count.failed;
  total.corrupted += count.corrupted;
  pthread_mutex_unlock(&total_lock);
  header->running.fetch_sub(1);
  header->running.notify_all();
  return nullptr;
}

void add_statistics(ReplayResult& result) {
  if (nonreuse_get_statistics == nullptr) return;
  nonreuse_statistics s;
  nonreuse_get_statistics(&s);
  result.has_statistics = 1;
  result.sweeps = s.sweeps;
  result.pauses = s.stops;
  result.pause_ns_total = s.pause_ns_total;
  result.pause_ns_max = s.pause_ns_max;
  result.pause_p99 = histogram_percentile(s.pause_histogram, 99);
  result.footprint_max = s.footprint_max;
  result.held_bytes = s.held_bytes;
}

}  // namespace

void replay_worker(int descriptor) {
  struct stat status;
  if (fstat(descriptor, &status) != 0 || status.st_size < static_cast<off_t>(sizeof(ReplayHeader))) _exit(1);
  void* mapped =
      mmap(nullptr, static_cast<size_t>(status.st_size), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (mapped == MAP_FAILED) _exit(1);
  close(descriptor);
  memory = static_cast<char*>(mapped);
  header = reinterpret_cast<ReplayHeader*>(memory);
  slots = reinterpret_cast<ReplaySlot*>(memory + header->slots_at);
  ReplayResult result{};
  result.idle_rss = status_bytes("VmRSS:");
  const uint64_t begin = clock_ns(CLOCK_MONOTONIC), cpu_begin = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
  header->running.store(1);
  thread_main(nullptr);
  for (uint32_t left; (left = header->running.load()) != 0;) header->running.wait(left);
  result.wall_ns = clock_ns(CLOCK_MONOTONIC) - begin;
  result.cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_begin;
  result.peak_rss = status_bytes("VmHWM:");
  add_statistics(result);
  for (uint64_t i = 0; i < header->slots; ++i) {
    if (slots[i].block == nullptr) continue;
    ++result.live_blocks;
    result.live_bytes += slots[i].size;
    if (!intact(static_cast<char*>(slots[i].block), slots[i].size, i)) ++total.corrupted;
  }
  result.calls = total.calls;
  result.made = total.made;
  result.resized = total.resized;
  result.freed = total.freed;
  result.requested_bytes = total.requested;
  result.failed = total.failed;
  result.corrupted = total.corrupted;
  result.done = 1;
  header->result = result;
  _exit(0);
}

}  // namespace nonreuse::launcher
