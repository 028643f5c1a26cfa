// freed_byte LIVE_MIB SWEEPS CHURN_MIB: what it costs to free a byte while LIVE_MIB of linked 64-byte nodes
// live. One node after the other replaces a random one of 4096 more, beside the live ones. Measured is from
// the end of one sweep to the end of the SWEEPS-th after it, but at least CHURN_MIB of freed chunks, whole
// sweeps; where the library is not there, CHURN_MIB of them. Every node points to the node before it and to a
// random earlier one. Prints a JSON object.
#include <dlfcn.h>
#include <dlmalloc_nonreuse.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "common.hpp"

namespace {

// 56 bytes are a chunk of 64, here and in glibc.
struct Node {
  Node* next;
  Node* other;
  uint64_t number;
  uint64_t data[4];
};
static_assert(sizeof(Node) == 56);
constexpr uint64_t kChunk = 64;
constexpr size_t kRing = 4096;
constexpr uint64_t kLook = (uint64_t{1} << 18) / kChunk;  // frees between two looks at the statistics

uint64_t clock_ns(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

Node* make(Node* next, Node* other, uint64_t number) {
  auto* node = static_cast<Node*>(malloc(sizeof(Node)));
  if (node == nullptr) {
    perror("malloc");
    exit(1);
  }
  *node = {next, other, number, {number % 7, number * 3, 0, 1}};
  return node;
}

// A list of so many nodes; `other` is any earlier one with equal probability.
Node* make_live(uint64_t nodes, bench::Random& random) {
  std::vector<Node*> sample;
  Node* last = nullptr;
  for (uint64_t i = 0; i < nodes; ++i) {
    last = make(last, sample.empty() ? nullptr : sample[random.below(sample.size())], i);
    if (sample.size() < 65536)
      sample.push_back(last);
    else if (const uint64_t at = random.next() % i; at < sample.size())
      sample[at] = last;
  }
  return last;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: freed_byte LIVE_MIB SWEEPS CHURN_MIB\n");
    return 2;
  }
  const uint64_t live = strtoull(argv[1], nullptr, 10) << 20;
  const uint64_t sweeps = strtoull(argv[2], nullptr, 10);
  const uint64_t churn = strtoull(argv[3], nullptr, 10) << 20;
  using Get = void (*)(nonreuse_statistics*);
  const auto get = reinterpret_cast<Get>(dlsym(RTLD_DEFAULT, "nonreuse_get_statistics"));
  bench::Random random(1);
  Node* const head = make_live(live / kChunk, random);
  std::vector<Node*> ring(kRing);
  for (Node*& node : ring) node = make(head, head, 0);

  nonreuse_statistics before{}, now{};
  uint64_t frees = 0, cpu = 0, wall = 0;
  const auto begin = [&] {
    before = now;
    frees = 0;
    cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    wall = clock_ns(CLOCK_MONOTONIC);
  };
  bool measuring = get == nullptr;
  begin();
  for (uint64_t seen = 0;;) {
    for (uint64_t i = 0; i < kLook; ++i) {
      Node*& node = ring[random.below(kRing)];
      free(node);
      node = make(head, nullptr, i);
    }
    frees += kLook;
    if (get == nullptr) {
      if (frees * kChunk >= churn) break;
      continue;
    }
    get(&now);
    if (now.sweeps == seen) continue;
    seen = now.sweeps;
    if (!measuring) {
      // The first sweeps find the policy still growing, and memory that was never used.
      measuring = now.sweeps >= 2;
      begin();
    } else if (now.sweeps - before.sweeps >= sweeps && frees * kChunk >= churn) {
      break;
    }
  }
  cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
  wall = clock_ns(CLOCK_MONOTONIC) - wall;
  uint64_t sum = 0;
  for (const Node* node : ring) sum += node->number;
  const auto since = [&](uint64_t nonreuse_statistics::*field) {
    return static_cast<unsigned long long>(now.*field - before.*field);
  };
  printf(
      "{\"live_mib\": %llu, \"freed_bytes\": %llu, \"cpu_ns\": %llu, \"wall_ns\": %llu, \"checksum\": %llu, ",
      static_cast<unsigned long long>(live >> 20), static_cast<unsigned long long>(frees * kChunk),
      static_cast<unsigned long long>(cpu), static_cast<unsigned long long>(wall),
      static_cast<unsigned long long>(sum + head->number));
  printf("\"sweeps\": %llu, \"sweep_cpu_ns\": %llu, \"scanned_bytes\": %llu, \"released_bytes\": %llu}\n",
         since(&nonreuse_statistics::sweeps), since(&nonreuse_statistics::sweep_cpu_ns_total),
         since(&nonreuse_statistics::scanned_heap_bytes) + since(&nonreuse_statistics::scanned_root_bytes),
         since(&nonreuse_statistics::released_bytes));
  fflush(stdout);
  _exit(0);  // nobody waits until all of it is freed
}
