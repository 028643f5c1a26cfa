// What happens to freed chunks in a sweep besides the search: painting sealed batches, releasing what was
// painted into the free pool; and making memory zero before it is handed out.
//
// Half of the chunks of a heap of 64 MiB, chosen at random, are freed, so that what is released meets
// neighbours that stay; `in order`: by address, `shuffled`: as a program drops them that has allocated long.
// Every iteration paints and releases all of them; only the one that the name says is timed. `operations` is
// the number of chunks.
#include <benchmark/benchmark.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "heap/heap.hpp"
#include "micro/cpu_time.hpp"
#include "platform/linux_memory.hpp"
#include "platform/zeroing.hpp"
#include "programs/common.hpp"
#include "revoke/quarantine.hpp"
#include "revoke/shadow.hpp"

namespace {

using namespace nonreuse;
using bench::cpu_s;
using bench::took;

[[noreturn]] void fail(const char* what) {
  fprintf(stderr, "quarantine_bench: %s\n", what);
  exit(1);
}

// The core without its front: chunks are taken, freed into batches, painted and released by hand.
class World {
 public:
  World(size_t heap_bytes, Granules length, bool shuffled)
      : space_(memory_), heap_(space_), quarantine_(space_), length_(length) {
    if (!space_.init() || !heap_.init()) fail("no address space");
    shadow_.attach({space_.shadow_bits(), space_.summary_bits(), space_.hit_bits(), space_.hit_summary_bits(),
                    space_.expanded_bits(), space_.news_bits()});
    const size_t chunks = (heap_bytes >> kGranuleShift) / length;
    const Run all = heap_.take(chunks * length);
    if (all.empty()) fail("no memory");
    bench::Random random(3);
    for (size_t i = 0; i < chunks; ++i) {
      const Run chunk{all.start + i * length, length};
      heap_.tags().set_live(chunk.start, chunk.length);
      // Not the last one: it would become part of the heap's unused end.
      if (i + 1 < chunks && random.below(2) == 0) freed_.push_back(chunk);
    }
    freed_granules_ = freed_.size() * length;
    for (size_t i = freed_.size(); shuffled && i > 1; --i) std::swap(freed_[i - 1], freed_[random.below(i)]);
  }

  size_t chunks() const { return freed_.size(); }

  // Into batches, which are not sealed yet.
  void free_all() {
    while (open_.size() * Batch::kCapacity < freed_.size()) {
      LockGuard guard(quarantine_.lock());
      open_.push_back(quarantine_.take_batch_locked());
      if (open_.back() == nullptr) fail("no memory for a batch");
    }
    auto open = open_.begin();
    for (size_t i = 0; i < freed_.size(); ++open) {
      Batch* const batch = *open;
      for (; i < freed_.size() && batch->append(freed_[i]); ++i) {
        heap_.tags().set_freed(freed_[i].start, freed_[i].length);
      }
    }
  }
  // Their number.
  size_t seal_all() {
    for (Batch* batch : open_) {
      LockGuard guard(quarantine_.lock());
      quarantine_.seal_locked(batch, batch->entries[0].length() * batch->count.load() << kGranuleShift);
    }
    const size_t sealed = open_.size();
    open_.clear();
    return sealed;
  }
  void paint() {
    LockGuard guard(quarantine_.lock());
    if (quarantine_.paint_locked(shadow_, 0).chunks != freed_.size()) fail("not everything was painted");
  }
  // As a sweep does that finds no pointer.
  void release() {
    LockGuard guard(heap_.lock());
    heap_.begin_release();
    shadow_.release(heap_.top(), [&](uint64_t word, uint64_t clear) { heap_.release_word(word, clear); });
    heap_.end_release();
    quarantine_.settle_books(0, 0);
  }
  // What was released is taken again, as long-lived threads do for their runs: 32 KiB at a time. The number
  // of calls.
  size_t take_again() {
    Granules taken = 0;
    size_t calls = 0;
    for (size_t count = 1; count != 0; ++calls) {
      LockGuard guard(heap_.lock());
      count = heap_.gather(1, (Granules{32} << 10) >> kGranuleShift, 0, runs_, std::size(runs_));
      for (size_t i = 0; i < count; ++i) taken += runs_[i].length;
    }
    // Where most holes are short, longer runs are left to requests that need them.
    for (; taken < freed_granules_; ++calls) {
      LockGuard guard(heap_.lock());
      const Run run = heap_.take(length_);
      if (run.empty()) fail("less came back than was released");
      taken += run.length;
    }
    if (taken != freed_granules_) fail("something else came back than was released");
    return calls;
  }

 private:
  LinuxMemory memory_;
  AddressSpace<LinuxMemory> space_;
  Heap<LinuxMemory> heap_;
  Quarantine<LinuxMemory> quarantine_;
  Shadow shadow_;
  const Granules length_;
  std::vector<Run> freed_;
  Granules freed_granules_ = 0;
  std::vector<Batch*> open_;
  Run runs_[64];
};

// Memory of the core is never given back: one for each kind of chunk, and each ends an iteration as it began
// it.
World& world_of(Granules length, bool shuffled) {
  static std::map<std::pair<Granules, bool>, std::unique_ptr<World>> worlds;
  auto& found = worlds[{length, shuffled}];
  if (!found) found = std::make_unique<World>(size_t{64} << 20, length, shuffled);
  return *found;
}

enum class Timed { seal, paint, release, refill };

// Arguments: bytes of a chunk, whether they are freed in random order.
template <Timed kTimed>
void sweep(benchmark::State& state) {
  World& world = world_of(static_cast<Granules>(state.range(0)) >> kGranuleShift, state.range(1) != 0);
  double operations = static_cast<double>(world.chunks());
  for (auto _ : state) {
    world.free_all();
    double times[5] = {cpu_s()};
    const size_t batches = world.seal_all();
    times[1] = cpu_s();
    world.paint();
    times[2] = cpu_s();
    world.release();
    times[3] = cpu_s();
    const size_t refills = world.take_again();
    times[4] = cpu_s();
    constexpr auto kFrom = static_cast<size_t>(kTimed);
    state.SetIterationTime(took(times[kFrom], times[kFrom + 1]));
    if (kTimed == Timed::seal) operations = static_cast<double>(batches);
    if (kTimed == Timed::refill) operations = static_cast<double>(refills);
  }
  state.counters["operations"] = operations;
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(world.chunks()) * state.range(0));
  state.SetLabel(state.range(1) != 0 ? "shuffled" : "in order");
}
BENCHMARK(sweep<Timed::paint>)->Name("paint")->ArgsProduct({{32, 64, 256, 1024}, {0, 1}})->UseManualTime();
BENCHMARK(sweep<Timed::release>)
    ->Name("release")
    ->ArgsProduct({{32, 64, 256, 1024}, {0, 1}})
    ->UseManualTime();
BENCHMARK(sweep<Timed::seal>)
    ->Name("seal")
    ->ArgsProduct({{32, 256, 1024}, {0}})
    ->UseManualTime()
    ->Iterations(8);
BENCHMARK(sweep<Timed::refill>)->Name("refill")->ArgsProduct({{32, 256, 1024}, {0}})->UseManualTime();

// What memory is before it is made zero: nothing but zeroes; one word of each 4 KiB written; every word
// written.
enum Dirt : int64_t { kClean, kOneWord, kAll };

// Arguments: bytes, Dirt. Of a block in the caches, if it fits: 64 of them, at most 16 MiB, in turn.
void make_zero(benchmark::State& state) {
  constexpr size_t kPage = 4096;
  const auto bytes = static_cast<size_t>(state.range(0));
  const size_t blocks = std::max<size_t>(1, std::min<size_t>(64, (size_t{16} << 20) / bytes));
  void* memory = mmap(nullptr, blocks * bytes + kPage, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) return state.SkipWithError("no memory");
  char* const at = static_cast<char*>(memory);
  for (auto _ : state) {
    if (state.range(1) == kAll) memset(at, 1, blocks * bytes);
    for (size_t i = 0; state.range(1) == kOneWord && i < blocks * bytes; i += kPage) at[i + kPage / 2] = 1;
    const double begin = cpu_s();
    for (size_t i = 0; i < blocks; ++i)
      benchmark::DoNotOptimize(zero_where_dirty(at + i * bytes, bytes, kPage));
    benchmark::ClobberMemory();
    state.SetIterationTime(took(begin, cpu_s()));
  }
  munmap(memory, blocks * bytes + kPage);
  state.counters["operations"] = static_cast<double>(blocks);
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(blocks * bytes));
  state.SetLabel(state.range(1) == kClean     ? "clean"
                 : state.range(1) == kOneWord ? "a word a page"
                                              : "all dirty");
}
BENCHMARK(make_zero)
    ->ArgsProduct({{256, 4096, 32768, 1 << 20, 16 << 20}, {kClean, kOneWord, kAll}})
    ->UseManualTime();

}  // namespace

BENCHMARK_MAIN();
