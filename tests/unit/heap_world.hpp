// What the tests of the heap's core share: a small world of simulated memory, and a random generator whose
// seed a failing test prints.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "base/options.hpp"
#include "front/allocator.hpp"
#include "platform/simulated.hpp"
#include "scripted_revoker.hpp"

namespace nonreuse {

using Space = AddressSpace<SimulatedMemory>;
using TestHeap = Heap<SimulatedMemory>;
using TestAllocator = Allocator<SimulatedMemory, ScriptedRevoker>;

// The base of every fixture here: GoogleTest's own has a private member of this name.
class CoreTest : public testing::Test {
 protected:
  using Run = nonreuse::Run;
};

inline constexpr size_t kKiB = 1024, kMiB = 1024 * kKiB;

// Fixed unless NONREUSE_TEST_SEED says otherwise, so that a failure can be seen again.
inline uint64_t test_seed(uint64_t otherwise) {
  const char* text = std::getenv("NONREUSE_TEST_SEED");
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(test_seed(seed)) {}
  uint64_t word() { return engine_(); }
  uint64_t below(uint64_t limit) { return engine_() % limit; }
  uint64_t between(uint64_t low, uint64_t high) { return low + below(high - low + 1); }
  bool one_in(uint64_t n) { return below(n) == 0; }
  // Small numbers often, large ones sometimes: the number of bits is even.
  uint64_t size(uint64_t most) {
    const unsigned bits = 64 - static_cast<unsigned>(std::countl_zero(most));
    const uint64_t value = word() >> (64 - between(1, bits));
    return most == ~uint64_t{0} ? value : value % (most + 1);
  }

 private:
  std::mt19937_64 engine_;
};

// No sweep but those that the test asks for.
inline Options quiet_options() {
  Options options{};
  options.percent = 25;
  options.min = 1u << 30;
  options.unmap = 64 * kKiB;
  options.stop_timeout = 1000;
  options.sweep = true;
  return options;
}

// What a shadow releases, as maximal runs.
inline std::vector<Run> released_runs(Shadow& shadow, Granule limit, Granules* total = nullptr) {
  std::vector<Run> runs;
  const Granules all = shadow.release(limit, [&](uint64_t word, uint64_t mask) {
    for (unsigned bit = 0; bit < 64; ++bit) {
      if ((mask >> bit & 1) == 0) continue;
      const Granule granule = (word << 6) + bit;
      if (!runs.empty() && runs.back().end() == granule)
        ++runs.back().length;
      else
        runs.push_back({granule, 1});
    }
  });
  if (total != nullptr) *total = all;
  return runs;
}

// Every page the callers touched was theirs to touch.
inline void expect_no_breach(const SimulatedMemory& memory) {
  for (const std::string& breach : memory.breaches()) ADD_FAILURE() << breach;
}

}  // namespace nonreuse
