// The AVX2 kernel. Sixteen words at a time are compared with the heap's bounds and skipped together where
// none is a heap address. Else the offsets that are in range are packed by a permutation and stored plainly
// into a small buffer, and the buffer is tested against the bitmap in a tight loop: the comparison never
// waits for the bitmap, and the loop's only branch is the rare hit.
#include "platform/attributes.hpp"
#include "revoke/scan.hpp"
#include "revoke/scan_offsets.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

namespace nonreuse {
namespace {

// For each set of lanes, the permutation (of 32-bit halves) that moves them to the front.
struct PackTable {
  alignas(32) uint32_t lanes[16][8];
  constexpr PackTable() : lanes{} {
    for (unsigned set = 0; set < 16; ++set) {
      unsigned out = 0;
      for (unsigned lane = 0; lane < 4; ++lane) {
        if ((set >> lane & 1) == 0) continue;
        lanes[set][out++] = 2 * lane;
        lanes[set][out++] = 2 * lane + 1;
      }
    }
  }
};
constexpr PackTable kPack;

// Four words: how far above the heap's start they point, moved by 2^63, and which of them within.
struct Compared {
  __m256i moved, in_range;
};

struct Bounds {
  __m256i move, limit, flip;
  NONREUSE_READS_ANY_MEMORY __attribute__((always_inline)) Compared compare(const uint64_t* words) const {
    const __m256i moved = _mm256_add_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(words)), move);
    return {moved, _mm256_cmpgt_epi64(limit, moved)};
  }
  // Stores the offsets in range one behind the other; their number.
  NONREUSE_READS_ANY_MEMORY __attribute__((always_inline)) size_t pack(const Compared& four,
                                                                       uint64_t* out) const {
    const auto set = static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd(four.in_range)));
    const __m256i lanes = _mm256_load_si256(reinterpret_cast<const __m256i*>(kPack.lanes[set]));
    const __m256i packed = _mm256_permutevar8x32_epi32(_mm256_xor_si256(four.moved, flip), lanes);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), packed);
    return static_cast<size_t>(__builtin_popcount(set));
  }
};

// Signed comparison stands in for the unsigned one: both sides are moved by 2^63.
__attribute__((always_inline)) inline Bounds bounds_of(const ScanTarget& target) {
  constexpr uint64_t kFlip = uint64_t{1} << 63;
  return {_mm256_set1_epi64x(static_cast<long long>(kFlip - target.base)),
          _mm256_set1_epi64x(static_cast<long long>(target.extent + kFlip)),
          _mm256_set1_epi64x(static_cast<long long>(kFlip))};
}

// For scan_live_lines(); a sanitizer would not leave a plain lambda out.
struct PackLine {
  Bounds bounds;
  NONREUSE_READS_ANY_MEMORY __attribute__((always_inline)) size_t operator()(const uint64_t* line,
                                                                             uint64_t* out) const {
    const Compared a = bounds.compare(line), b = bounds.compare(line + 4);
    const __m256i any = _mm256_or_si256(a.in_range, b.in_range);
    if (_mm256_testz_si256(any, any)) return 0;
    const size_t first = bounds.pack(a, out);
    return first + bounds.pack(b, out + first);
  }
};

}  // namespace

NONREUSE_READS_ANY_MEMORY
uint64_t scan_live_avx2(const ScanTarget& target, const LivePart& part, uint64_t& bytes) {
  const uint64_t news = scan_live_lines(target, part, bytes, PackLine{bounds_of(target)}, TestOffsets());
  _mm256_zeroall();
  return news;
}

NONREUSE_READS_ANY_MEMORY
uint64_t scan_avx2(const ScanTarget& target, const uint64_t* words, size_t count) {
  const Bounds bounds = bounds_of(target);
  uint64_t buffer[kScanBuffer + kScanBlock];
  size_t buffered = 0;
  uint64_t news = 0;
  size_t i = 0;
  for (; i + kScanBlock <= count; i += kScanBlock) {
    // No loop: the compiler would keep what is compared in memory.
    const Compared a = bounds.compare(words + i), b = bounds.compare(words + i + 4);
    const Compared c = bounds.compare(words + i + 8), d = bounds.compare(words + i + 12);
    const __m256i any =
        _mm256_or_si256(_mm256_or_si256(a.in_range, b.in_range), _mm256_or_si256(c.in_range, d.in_range));
    if (_mm256_testz_si256(any, any)) continue;
    buffered += bounds.pack(a, buffer + buffered);
    buffered += bounds.pack(b, buffer + buffered);
    buffered += bounds.pack(c, buffer + buffered);
    buffered += bounds.pack(d, buffer + buffered);
    if (buffered >= kScanBuffer - kScanBlock) {
      news += test_offsets(target, buffer, buffered);
      buffered = 0;
    }
  }
  news += test_offsets(target, buffer, buffered);
  // What was read must not stay behind in registers that calls do not preserve: a thread that saves them on
  // its stack (the dynamic linker does, at the first call of a function) and ends would hold chunks back for
  // as long as the C library keeps that stack.
  _mm256_zeroall();
  return news + scan_scalar(target, words + i, count - i);
}

}  // namespace nonreuse
#endif
