// The NEON kernel; every aarch64 processor has it. As the AVX2 kernel: sixteen words at a time are compared
// with the heap's bounds and skipped together where none is a heap address; else the offsets in range are
// packed into a small buffer, which is tested against the bitmap in a loop of its own.
#include "platform/attributes.hpp"
#include "revoke/scan.hpp"
#include "revoke/scan_offsets.hpp"

#if defined(__aarch64__)
#include <arm_neon.h>

namespace nonreuse {
namespace {

struct Compared {
  uint64x2_t offset, in_range;
};

struct Bounds {
  uint64x2_t base, extent;
  NONREUSE_READS_ANY_MEMORY NONREUSE_ALWAYS_INLINE Compared compare(const uint64_t* words) const {
    // As bytes, since words need not be aligned.
    const auto* at = reinterpret_cast<const uint8_t*>(words);
    const uint64x2_t offset = vsubq_u64(vreinterpretq_u64_u8(vld1q_u8(at)), base);
    return {offset, vcltq_u64(offset, extent)};
  }
};

// Where the first lane is out of range the second one takes its place. Lanes in range are all ones: their sum
// is minus their number, which is returned.
NONREUSE_READS_ANY_MEMORY NONREUSE_ALWAYS_INLINE size_t pack(const Compared& two, uint64_t* out) {
  const uint64x2_t first = vdupq_laneq_u64(two.in_range, 0);
  vst1q_u64(out, vbslq_u64(first, two.offset, vextq_u64(two.offset, two.offset, 1)));
  return -vaddvq_u64(two.in_range);
}

// For scan_live_lines(); a sanitizer would not leave a plain lambda out.
struct PackLine {
  Bounds bounds;
  NONREUSE_READS_ANY_MEMORY NONREUSE_ALWAYS_INLINE size_t operator()(const uint64_t* line,
                                                                     uint64_t* out) const {
    const Compared a = bounds.compare(line), b = bounds.compare(line + 2);
    const Compared c = bounds.compare(line + 4), d = bounds.compare(line + 6);
    const uint64x2_t any = vorrq_u64(vorrq_u64(a.in_range, b.in_range), vorrq_u64(c.in_range, d.in_range));
    if (vmaxvq_u32(vreinterpretq_u32_u64(any)) == 0) return 0;
    size_t found = pack(a, out);
    found += pack(b, out + found);
    found += pack(c, out + found);
    return found + pack(d, out + found);
  }
};

}  // namespace

NONREUSE_READS_ANY_MEMORY
uint64_t scan_live_neon(const ScanTarget& target, const LivePart& part, uint64_t& bytes) {
  const PackLine pack_line{{vdupq_n_u64(target.base), vdupq_n_u64(target.extent)}};
  return scan_live_lines(target, part, bytes, pack_line, TestOffsets());
}

NONREUSE_READS_ANY_MEMORY
uint64_t scan_neon(const ScanTarget& target, const uint64_t* words, size_t count) {
  constexpr size_t kVectors = kScanBlock / 2;
  const Bounds bounds{vdupq_n_u64(target.base), vdupq_n_u64(target.extent)};
  uint64_t buffer[kScanBuffer + kScanBlock];
  size_t buffered = 0;
  uint64_t news = 0;
  size_t i = 0;
  for (; i + kScanBlock <= count; i += kScanBlock) {
    Compared two[kVectors];
    uint64x2_t any = vdupq_n_u64(0);
    for (size_t v = 0; v < kVectors; ++v) {
      two[v] = bounds.compare(words + i + 2 * v);
      any = vorrq_u64(any, two[v].in_range);
    }
    if (vmaxvq_u32(vreinterpretq_u32_u64(any)) == 0) continue;
    for (size_t v = 0; v < kVectors; ++v) buffered += pack(two[v], buffer + buffered);
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
