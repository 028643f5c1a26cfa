// What a call costs, by size: malloc, free, calloc, realloc. Of plain names, so that one program measures
// glibc's malloc and, with the library preloaded, this one.
//
// Calls of one kind are timed together, a batch at a time: as many blocks as make a mebibyte, at most 1024.
// Every block is written to at its first word, as programs do, within the time of the call that made it. What
// happens in between - a refill, a sweep - counts where it happens. `operations` is the number of calls in an
// iteration.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <semaphore>
#include <thread>
#include <vector>

#include "micro/cpu_time.hpp"

namespace {

using bench::cpu_s;
using bench::took;

size_t batch_of(size_t size) {
  return std::clamp<size_t>((size_t{1} << 20) / size, 4, 1024);
}

void touch(void* block) {
  if (block == nullptr) abort();
  *static_cast<volatile uint64_t*>(block) = 1;
}

enum class Call { malloc, free, calloc, realloc };

// Fills `blocks` by the call, or by malloc.
template <Call kCall>
void make(std::vector<void*>& blocks, size_t size) {
  for (void*& block : blocks) {
    if constexpr (kCall == Call::calloc)
      block = calloc(1, size);
    else if constexpr (kCall == Call::realloc)
      block = realloc(block, size);
    else
      block = malloc(size);
    touch(block);
  }
}

void drop(std::vector<void*>& blocks) {
  for (void* block : blocks) free(block);
}

// Argument: bytes. realloc: from half of that.
template <Call kCall>
void calls(benchmark::State& state) {
  const auto size = static_cast<size_t>(state.range(0));
  std::vector<void*> blocks(batch_of(size));
  for (auto _ : state) {
    if constexpr (kCall == Call::free) make<Call::malloc>(blocks, size);
    if constexpr (kCall == Call::realloc) make<Call::malloc>(blocks, size / 2);
    const double begin = cpu_s();
    if constexpr (kCall == Call::free)
      drop(blocks);
    else
      make<kCall>(blocks, size);
    state.SetIterationTime(took(begin, cpu_s()));
    if constexpr (kCall != Call::free) drop(blocks);
  }
  state.counters["operations"] = static_cast<double>(blocks.size());
}

// A block is freed as soon as it was made.
void pair(benchmark::State& state) {
  const auto size = static_cast<size_t>(state.range(0));
  for (auto _ : state) {
    void* block = malloc(size);
    touch(block);
    benchmark::DoNotOptimize(block);
    free(block);
  }
  state.counters["operations"] = benchmark::Counter(1, benchmark::Counter::kAvgThreads);
}

// The same while another thread exists, which sleeps: instructions need their lock prefix then.
void pair_not_alone(benchmark::State& state) {
  std::binary_semaphore end(0);
  std::thread other([&end] { end.acquire(); });
  pair(state);
  end.release();
  other.join();
}

void sizes(benchmark::internal::Benchmark* benchmark) {
  for (const long size : {16, 32, 64, 128, 256, 512, 1024, 4096, 16384, 65536, 1 << 20}) benchmark->Arg(size);
}

BENCHMARK(calls<Call::malloc>)->Name("malloc")->Apply(sizes)->UseManualTime();
BENCHMARK(calls<Call::free>)->Name("free")->Apply(sizes)->UseManualTime();
BENCHMARK(calls<Call::calloc>)->Name("calloc")->Apply(sizes)->UseManualTime();
BENCHMARK(calls<Call::realloc>)->Name("realloc")->Apply(sizes)->UseManualTime();
BENCHMARK(pair)->Name("pair")->Apply(sizes);
BENCHMARK(pair_not_alone)->Name("pair, another thread sleeps")->Arg(32)->Arg(256)->Arg(1024);
BENCHMARK(pair)->Name("pair, two threads")->Arg(32)->Arg(256)->Arg(1024)->Threads(2)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
