// Exact bins for the shorter free runs (1 to 63 granules), one a size.
//
// The free bitmap alone is the truth. A bin holds hints: starts of runs that had this size when they became
// free. A hint is checked against the bitmap when it is taken, so nothing has to be unlinked when a run
// coalesces, and a stale or doubled hint costs one look. Releases push in address order and takes pop the
// oldest, so memory is handed out in address order. A full bin drops hints and remembers that it did;
// the heap then finds the runs again by walking the bitmap. Thread-safety: the heap lock.
#pragma once

#include "base/bits.hpp"
#include "base/types.hpp"
#include "heap/run_index.hpp"

namespace nonreuse {

class SmallBins {
 public:
  static constexpr Granules kSizes = 64;  // bins 1 .. kSizes - 1
  // Hints of one bin; a power of two. With a quarantine hardly anybody takes from the bins.
  static constexpr uint32_t kCapacity = kFreebufMode ? 256 : 16384;

  // Bytes of the memory that attach() takes (zero, 64-byte aligned).
  static constexpr size_t kBytes = kSizes * kCapacity * sizeof(uint64_t);
  void attach(void* memory) { hints_ = static_cast<uint64_t*>(memory); }

  void push(Run run) {
    Bin& bin = bins_[run.length];
    if (bin.tail - bin.head == kCapacity) {
      overflowed_ |= uint64_t{1} << run.length;
      return;
    }
    slot(run.length, bin.tail++) = run.start;
    nonempty_ |= uint64_t{1} << run.length;
  }

  // The oldest hint that still holds, or an empty run. `free_bits` is the truth.
  Run pop(Granules length, const uint64_t* free_bits) {
    Bin& bin = bins_[length];
    while (bin.head != bin.tail) {
      const Run run{slot(length, bin.head++), length};
      if (bin.head == bin.tail) {
        bin.head = bin.tail = 0;  // start again in the slots that are cached
        nonempty_ &= ~(uint64_t{1} << length);
      }
      if (holds(run, free_bits)) return run;
    }
    return {};
  }

  // Smallest size >= length whose bin is not empty (its hints may be stale); 0: none.
  Granules next_nonempty(Granules length) const {
    const uint64_t candidates = length >= kSizes ? 0 : nonempty_ & (bits::kAll << length);
    return candidates == 0 ? 0 : static_cast<Granules>(std::countr_zero(candidates));
  }

  uint64_t overflowed() const { return overflowed_; }
  void forget_overflow(Granules length) { overflowed_ &= ~(uint64_t{1} << length); }

 private:
  struct Bin {
    uint32_t head = 0, tail = 0;
  };
  uint64_t& slot(Granules length, uint32_t index) { return hints_[length * kCapacity + index % kCapacity]; }
  static bool holds(Run run, const uint64_t* free_bits) {
    return bits::all(free_bits, run.start, run.length) && !bits::test(free_bits, run.end()) &&
           (run.start == 0 || !bits::test(free_bits, run.start - 1));
  }

  uint64_t* hints_ = nullptr;
  Bin bins_[kSizes];
  uint64_t nonempty_ = 0, overflowed_ = 0;
};

}  // namespace nonreuse
