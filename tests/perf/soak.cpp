// Steady churn for as long as one likes: memory must not grow.   soak SECONDS [THREADS]
//
// Each thread keeps a table of blocks of mixed sizes and replaces random ones, hands some to other threads to
// free, and leaves some stale pointers behind for a while. Resident memory is sampled; the mean of the last
// third may not exceed that of the second by more than a tenth and 8 MiB.
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

namespace {

constexpr size_t kBlocks = 20000;     // of each thread
constexpr size_t kHandedOver = 4096;  // slots through which blocks change threads
constexpr size_t kStale = 64;         // pointers to freed blocks that a thread keeps for a while

std::atomic<bool> finished{false};
std::atomic<void*> handed_over[kHandedOver];
std::atomic<unsigned long> replaced{0};

// Mostly small, some of pages, few of hundreds of kilobytes.
size_t pick_size(std::mt19937& random) {
  const unsigned kind = random() % 1000;
  if (kind < 900) return 1 + random() % 512;
  if (kind < 995) return 1 + random() % 16384;
  return 1 + random() % 400000;
}

void churn(unsigned seed) {
  std::mt19937 random(seed);
  std::vector<void*> blocks(kBlocks, nullptr);
  std::vector<void*> stale(kStale, nullptr);
  while (!finished.load(std::memory_order_relaxed)) {
    for (int step = 0; step < 10000; ++step) {
      void*& block = blocks[random() % kBlocks];
      const size_t size = pick_size(random);
      void* fresh = malloc(size);
      if (fresh == nullptr) abort();
      memset(fresh, 0x5a, size);
      void* old = block;
      block = fresh;
      if (random() % 8 == 0) old = handed_over[random() % kHandedOver].exchange(old);
      free(old);
      if (random() % 64 == 0) stale[random() % kStale] = old;
    }
    replaced.fetch_add(10000, std::memory_order_relaxed);
  }
  for (void* block : blocks) free(block);
}

double resident_mib() {
  unsigned long size = 0;
  unsigned long resident = 0;
  FILE* file = fopen("/proc/self/statm", "r");
  if (file == nullptr || fscanf(file, "%lu %lu", &size, &resident) != 2) abort();
  fclose(file);
  return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1 << 20);
}

double mean(const std::vector<double>& samples, size_t begin, size_t end) {
  return std::accumulate(samples.begin() + static_cast<long>(begin), samples.begin() + static_cast<long>(end),
                         0.0) /
         static_cast<double>(end - begin);
}

}  // namespace

int main(int argc, char** argv) {
  const int seconds = argc > 1 ? atoi(argv[1]) : 20;
  const int count = argc > 2 ? atoi(argv[2]) : 2;
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back(churn, 1000u + static_cast<unsigned>(i));

  constexpr int kSamples = 60;
  std::vector<double> samples;
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 1; i <= kSamples; ++i) {
    std::this_thread::sleep_until(begin +
                                  std::chrono::duration<double>(seconds * static_cast<double>(i) / kSamples));
    samples.push_back(resident_mib());
    if (i % 6 == 0)
      printf("%5.0f s: %.1f MiB resident\n", seconds * static_cast<double>(i) / kSamples, samples.back());
  }
  finished = true;
  for (std::thread& thread : threads) thread.join();

  const double second = mean(samples, kSamples / 3, kSamples * 2 / 3);
  const double last = mean(samples, kSamples * 2 / 3, kSamples);
  printf("%lu blocks replaced; resident: second third %.1f MiB, last third %.1f MiB\n", replaced.load(),
         second, last);
  if (last > second * 1.1 + 8) {
    printf("FAILED: memory grows\n");
    return 1;
  }
  return 0;
}
