// The AVX-512 kernel: as the AVX2 one, with offsets packed by one instruction (in a register: to memory it is
// slow on some processors), and tested against the bitmap eight at a time, with a gather instruction. That is
// what makes the difference where pointers are many: twice to three times the speed (bench/micro.py --only
// scan). Which processors it is chosen on is said in scan_scalar.cpp.
#include "platform/attributes.hpp"
#include "revoke/scan.hpp"
#include "revoke/scan_offsets.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

// g++ 12 takes what its own header leaves undefined on purpose for a mistake.
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

namespace nonreuse {
namespace {

struct Bounds {
  __m512i base, extent;
  NONREUSE_READS_ANY_MEMORY __attribute__((always_inline)) __m512i offsets(const uint64_t* words) const {
    return _mm512_sub_epi64(_mm512_loadu_si512(words), base);
  }
  __attribute__((always_inline)) __mmask8 in_range(__m512i offsets) const {
    return _mm512_cmplt_epu64_mask(offsets, extent);
  }
};

__attribute__((always_inline)) inline Bounds bounds_of(const ScanTarget& target) {
  return {_mm512_set1_epi64(static_cast<long long>(target.base)),
          _mm512_set1_epi64(static_cast<long long>(target.extent))};
}

// Stores the offsets in range one behind the other; their number.
NONREUSE_READS_ANY_MEMORY __attribute__((always_inline)) inline size_t pack(__mmask8 in_range,
                                                                            __m512i offsets, uint64_t* out) {
  _mm512_storeu_si512(out, _mm512_maskz_compress_epi64(in_range, offsets));
  return static_cast<size_t>(__builtin_popcount(in_range));
}

// For scan_live_lines(); a sanitizer would not leave a plain lambda out.
struct PackLine {
  Bounds bounds;
  NONREUSE_READS_ANY_MEMORY __attribute__((always_inline)) size_t operator()(const uint64_t* line,
                                                                             uint64_t* out) const {
    const __m512i offsets = bounds.offsets(line);
    return pack(bounds.in_range(offsets), offsets, out);
  }
};

// test_offsets(), eight at a time.
struct TestEights {
  NONREUSE_READS_ANY_MEMORY __attribute__((always_inline)) uint64_t operator()(const ScanTarget& target,
                                                                               uint64_t* offsets,
                                                                               size_t count) const {
    const __m512i one = _mm512_set1_epi64(1), low_bits = _mm512_set1_epi64(63);
    uint64_t news = 0;
    for (size_t i = 0; i < count; i += kLineWords) {
      const size_t left = count - i;
      const auto valid = static_cast<__mmask8>(left >= kLineWords ? 0xff : (1u << left) - 1);
      const __m512i granule = _mm512_srli_epi64(_mm512_maskz_loadu_epi64(valid, offsets + i), kGranuleShift);
      const __m512i word = _mm512_i64gather_epi64(_mm512_srli_epi64(granule, 6), target.painted, 8);
      const __m512i bit = _mm512_sllv_epi64(one, _mm512_and_si512(granule, low_bits));
      __mmask8 hit = _mm512_mask_test_epi64_mask(valid, word, bit);
      if (hit == 0) [[likely]]
        continue;
      alignas(64) uint64_t granules[kLineWords];
      _mm512_store_si512(granules, granule);
      for (; hit != 0; hit &= static_cast<__mmask8>(hit - 1))
        news += record_hit(target, granules[__builtin_ctz(hit)]);
    }
    return news;
  }
};

// What was read must not stay behind in registers, as in the AVX2 kernel.
__attribute__((always_inline)) inline void wipe_registers() {
  _mm256_zeroall();
  __asm__ volatile(
      "vpxord %%zmm16, %%zmm16, %%zmm16\n vpxord %%zmm17, %%zmm17, %%zmm17\n"
      "vpxord %%zmm18, %%zmm18, %%zmm18\n vpxord %%zmm19, %%zmm19, %%zmm19\n"
      "vpxord %%zmm20, %%zmm20, %%zmm20\n vpxord %%zmm21, %%zmm21, %%zmm21\n"
      "vpxord %%zmm22, %%zmm22, %%zmm22\n vpxord %%zmm23, %%zmm23, %%zmm23\n"
      "vpxord %%zmm24, %%zmm24, %%zmm24\n vpxord %%zmm25, %%zmm25, %%zmm25\n"
      "vpxord %%zmm26, %%zmm26, %%zmm26\n vpxord %%zmm27, %%zmm27, %%zmm27\n"
      "vpxord %%zmm28, %%zmm28, %%zmm28\n vpxord %%zmm29, %%zmm29, %%zmm29\n"
      "vpxord %%zmm30, %%zmm30, %%zmm30\n vpxord %%zmm31, %%zmm31, %%zmm31\n" ::
          : "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26",
            "xmm27", "xmm28", "xmm29", "xmm30", "xmm31");
}

}  // namespace

NONREUSE_READS_ANY_MEMORY
uint64_t scan_live_avx512(const ScanTarget& target, const LivePart& part, uint64_t& bytes) {
  const uint64_t news = scan_live_lines(target, part, bytes, PackLine{bounds_of(target)}, TestEights());
  wipe_registers();
  return news;
}

NONREUSE_READS_ANY_MEMORY
uint64_t scan_avx512(const ScanTarget& target, const uint64_t* words, size_t count) {
  constexpr size_t kFour = 4 * kLineWords;
  const Bounds bounds = bounds_of(target);
  uint64_t buffer[kScanBuffer + kFour];
  size_t buffered = 0;
  uint64_t news = 0;
  size_t i = 0;
  for (; i + kFour <= count; i += kFour) {
    const __m512i a = bounds.offsets(words + i), b = bounds.offsets(words + i + kLineWords);
    const __m512i c = bounds.offsets(words + i + 2 * kLineWords),
                  d = bounds.offsets(words + i + 3 * kLineWords);
    const __mmask8 in_a = bounds.in_range(a), in_b = bounds.in_range(b);
    const __mmask8 in_c = bounds.in_range(c), in_d = bounds.in_range(d);
    if (((in_a | in_b) | (in_c | in_d)) == 0) continue;
    buffered += pack(in_a, a, buffer + buffered);
    buffered += pack(in_b, b, buffer + buffered);
    buffered += pack(in_c, c, buffer + buffered);
    buffered += pack(in_d, d, buffer + buffered);
    if (buffered >= kScanBuffer - kFour) {
      news += TestEights()(target, buffer, buffered);
      buffered = 0;
    }
  }
  news += TestEights()(target, buffer, buffered);
  wipe_registers();
  return news + scan_scalar(target, words + i, count - i);
}

}  // namespace nonreuse
#endif
