// Steady churn: threads that replace blocks of mixed sizes in sets of fixed size, hand some over to each
// other, grow some by realloc, keep a few large ones, and are replaced by fresh threads now and then. How
// much is live stays the same, so the resident set must, too.
//
//   steady SECONDS [THREADS [LEAK]]      LEAK: bytes lost on purpose every second, to see the check fail
#include <time.h>

#include <atomic>
#include <thread>
#include <vector>

#include "common.hpp"

namespace {

struct Block {
  void* data = nullptr;
  size_t size = 0;
};
constexpr size_t kSlots = 30000, kLarge = 6, kShared = 4096;

struct Desk {
  explicit Desk(uint64_t seed) : random(seed), small(kSlots), large(kLarge) {}
  bench::Random random;
  std::vector<Block> small, large;
  uint64_t sum = 0;
};
struct Place {
  std::atomic_flag taken;
  Block block;
} shared[kShared];

void renew(Desk& desk, Block& block, size_t size) {
  if (block.data != nullptr) {
    desk.sum += bench::check(block.data, block.size);
    std::free(block.data);
  }
  block = {bench::marked(size, desk.random.next()), size};
}

void grow(Desk& desk, Block& block) {
  if (block.data == nullptr || block.size > 4000) return;
  const uint64_t mark = bench::check(block.data, block.size);
  void* moved = std::realloc(block.data, block.size + 24);
  if (moved == nullptr) std::abort();
  uint64_t first;
  std::memcpy(&first, moved, sizeof first);
  if (first != mark) std::abort();
  std::free(moved);
  block.data = nullptr;
  renew(desk, block, bench::mixed_size(desk.random, 64));
}

void churn(Desk& desk, long steps) {
  for (long step = 0; step < steps; ++step) {
    Block& block = desk.small[desk.random.below(kSlots)];
    const uint64_t kind = desk.random.below(1000);
    if (kind < 950) {
      renew(desk, block, bench::mixed_size(desk.random, 64));
    } else if (kind < 970) {
      grow(desk, block);
    } else if (kind < 999) {
      Place& place = shared[desk.random.below(kShared)];
      if (!place.taken.test_and_set(std::memory_order_acquire)) {
        std::swap(place.block, block);
        place.taken.clear(std::memory_order_release);
      }
    } else {
      renew(desk, desk.large[desk.random.below(kLarge)], 65536 + desk.random.below(1 << 20));
    }
  }
}

double now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 10;
  const auto threads = static_cast<size_t>(bench::argument(argc, argv, 2, 2));
  const long leak = bench::argument(argc, argv, 3, 0);
  const double begin = now();
  std::vector<std::thread> lines;
  std::atomic<uint64_t> sum{0}, rounds{0};
  for (size_t line = 0; line < threads; ++line) {
    lines.emplace_back([&, line] {
      Desk desk(line + 1);
      for (double lost = 0; now() - begin < seconds; ++rounds) {
        std::thread([&desk] { churn(desk, 200000); }).join();
        for (; line == 0 && lost + 65536 < (now() - begin) * static_cast<double>(leak); lost += 65536) {
          std::memset(bench::marked(65536, 1), 1, 65536);
        }
      }
      for (Block& block : desk.small) std::free(block.data);
      for (Block& block : desk.large) std::free(block.data);
      sum += desk.sum;
    });
  }
  for (auto& line : lines) line.join();
  std::printf("steady: %llu rounds\n", static_cast<unsigned long long>(rounds.load()));
}
