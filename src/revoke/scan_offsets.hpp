// The second half of the vector kernels: offsets that are in range, packed into a buffer, against the bitmap.
#pragma once

#include "platform/attributes.hpp"
#include "revoke/scan.hpp"

namespace nonreuse {

inline constexpr size_t kScanBuffer = 128;  // words; small: a sweep runs on the stack of whoever frees
inline constexpr size_t kScanBlock = 16;    // words that are compared before the buffer is looked at

// Overwrites `offsets`. Without a branch but for hits: where words point is not to be foretold. Always
// inlined: a copy of its own would be compiled with the flags of one kernel and run by all.
NONREUSE_READS_ANY_MEMORY NONREUSE_ALWAYS_INLINE uint64_t test_offsets(const ScanTarget& target,
                                                                       uint64_t* offsets, size_t count) {
  size_t hit = 0;
  for (size_t i = 0; i < count; ++i) {
    const Granule granule = offsets[i] >> kGranuleShift;
    offsets[hit] = granule;
    hit += target.painted[granule >> 6] >> (granule & 63) & 1;
  }
  uint64_t news = 0;
  for (size_t i = 0; i < hit; ++i) news += record_hit(target, offsets[i]);
  return news;
}

inline constexpr size_t kLineWords = 8;

struct TestOffsets {
  NONREUSE_READS_ANY_MEMORY NONREUSE_ALWAYS_INLINE uint64_t operator()(const ScanTarget& target,
                                                                       uint64_t* offsets,
                                                                       size_t count) const {
    return test_offsets(target, offsets, count);
  }
};

// Scans a part of the heap by `pack(line, out)`, which stores the offsets of the words of a line that are in
// range one behind the other, may overwrite a line's worth behind them, and returns their number; and by
// `test`, which does what test_offsets() does. Inlined as that is.
template <class Pack, class Test>
NONREUSE_READS_ANY_MEMORY NONREUSE_ALWAYS_INLINE uint64_t
scan_live_lines(const ScanTarget& target, const LivePart& part, uint64_t& bytes, Pack&& pack, Test&& test) {
  constexpr size_t kBlockWords = 128;              // under one word of the bitmaps
  constexpr uint64_t kEvery = 0x1111111111111111;  // a line is four granules
  uint64_t buffer[kScanBuffer + kBlockWords + kLineWords];
  size_t buffered = 0;
  uint64_t news = 0, lines_read = 0;
  const uint64_t end = (part.end + 63) >> 6;
  for (uint64_t word = part.begin >> 6; word < end; ++word) {
    uint64_t busy = ~part.free[word];
    if (part.painted != nullptr) busy &= ~part.painted[word];
    if (part.end >> 6 == word) busy &= ~(~uint64_t{0} << (part.end & 63));
    if (busy == 0) continue;
    const auto* const block = reinterpret_cast<const uint64_t*>(part.base) + word * kBlockWords;
    uint64_t lines = busy | busy >> 1;
    lines = (lines | lines >> 2) & kEvery;
    if (lines == kEvery) {
      for (size_t at = 0; at < kBlockWords; at += kLineWords) buffered += pack(block + at, buffer + buffered);
      lines_read += kBlockWords / kLineWords;
    } else {
      for (; lines != 0; lines &= lines - 1, ++lines_read) {
        const auto granule = static_cast<size_t>(__builtin_ctzll(lines));
        buffered += pack(block + granule * 2, buffer + buffered);
      }
    }
    if (buffered < kScanBuffer) continue;
    news += test(target, buffer, buffered);
    buffered = 0;
  }
  bytes += lines_read * kLineWords * sizeof(uint64_t);
  return news + test(target, buffer, buffered);
}

}  // namespace nonreuse
