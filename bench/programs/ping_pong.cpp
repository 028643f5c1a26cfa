// Blocks of one size allocated and freed again in batches, in the manner of glibc's bench-malloc-simple: the
// plain cost of malloc and free.
//
//   ping_pong [THREADS [MILLIONS]]
#include <thread>
#include <vector>

#include "common.hpp"

namespace {

uint64_t work(long millions) {
  uint64_t sum = 0;
  std::vector<void*> block(400);
  for (size_t size : {16, 32, 64, 128, 256}) {
    for (size_t batch : {1, 25, 100, 400}) {
      const size_t rounds = static_cast<size_t>(millions) * 1000000 / 20 / batch;
      for (size_t round = 0; round < rounds; ++round) {
        for (size_t i = 0; i < batch; ++i) {
          block[i] = std::malloc(size);
          *static_cast<size_t*>(block[i]) = i + round;
        }
        for (size_t i = 0; i < batch; ++i) {
          sum += *static_cast<size_t*>(block[i]);
          std::free(block[i]);
        }
      }
    }
  }
  return sum;
}

}  // namespace

int main(int argc, char** argv) {
  const long threads = bench::argument(argc, argv, 1, 1), millions = bench::argument(argc, argv, 2, 100);
  std::vector<uint64_t> sums(static_cast<size_t>(threads));
  if (threads == 1) {
    sums[0] = work(millions);  // without a second thread the heap may take its short cuts
  } else {
    std::vector<std::thread> running;
    for (uint64_t& sum : sums) running.emplace_back([&sum, millions] { sum = work(millions); });
    for (auto& thread : running) thread.join();
  }
  uint64_t sum = 0;
  for (uint64_t part : sums) sum += part;
  bench::print_checksum("ping_pong", sum);
}
