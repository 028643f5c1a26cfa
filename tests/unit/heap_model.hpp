// A heap over simulated memory, and a model of it that knows of every granule who has it.
#pragma once

#include <cstring>
#include <map>
#include <vector>

#include "heap_world.hpp"

namespace nonreuse {

inline constexpr Granules kPage = SimulatedMemory::kUsualPage / kGranule;

// A heap, and every run that was taken from it.
class World {
 public:
  explicit World(size_t claim = 256 * kMiB, size_t page = SimulatedMemory::kUsualPage)
      : memory(claim, page), space(memory), heap(space) {
    ready = space.init() && heap.init();
  }

  Run keep(Run run) {
    if (run.empty()) return run;
    EXPECT_LE(run.end(), heap.top());
    const auto next = taken.lower_bound(run.start);
    EXPECT_TRUE(next == taken.end() || next->first >= run.end()) << "handed out twice";
    EXPECT_TRUE(next == taken.begin() || std::prev(next)->second.end() <= run.start) << "handed out twice";
    EXPECT_FALSE(bits::any(heap.free_bits(), run.start, run.length)) << "handed out, and still free";
    const uintptr_t first = space.address(run.start) & ~(memory.page_size() - 1);
    for (uintptr_t at = first; at < space.address(run.end()); at += memory.page_size()) {
      EXPECT_TRUE(memory.page(at) == SimulatedMemory::Page::committed ||
                  memory.page(at) == SimulatedMemory::Page::discarded)
          << "not backed";
    }
    taken.emplace(run.start, run);
    tag(run);
    return run;
  }
  Run take(Granules length) {
    const Run run = keep(heap.take(length));
    EXPECT_TRUE(run.empty() || run.length == length);
    return run;
  }
  void release(Run run) {
    ASSERT_EQ(taken.erase(run.start), 1u);
    heap.tags().clear(run);
    heap.release(run);
  }
  // As a sweep does it: all at once, a bitmap word at a time.
  void release_by_words(const std::vector<Run>& runs) {
    std::map<uint64_t, uint64_t> words;
    for (const Run run : runs) {
      ASSERT_EQ(taken.erase(run.start), 1u);
      bits::for_each_word(run.start, run.length, [&](uint64_t word, uint64_t mask) { words[word] |= mask; });
    }
    heap.begin_release();
    for (const auto& [word, mask] : words) heap.release_word(word, mask);
    heap.end_release();
  }
  // Splits what was taken into two, for releasing piece by piece.
  void cut(Run run, Granules first) {
    taken.erase(run.start);
    heap.tags().clear(run);
    for (const Run piece : {Run{run.start, first}, Run{run.start + first, run.length - first}}) {
      taken.emplace(piece.start, piece);
      tag(piece);
    }
  }
  void tag(Run run) { heap.tags().set_live(run.start, run.length); }
  Run any(Random& random) const {
    auto it = taken.lower_bound(random.below(heap.top()));
    return it == taken.end() ? taken.begin()->second : it->second;
  }

  // I1 and I2 by the heap's own walker; that the books agree with the model; that all else is free.
  void check() {
    Granule where = 0;
    const char* broken = heap.check([](Run) { return false; }, &where);
    ASSERT_EQ(broken, nullptr) << broken << " at granule " << where;
    Granules used = 0;
    for (const auto& [start, run] : taken) {
      ASSERT_EQ(heap.tags().length(start), run.length);
      used += run.length;
    }
    ASSERT_EQ(heap.in_use(), used);
    expect_no_breach(memory);
  }
  std::vector<Run> holes() const {
    std::vector<Run> found;
    for (Granule at = 0; at < heap.top();) {
      const Granule start = bits::find_set(heap.free_bits(), at, heap.top());
      at = bits::find_clear(heap.free_bits(), start, heap.top());
      if (start < at) found.push_back({start, at - start});
    }
    return found;
  }
  unsigned char* bytes(Run run) const { return reinterpret_cast<unsigned char*>(space.address(run.start)); }
  void scribble(Run run) const { memset(bytes(run), 0x5a, run.length * kGranule); }
  bool all_zero(Run run) const {
    const unsigned char* at = bytes(run);
    for (size_t i = 0; i < run.length * kGranule; ++i) {
      if (at[i] != 0) return false;
    }
    return true;
  }

  SimulatedMemory memory;
  Space space;
  TestHeap heap;
  std::map<Granule, Run> taken;
  bool ready = false;
};

}  // namespace nonreuse
