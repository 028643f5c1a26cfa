// Random allocation and freeing with a live set: each step frees the block in a random slot and puts a new
// one of a mixed size there. One set for each thread.
#include <thread>
#include <vector>

#include "common.hpp"

namespace {

uint64_t work(uint64_t seed, size_t slots, long steps) {
  struct Slot {
    void* block;
    size_t size;
  };
  bench::Random random(seed);
  std::vector<Slot> live(slots, Slot{nullptr, 0});
  uint64_t sum = 0;
  for (long step = 0; step < steps; ++step) {
    Slot& slot = live[random.below(slots)];
    if (slot.block != nullptr) {
      sum = bench::mix(sum, bench::check(slot.block, slot.size));
      std::free(slot.block);
    }
    slot.size = bench::mixed_size(random, 64);
    slot.block = bench::marked(slot.size, random.next());
  }
  for (Slot& slot : live) {
    if (slot.block != nullptr) sum = bench::mix(sum, bench::check(slot.block, slot.size));
    std::free(slot.block);
  }
  return sum;
}

}  // namespace

int main(int argc, char** argv) {
  const long threads = bench::argument(argc, argv, 1, 1), steps = bench::argument(argc, argv, 2, 12000000);
  const auto slots = static_cast<size_t>(bench::argument(argc, argv, 3, 50000));
  std::vector<uint64_t> sums(static_cast<size_t>(threads));
  std::vector<std::thread> running;
  for (size_t i = 0; i < sums.size(); ++i) {
    running.emplace_back([&sums, i, slots, steps] { sums[i] = work(i + 1, slots, steps); });
  }
  for (auto& thread : running) thread.join();
  uint64_t sum = 0;
  for (uint64_t part : sums) sum = bench::mix(sum, part);
  bench::print_checksum("random_live", sum);
}
