// The scan kernels, each over the same memory as a plain read: how much of what the memory delivers is left.
//
// Memories: `random` holds random words, none of which points into the heap. The others are images of a heap:
// nodes of 64 bytes in random order of allocation, a fifth of them painted and zero (25 % of the live ones),
// the live ones with two pointers, a count, two small numbers, a double, text and a zero. `near`: pointers go
// up to 64 KiB away, as where neighbours were allocated together; `far`: anywhere in the image;
// `apart`: likewise, but what is painted lies together, in pieces of 16 KiB. One pointer
// in 10,000 points at a painted node, so that hits occur and are as rare as in programs.
//
// `live` is what a sweep does with the heap's own memory: lines of which every granule is painted are left
// out, a fifth of all but in `random`; nothing is free. Rates are of the memory that is covered, left out or
// not.
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "micro/plain_read.hpp"
#include "programs/common.hpp"
#include "revoke/scan.hpp"

namespace {

using bench::Random;
using nonreuse::KernelChoice;

constexpr size_t kNode = 64;
constexpr size_t kGranulesPerNode = kNode / nonreuse::kGranule;

enum class Kind { random, near, far, apart };

class Image {
 public:
  Image(Kind kind, size_t bytes)
      : words_(map(bytes)),
        count_(bytes / sizeof(uint64_t)),
        painted_(count_ / 128 + 1),
        hits_(painted_.size()),
        free_(painted_.size()),
        news_((bytes >> nonreuse::kGranuleShift >> nonreuse::kSummaryShift) / 64 + 1) {
    Random random(7);
    if (kind == Kind::random) {
      for (size_t i = 0; i < count_; ++i) words_[i] = random.next() | uint64_t{1} << 63;
      return;
    }
    const size_t nodes = bytes / kNode;
    std::vector<bool> freed(nodes);
    for (size_t n = 0; n < nodes; ++n) {
      constexpr size_t kPiece = (size_t{16} << 10) / kNode;
      freed[n] = kind == Kind::apart && n % kPiece != 0 ? freed[n - 1] : random.below(5) == 0;
      if (!freed[n]) continue;
      const size_t granule = n * kGranulesPerNode;
      painted_[granule >> 6] |= uint64_t{0xf} << (granule & 63);
    }
    for (size_t n = 0; n < nodes; ++n) {
      if (freed[n]) continue;
      uint64_t* const node = words_ + n * (kNode / sizeof(uint64_t));
      node[0] = target(random, kind, n, freed);
      node[1] = target(random, kind, n, freed);
      node[2] = random.below(1000);
      node[3] = random.below(64) | random.below(1 << 30) << 32;
      node[4] = random.below(100000);
      const double number = static_cast<double>(random.below(1000000)) / 7;
      memcpy(node + 5, &number, sizeof number);
      memcpy(node + 6, "a string", 8);
    }
  }
  Image(const Image&) = delete;
  ~Image() { munmap(words_, count_ * sizeof(uint64_t)); }

  const uint64_t* words() const { return words_; }
  size_t count() const { return count_; }
  nonreuse::LivePart part() const {
    return {reinterpret_cast<uintptr_t>(words_), free_.data(), painted_.data(), 0,
            count_ * sizeof(uint64_t) >> nonreuse::kGranuleShift};
  }
  nonreuse::ScanTarget target() {
    return {reinterpret_cast<uintptr_t>(words_), count_ * sizeof(uint64_t), painted_.data(), hits_.data(),
            news_.data()};
  }

 private:
  static uint64_t* map(size_t bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
      perror("mmap");
      exit(1);
    }
    return static_cast<uint64_t*>(memory);
  }

  // The address of another node.
  uint64_t target(Random& random, Kind kind, size_t from, const std::vector<bool>& freed) {
    constexpr size_t kReach = (size_t{64} << 10) / kNode;
    const bool wanted = random.below(10000) == 0;
    for (;;) {
      size_t to = random.below(freed.size());
      if (kind == Kind::near) to = (from + freed.size() + random.below(2 * kReach) - kReach) % freed.size();
      if (freed[to] == wanted) return reinterpret_cast<uintptr_t>(words_) + to * kNode;
    }
  }

  uint64_t* words_;
  size_t count_;
  std::vector<uint64_t> painted_, hits_, free_, news_;
};

Image& image(Kind kind, size_t bytes) {
  static std::map<std::pair<Kind, size_t>, std::unique_ptr<Image>> images;
  auto& found = images[{kind, bytes}];
  if (!found) found = std::make_unique<Image>(kind, bytes);
  return *found;
}

void account(benchmark::State& state, const Image& over) {
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(over.count() * 8));
}

void read_plainly(benchmark::State& state, Kind kind, size_t bytes) {
  Image& over = image(kind, bytes);
  for (auto _ : state) benchmark::DoNotOptimize(bench::plain_read(over.words(), over.count()));
  account(state, over);
}

void scan(benchmark::State& state, KernelChoice choice, Kind kind, size_t bytes) {
  Image& over = image(kind, bytes);
  const nonreuse::ScanKernel kernel = nonreuse::choose_kernel(choice);
  const nonreuse::ScanTarget target = over.target();
  for (auto _ : state) benchmark::DoNotOptimize(kernel(target, over.words(), over.count()));
  account(state, over);
}

void scan_live(benchmark::State& state, KernelChoice choice, Kind kind, size_t bytes) {
  Image& over = image(kind, bytes);
  const nonreuse::LiveKernel kernel = nonreuse::choose_live_kernel(choice);
  const nonreuse::ScanTarget target = over.target();
  uint64_t read = 0;
  for (auto _ : state) benchmark::DoNotOptimize(kernel(target, over.part(), read));
  benchmark::DoNotOptimize(read);
  account(state, over);
}

}  // namespace

int main(int argc, char** argv) {
  const std::pair<const char*, Kind> kinds[] = {
      {"random", Kind::random}, {"near", Kind::near}, {"far", Kind::far}, {"apart", Kind::apart}};
  const std::pair<const char*, KernelChoice> kernels[] = {{"scalar", KernelChoice::scalar},
                                                          {"avx2", KernelChoice::avx2},
                                                          {"avx512", KernelChoice::avx512},
                                                          {"neon", KernelChoice::neon}};
  for (const auto& [kind_name, kind] : kinds) {
    for (const size_t mib : {1, 16, 256}) {
      const size_t bytes = mib << 20;
      const std::string where = std::string("/") + kind_name + "/" + std::to_string(mib);
      benchmark::RegisterBenchmark(("read/plain" + where).c_str(), read_plainly, kind, bytes);
      for (const auto& [name, kernel] : kernels) {
        if (!nonreuse::kernel_available(kernel)) continue;
        benchmark::RegisterBenchmark((std::string("scan/") + name + where).c_str(), scan, kernel, kind,
                                     bytes);
        benchmark::RegisterBenchmark((std::string("live/") + name + where).c_str(), scan_live, kernel, kind,
                                     bytes);
      }
    }
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
