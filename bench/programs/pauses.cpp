// pauses THREADS LIVE_MIB SECONDS: a server's cache. Each thread keeps its share of the live objects (64 to
// 2000 bytes); it looks objects up, and replaces one for every 64 it looks up. Another thread, of real-time
// priority where that is permitted, wakes up every 200 us and notes how late it is: what the others' stops
// look like from the outside, and whatever else keeps it from the processor. Prints a JSON object; statistics
// come from the library, if it is there.
#include <dlfcn.h>
#include <dlmalloc_nonreuse.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace {

uint64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

uint64_t cpu_ns() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

std::atomic<bool> quit{false};
std::atomic<unsigned> ready{0};
std::atomic<uint64_t> operations{0}, checksum{0};

struct Object {
  uint32_t size;
  uint32_t uses;
  char text[];
};

Object* make(uint64_t random) {
  const auto size = static_cast<uint32_t>(64 + random % 1937);
  auto* object = static_cast<Object*>(malloc(size));
  if (object == nullptr) abort();
  memset(object, static_cast<int>(random), size);
  object->size = size;
  object->uses = 0;
  return object;
}

void serve(uint64_t seed, size_t bytes) {
  uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
  const auto random = [&state] {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
  };
  std::vector<Object*> objects(bytes / 1032);  // the mean size
  for (Object*& object : objects) object = make(random());
  ready.fetch_add(1);
  uint64_t sum = 0, done = 0;
  while (!quit.load(std::memory_order_relaxed)) {
    for (int i = 0; i < 64; ++i) {
      const Object* object = objects[random() % objects.size()];
      sum += static_cast<unsigned char>(object->text[object->size - sizeof(Object) - 1]);
    }
    Object*& victim = objects[random() % objects.size()];
    free(victim);
    victim = make(random());
    ++done;
  }
  operations.fetch_add(done);
  checksum.fetch_add(sum);
  for (Object* object : objects) free(object);
}

// How late it woke up, and when.
struct Delay {
  uint32_t late_us;
  uint64_t woke_ns;
};

// One delay for each time it woke up.
void watch(std::vector<Delay>* delays, bool* real_time) {
  sched_param parameters{};
  parameters.sched_priority = 10;
  *real_time = pthread_setschedparam(pthread_self(), SCHED_FIFO, &parameters) == 0;
  constexpr uint64_t kPeriod = 200'000;
  for (uint64_t next = now_ns() + kPeriod; !quit.load(std::memory_order_relaxed);) {
    const timespec until{static_cast<time_t>(next / 1'000'000'000), static_cast<long>(next % 1'000'000'000)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);
    const uint64_t now = now_ns();
    if (delays->size() < delays->capacity())
      delays->push_back({static_cast<uint32_t>((now - next) / 1000), now});
    next = now + kPeriod;
  }
}

// Stops from the inside, and when they were: between two looks.
struct Stop {
  uint64_t pause_us, after_ns, before_ns;
};

// Adds the stops since `before`: mostly one, else their mean for each.
void note_stops(void (&get)(nonreuse_statistics*), nonreuse_statistics& before, uint64_t& looked_ns,
                std::vector<Stop>& stops) {
  nonreuse_statistics now{};
  get(&now);
  const uint64_t at = now_ns();
  if (const uint64_t count = now.stops - before.stops; count != 0) {
    const uint64_t pause_us = (now.pause_ns_total - before.pause_ns_total) / count / 1000;
    // It is counted when helpers have ended and memory is released, which takes that long at most, mostly.
    constexpr uint64_t kCounted = 30'000'000;
    stops.insert(stops.end(), count, Stop{pause_us, looked_ns - pause_us * 1000 - kCounted, at});
  }
  before = now;
  looked_ns = at;
}

// The longest delay, in microseconds, of a wake-up that was due, or came, while the stop was.
uint64_t longest_in(const Stop& stop, const std::vector<Delay>& delays) {
  const auto first = std::partition_point(delays.begin(), delays.end(),
                                          [&](const Delay& d) { return d.woke_ns < stop.after_ns; });
  uint64_t longest = 0;
  for (auto at = first; at != delays.end(); ++at) {
    if (at->woke_ns - uint64_t{at->late_us} * 1000 > stop.before_ns) break;
    longest = std::max<uint64_t>(longest, at->late_us);
  }
  return longest;
}

void print_list(const char* name, const uint64_t* values, size_t count) {
  printf(", \"%s\": [", name);
  for (size_t i = 0; i < count; ++i) printf("%s%llu", i == 0 ? "" : ", ", (unsigned long long)values[i]);
  printf("]");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: pauses THREADS LIVE_MIB SECONDS\n");
    return 2;
  }
  const unsigned threads = static_cast<unsigned>(atoi(argv[1]));
  const size_t live = strtoull(argv[2], nullptr, 10) << 20;
  const double seconds = atof(argv[3]);
  using Get = void (*)(nonreuse_statistics*);
  const auto get = reinterpret_cast<Get>(dlsym(RTLD_DEFAULT, "nonreuse_get_statistics"));

  std::vector<std::thread> servers;
  for (unsigned i = 0; i < threads; ++i) servers.emplace_back(serve, i + 1, live / threads);
  while (ready.load() < threads) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  nonreuse_statistics before{}, after{};
  if (get != nullptr) get(&before);
  after = before;
  std::vector<Delay> delays;
  delays.resize(static_cast<size_t>(seconds * 6000));  // touched now: a page fault is no pause
  delays.clear();
  bool real_time = false;
  std::thread watcher(watch, &delays, &real_time);
  const uint64_t begin = now_ns(), cpu = cpu_ns();
  uint64_t looked_ns = begin;
  std::vector<Stop> noted;
  while (static_cast<double>(now_ns() - begin) < seconds * 1e9) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (get != nullptr) note_stops(*get, after, looked_ns, noted);
  }
  const uint64_t took = now_ns() - begin, used = cpu_ns() - cpu;
  quit.store(true);
  for (std::thread& server : servers) server.join();
  watcher.join();

  std::vector<uint64_t> pauses, outside, latest;
  for (const Stop& stop : noted) {
    pauses.push_back(stop.pause_us);
    outside.push_back(longest_in(stop, delays));
  }
  for (const Delay& delay : delays) latest.push_back(delay.late_us);
  for (auto* list : {&pauses, &outside, &latest}) std::sort(list->begin(), list->end(), std::greater<>());
  printf("{\"threads\": %u, \"live_mib\": %zu, \"seconds\": %.3f, \"cpu_seconds\": %.3f", threads, live >> 20,
         static_cast<double>(took) / 1e9, static_cast<double>(used) / 1e9);
  printf(", \"operations\": %llu, \"real_time\": %s", (unsigned long long)operations.load(),
         real_time ? "true" : "false");
  print_list("latest_us", latest.data(), std::min<size_t>(latest.size(), 20));
  print_list("outside_us", outside.data(), outside.size());
  print_list("pauses_us", pauses.data(), pauses.size());
  const auto print_difference = [&](const char* name, uint64_t nonreuse_statistics::*field) {
    printf(", \"%s\": %llu", name, (unsigned long long)(after.*field - before.*field));
  };
  print_difference("sweeps", &nonreuse_statistics::sweeps);
  print_difference("sweeps_beside", &nonreuse_statistics::concurrent_sweeps);
  print_difference("stops", &nonreuse_statistics::stops);
  print_difference("pause_ns", &nonreuse_statistics::pause_ns_total);
  print_difference("sweep_ns", &nonreuse_statistics::sweep_ns_total);
  print_difference("reread_bytes", &nonreuse_statistics::reread_bytes);
  printf("}\n");
  return 0;
}
