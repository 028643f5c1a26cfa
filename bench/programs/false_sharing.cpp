// False sharing. active: each thread allocates a small block, writes to it many times, frees it, and again; a
// heap that hands parts of one cache line to several threads makes them slow. passive: the first blocks come
// from one thread, lie side by side, and are freed by the others, which then go on as in `active`.
//
//   false_sharing active|passive [THREADS [ROUNDS [WRITES]]]
#include <atomic>
#include <thread>
#include <vector>

#include "common.hpp"

int main(int argc, char** argv) {
  const bool passive = argc > 1 && std::strcmp(argv[1], "passive") == 0;
  const auto threads = static_cast<size_t>(bench::argument(argc, argv, 2, 2));
  const long rounds = bench::argument(argc, argv, 3, 400000), writes = bench::argument(argc, argv, 4, 2000);
  constexpr size_t kSize = 8;
  std::vector<uint64_t> sums(threads);
  std::vector<void*> first(threads);
  if (passive) {
    for (void*& block : first) block = bench::marked(kSize, 7);
  }
  std::vector<std::thread> running;
  std::atomic<size_t> ready{0};
  for (size_t i = 0; i < threads; ++i) {
    running.emplace_back([&, i] {
      if (passive) {
        sums[i] += bench::check(first[i], kSize);
        std::free(first[i]);
      }
      ready.fetch_add(1);
      while (ready.load() < threads) std::this_thread::yield();
      for (long round = 0; round < rounds; ++round) {
        auto* block = static_cast<volatile uint64_t*>(std::malloc(kSize));
        *block = i;
        for (long n = 0; n < writes; ++n) *block = *block + 1;
        sums[i] += *block;
        std::free(const_cast<uint64_t*>(block));
      }
    });
  }
  for (auto& thread : running) thread.join();
  uint64_t sum = 0;
  for (uint64_t part : sums) sum = bench::mix(sum, part);
  bench::print_checksum(passive ? "false_sharing passive" : "false_sharing active", sum);
}
