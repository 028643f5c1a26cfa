// Many threads that live briefly: each frees what the one before left, allocates some blocks, frees most of
// them and leaves the rest behind. A few run at a time.
#include <thread>
#include <vector>

#include "common.hpp"

namespace {

struct Left {
  std::vector<std::pair<void*, size_t>> blocks;
  uint64_t sum = 0;
};

void live(Left& left, uint64_t seed) {
  bench::Random random(seed);
  for (auto& [block, size] : left.blocks) {
    left.sum = bench::mix(left.sum, bench::check(block, size));
    std::free(block);
  }
  left.blocks.clear();
  for (int i = 0; i < 1000; ++i) {
    const size_t size = bench::mixed_size(random, 48);
    left.blocks.emplace_back(bench::marked(size, random.next()), size);
    if (random.below(10) < 8) {
      const size_t place = random.below(left.blocks.size());
      std::swap(left.blocks[place], left.blocks.back());
      left.sum = bench::mix(left.sum, bench::check(left.blocks.back().first, left.blocks.back().second));
      std::free(left.blocks.back().first);
      left.blocks.pop_back();
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto lines = static_cast<size_t>(bench::argument(argc, argv, 1, 4));
  const long threads = bench::argument(argc, argv, 2, 5000);
  std::vector<Left> left(lines);
  for (long number = 0; number < threads; ++number) {
    std::vector<std::thread> running;
    for (size_t line = 0; line < lines; ++line) {
      running.emplace_back(
          [&left, line, number] { live(left[line], static_cast<uint64_t>(number) * 64 + line); });
    }
    for (auto& thread : running) thread.join();
  }
  uint64_t sum = 0;
  for (Left& line : left) {
    for (auto& block : line.blocks) std::free(block.first);
    sum = bench::mix(sum, line.sum);
  }
  bench::print_checksum("thread_churn", sum);
}
