// A server in the manner of Larson and Krishnan (1998): each thread replaces random blocks of an array, then
// ends and leaves the array to a thread that follows it, so blocks are freed by threads that did not allocate
// them.
#include <thread>
#include <vector>

#include "common.hpp"

namespace {

struct Desk {
  bench::Random random;
  std::vector<void*> block;
  std::vector<size_t> size;
  uint64_t sum = 0;
};

void serve(Desk& desk, long steps) {
  for (long step = 0; step < steps; ++step) {
    const size_t place = desk.random.below(desk.block.size());
    desk.sum = bench::mix(desk.sum, bench::check(desk.block[place], desk.size[place]));
    std::free(desk.block[place]);
    desk.size[place] = 8 + desk.random.below(1000);
    desk.block[place] = bench::marked(desk.size[place], desk.random.next());
  }
}

}  // namespace

int main(int argc, char** argv) {
  const long threads = bench::argument(argc, argv, 1, 2), rounds = bench::argument(argc, argv, 2, 100);
  const long steps = bench::argument(argc, argv, 3, 100000);
  const auto blocks = static_cast<size_t>(bench::argument(argc, argv, 4, 10000));
  std::vector<std::thread> lines;
  std::vector<uint64_t> sums(static_cast<size_t>(threads));
  for (size_t line = 0; line < sums.size(); ++line) {
    lines.emplace_back([&sums, line, rounds, steps, blocks] {
      Desk desk{bench::Random(line + 1), {}, {}};
      for (size_t i = 0; i < blocks; ++i) {
        desk.size.push_back(8 + desk.random.below(1000));
        desk.block.push_back(bench::marked(desk.size[i], desk.random.next()));
      }
      for (long round = 0; round < rounds; ++round)
        std::thread([&desk, steps] { serve(desk, steps); }).join();
      for (void* block : desk.block) std::free(block);
      sums[line] = desk.sum;
    });
  }
  uint64_t sum = 0;
  for (auto& line : lines) line.join();
  for (uint64_t part : sums) sum = bench::mix(sum, part);
  bench::print_checksum("larson", sum);
}
