// Reading memory and doing nothing with it: what a sweep cannot be faster than.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace bench {

// The bitwise or of all words; `count` is a multiple of 32. By the widest vectors that the scan kernels use.
#if defined(__x86_64__)
__attribute__((target("avx2"))) inline uint64_t plain_read(const uint64_t* words, size_t count) {
  __m256i all[8] = {};
  for (size_t i = 0; i < count; i += 32) {
    for (int v = 0; v < 8; ++v) {
      all[v] =
          _mm256_or_si256(all[v], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words + i + 4 * v)));
    }
  }
  for (int v = 1; v < 8; ++v) all[0] = _mm256_or_si256(all[0], all[v]);
  alignas(32) uint64_t lanes[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), all[0]);
  return lanes[0] | lanes[1] | lanes[2] | lanes[3];
}
#elif defined(__aarch64__)
inline uint64_t plain_read(const uint64_t* words, size_t count) {
  uint64x2_t all[8] = {};
  for (size_t i = 0; i < count; i += 16) {
    for (int v = 0; v < 8; ++v) all[v] = vorrq_u64(all[v], vld1q_u64(words + i + 2 * v));
  }
  for (int v = 1; v < 8; ++v) all[0] = vorrq_u64(all[0], all[v]);
  return vgetq_lane_u64(all[0], 0) | vgetq_lane_u64(all[0], 1);
}
#else
inline uint64_t plain_read(const uint64_t* words, size_t count) {
  uint64_t all = 0;
  for (size_t i = 0; i < count; ++i) all |= words[i];
  return all;
}
#endif

}  // namespace bench
