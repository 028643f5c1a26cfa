// The NEON kernel; every aarch64 processor has it. As the AVX2 kernel: sixteen words at a time are compared
// with the heap's bounds and skipped together where none is a heap address; else the offsets in range are
// packed into a small buffer, which is tested against the bitmap in a loop of its own.
#include "platform/attributes.hpp"
#include "revoke/scan.hpp"
#include "revoke/scan_offsets.hpp"

#if defined(__aarch64__)
#include <arm_neon.h>

namespace nonreuse {

NONREUSE_READS_ANY_MEMORY
uint64_t scan_neon(const ScanTarget& target, const uint64_t* words, size_t count) {
  constexpr size_t kVectors = kScanBlock / 2;
  const uint64x2_t base = vdupq_n_u64(target.base);
  const uint64x2_t extent = vdupq_n_u64(target.extent);
  uint64_t buffer[kScanBuffer + kScanBlock];
  size_t buffered = 0;
  uint64_t news = 0;
  size_t i = 0;
  for (; i + kScanBlock <= count; i += kScanBlock) {
    uint64x2_t offset[kVectors], in_range[kVectors];
    uint64x2_t any = vdupq_n_u64(0);
    for (size_t v = 0; v < kVectors; ++v) {
      // As bytes, since words need not be aligned.
      const auto* at = reinterpret_cast<const uint8_t*>(words + i + 2 * v);
      offset[v] = vsubq_u64(vreinterpretq_u64_u8(vld1q_u8(at)), base);
      in_range[v] = vcltq_u64(offset[v], extent);
      any = vorrq_u64(any, in_range[v]);
    }
    if (vmaxvq_u32(vreinterpretq_u32_u64(any)) == 0) continue;
    for (size_t v = 0; v < kVectors; ++v) {
      // Where the first lane is out of range the second one takes its place. Lanes in range are all ones:
      // their sum is minus their number.
      const uint64x2_t first = vdupq_laneq_u64(in_range[v], 0);
      vst1q_u64(buffer + buffered, vbslq_u64(first, offset[v], vextq_u64(offset[v], offset[v], 1)));
      buffered -= vaddvq_u64(in_range[v]);
    }
    if (buffered >= kScanBuffer - kScanBlock) {
      news += test_offsets(target, buffer, buffered);
      buffered = 0;
    }
  }
  news += test_offsets(target, buffer, buffered);
  return news + scan_scalar(target, words + i, count - i);
}

}  // namespace nonreuse
#endif
