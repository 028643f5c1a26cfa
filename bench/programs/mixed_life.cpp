// Mixed lifetimes and sizes over threads: each thread keeps some blocks to its end, some for a while, and
// drops most at once; now and then it exchanges a block with a place that all threads share. Rounds of fresh
// threads.
#include <atomic>
#include <thread>
#include <vector>

#include "common.hpp"

namespace {

struct Block {
  size_t size;
  uint64_t mark;
};
std::atomic<Block*> shared[1024];

Block* make(bench::Random& random) {
  const uint64_t kind = random.below(1000);
  size_t items = 1 + random.below(kind < 700 ? 16 : kind < 980 ? 200 : kind < 998 ? 2000 : 40000);
  auto* block = static_cast<Block*>(std::malloc(sizeof(Block) + items * 8));
  if (block == nullptr) std::abort();
  *block = {items, random.next() | 1};
  auto* item = reinterpret_cast<uint64_t*>(block + 1);
  for (size_t i = 0; i < items; i += 1 + items / 64) item[i] = block->mark + i;
  return block;
}

void drop(Block* block) {
  if (block == nullptr) return;
  auto* item = reinterpret_cast<uint64_t*>(block + 1);
  for (size_t i = 0; i < block->size; i += 1 + block->size / 64) {
    if (item[i] != block->mark + i) {
      std::fprintf(stderr, "a block of %zu items was overwritten\n", block->size);
      std::exit(1);
    }
  }
  std::free(block);
}

uint64_t work(uint64_t seed, long steps) {
  bench::Random random(seed);
  std::vector<Block*> kept, waiting(512, nullptr);
  uint64_t sum = 0;
  for (long step = 0; step < steps; ++step) {
    Block* block = make(random);
    sum = bench::mix(sum, block->mark);
    const uint64_t kind = random.below(100);
    if (kind < 2) {
      kept.push_back(block);
    } else if (kind < 40) {
      std::swap(block, waiting[random.below(waiting.size())]);
    } else if (kind < 50) {
      block = shared[random.below(1024)].exchange(block);
    }
    if (kind >= 2) drop(block);
  }
  for (Block* block : kept) drop(block);
  for (Block* block : waiting) drop(block);
  return sum;
}

}  // namespace

int main(int argc, char** argv) {
  const long threads = bench::argument(argc, argv, 1, 2), rounds = bench::argument(argc, argv, 2, 30);
  const long steps = bench::argument(argc, argv, 3, 250000);
  uint64_t sum = 0;
  for (long round = 0; round < rounds; ++round) {
    std::vector<uint64_t> sums(static_cast<size_t>(threads));
    std::vector<std::thread> running;
    for (size_t i = 0; i < sums.size(); ++i) {
      running.emplace_back(
          [&sums, i, round, steps] { sums[i] = work(static_cast<uint64_t>(round) * 100 + i, steps); });
    }
    for (auto& thread : running) thread.join();
    for (uint64_t part : sums) sum = bench::mix(sum, part);
  }
  for (auto& place : shared) drop(place.exchange(nullptr));
  bench::print_checksum("mixed_life", sum);
}
