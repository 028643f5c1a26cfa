// Freed-batches: how freed chunks travel from the thread that frees to the quarantine.
//
// A batch belongs to one thread, which appends without a lock: it writes an entry, then `count`. Sealing
// takes what is between `taken` and `count`; that happens under the quarantine's lock, by the owner when the
// batch is full or by a sweep that collects what idle threads have not sealed. The owner's fast path never
// reads `taken`, the sealer never writes `count`, so no line of it needs an atomic instruction. While the
// process has one thread, and who seals is the owner, a chunk that touches the last entry's becomes part of
// that entry.
#pragma once

#include <atomic>

#include "base/types.hpp"

namespace nonreuse {

// Chunks of at least this many granules (32 KiB) are listed one by one instead of travelling in batches.
inline constexpr Granules kLargeChunk = 2048;

// A batch is sealed when it holds so much.
inline constexpr uint64_t kBatchBytes = 64 * 1024;

// What has become of a large chunk's pages.
enum class LargePages : uint8_t {
  present,     // nothing
  trapped,     // they were given back, and touching them stops the program
  given_back,  // they were given back; where the program has written since, there is one again
};

// A freed chunk of less than kLargeChunk granules, or several that touch, in one word.
class BatchEntry {
 public:
  BatchEntry() = default;
  constexpr BatchEntry(Run chunk) : word_(chunk.start << kLengthBits | chunk.length) {}
  constexpr Run chunk() const { return {start(), length()}; }
  constexpr Granule start() const { return word_ >> kLengthBits; }
  constexpr Granules length() const { return word_ & ((1u << kLengthBits) - 1); }

 private:
  static constexpr unsigned kLengthBits = 16;
  // An entry of several chunks is shorter than a batch, before the last of them.
  static_assert((kBatchBytes >> kGranuleShift) + kLargeChunk < 1u << kLengthBits);
  uint64_t word_;
};

struct Batch {
  static constexpr uint32_t kCapacity =
      (8192 - sizeof(void*) - 24) / sizeof(BatchEntry);  // with the header: 8 KiB
  Batch* next = nullptr;
  std::atomic<uint32_t> count{0};  // written by the owner only
  uint32_t taken = 0;              // under the quarantine's lock
  uint64_t bytes = 0;              // of [taken, count) once sealed
  uint64_t joined = 0;             // chunks of [taken, count) that have no entry of their own
  BatchEntry entries[kCapacity];

  // Makes a chunk part of the last entry, if they touch. Only where the process has one thread: who takes
  // entries does not expect that they change.
  bool join(Run chunk) {
    const uint32_t at = count.load(std::memory_order_relaxed);
    if (at == taken) return false;
    const Run last = entries[at - 1].chunk();
    if (last.end() == chunk.start)
      entries[at - 1] = Run{last.start, last.length + chunk.length};
    else if (chunk.end() == last.start)
      entries[at - 1] = Run{chunk.start, last.length + chunk.length};
    else
      return false;
    ++joined;
    return true;
  }

  // Owner only. False: full, seal first.
  bool append(BatchEntry entry) {
    const uint32_t at = count.load(std::memory_order_relaxed);
    if (at == kCapacity) return false;
    entries[at] = entry;
    count.store(at + 1, std::memory_order_release);
    return true;
  }
};
static_assert(sizeof(Batch) == 8192);

}  // namespace nonreuse
