// pauses THREADS LIVE_MIB SECONDS: a server's cache. Each thread keeps its share of the live objects (64 to
// 2000 bytes); it looks objects up, and replaces one for every 64 it looks up. Another thread, of real-time
// priority where that is permitted, wakes up every 200 us and notes how late it is: what the others' stops
// look like from the outside. Prints a JSON object; statistics come from the library, if it is there.
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

// Microseconds late, one for each time it woke up.
void watch(std::vector<uint32_t>* late, bool* real_time) {
  sched_param parameters{};
  parameters.sched_priority = 10;
  *real_time = pthread_setschedparam(pthread_self(), SCHED_FIFO, &parameters) == 0;
  constexpr uint64_t kPeriod = 200'000;
  for (uint64_t next = now_ns() + kPeriod; !quit.load(std::memory_order_relaxed);) {
    const timespec until{static_cast<time_t>(next / 1'000'000'000), static_cast<long>(next % 1'000'000'000)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);
    const uint64_t now = now_ns();
    if (late->size() < late->capacity()) late->push_back(static_cast<uint32_t>((now - next) / 1000));
    next = now + kPeriod;
  }
}

// Adds the length of each stop since `before`, in microseconds: mostly one, else their mean for each.
void note_stops(void (&get)(nonreuse_statistics*), nonreuse_statistics& before,
                std::vector<uint64_t>& pauses) {
  nonreuse_statistics now{};
  get(&now);
  if (const uint64_t stops = now.stops - before.stops; stops != 0)
    pauses.insert(pauses.end(), stops, (now.pause_ns_total - before.pause_ns_total) / stops / 1000);
  before = now;
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
  std::vector<uint32_t> late;
  late.resize(static_cast<size_t>(seconds * 6000));  // touched now: a page fault is no pause
  late.clear();
  bool real_time = false;
  std::thread watcher(watch, &late, &real_time);
  const uint64_t begin = now_ns(), cpu = cpu_ns();
  std::vector<uint64_t> pauses;
  while (static_cast<double>(now_ns() - begin) < seconds * 1e9) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (get != nullptr) note_stops(*get, after, pauses);
  }
  const uint64_t took = now_ns() - begin, used = cpu_ns() - cpu;
  quit.store(true);
  for (std::thread& server : servers) server.join();
  watcher.join();

  std::sort(late.begin(), late.end(), std::greater<>());
  const uint64_t stops = after.stops - before.stops;
  printf("{\"threads\": %u, \"live_mib\": %zu, \"seconds\": %.3f, \"cpu_seconds\": %.3f", threads, live >> 20,
         static_cast<double>(took) / 1e9, static_cast<double>(used) / 1e9);
  printf(", \"operations\": %llu, \"real_time\": %s", (unsigned long long)operations.load(),
         real_time ? "true" : "false");
  const size_t shown = std::min<size_t>(late.size(), stops + 10);
  const std::vector<uint64_t> latest(late.begin(), late.begin() + static_cast<long>(shown));
  print_list("latest_us", latest.data(), latest.size());
  std::sort(pauses.begin(), pauses.end(), std::greater<>());
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
