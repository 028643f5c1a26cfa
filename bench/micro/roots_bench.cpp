// What a root walk costs: by the number of mappings, by the memory present, by the source of page presence.
#include <benchmark/benchmark.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <vector>

#include "platform/roots.hpp"

namespace {

using nonreuse::PageSource;
using nonreuse::RootRange;

class Counter final : public nonreuse::RootVisitor {
 public:
  void visit(const RootRange& range) override {
    ++ranges;
    bytes += range.range.size();
  }
  size_t ranges = 0;
  size_t bytes = 0;
};

size_t count_mappings() {
  FILE* maps = fopen("/proc/self/maps", "r");
  if (maps == nullptr) return 0;
  size_t lines = 0;
  for (int c; (c = fgetc(maps)) != EOF;) lines += c == '\n';
  fclose(maps);
  return lines;
}

void walk(benchmark::State& state, PageSource source) {
  nonreuse::RootWalker walker;
  walker.limit_page_source(source);
  Counter last;
  for (auto _ : state) {
    last = Counter();
    if (walker.walk(nullptr, 0, last) != nonreuse::RootStatus::complete) state.SkipWithError("not complete");
  }
  state.SetLabel(walker.page_source());
  state.counters["mappings"] = static_cast<double>(count_mappings());
  state.counters["ranges"] = static_cast<double>(last.ranges);
  state.counters["KiB"] = static_cast<double>(last.bytes >> 10);
}

// Arguments: mappings in all, PageSource.
void walk_mappings(benchmark::State& state) {
  constexpr size_t kSize = 16384;
  std::vector<void*> added;
  const size_t wanted = static_cast<size_t>(state.range(0));
  for (size_t have = count_mappings(); have < wanted; ++have) {
    const bool writable = added.size() % 2 == 1;  // else the kernel joins them
    const int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    void* memory = mmap(nullptr, kSize, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) break;
    if (writable) *static_cast<char*>(memory) = 1;
    added.push_back(memory);
  }
  walk(state, static_cast<PageSource>(state.range(1)));
  for (void* memory : added) munmap(memory, kSize);
}
BENCHMARK(walk_mappings)->ArgsProduct({{0, 100, 600}, {0, 1, 2, 3}})->Unit(benchmark::kMicrosecond);

// Arguments: MiB in one mapping, whether they are present, PageSource.
void walk_memory(benchmark::State& state) {
  const size_t size = static_cast<size_t>(state.range(0)) << 20;
  void* memory =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return state.SkipWithError("no memory");
  madvise(memory, size, MADV_NOHUGEPAGE);
  if (state.range(1) != 0) memset(memory, 1, size);
  walk(state, static_cast<PageSource>(state.range(2)));
  munmap(memory, size);
}
BENCHMARK(walk_memory)->ArgsProduct({{1024}, {0, 1}, {0, 1, 2}})->Unit(benchmark::kMicrosecond);

}  // namespace

BENCHMARK_MAIN();
