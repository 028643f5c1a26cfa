// The reference kernel, and the choice among kernels.
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <atomic>

#include "platform/attributes.hpp"
#include "revoke/scan.hpp"
#include "revoke/scan_offsets.hpp"

namespace nonreuse {

NONREUSE_READS_ANY_MEMORY
uint64_t scan_scalar(const ScanTarget& target, const uint64_t* words, size_t count) {
  uint64_t news = 0;
  for (size_t i = 0; i < count; ++i) {
    uint64_t word;
    __builtin_memcpy(&word, words + i, sizeof word);
    const uint64_t offset = word - target.base;
    if (offset >= target.extent) continue;
    const Granule granule = offset >> kGranuleShift;
    const uint64_t bit = uint64_t{1} << (granule & 63);
    if ((target.painted[granule >> 6] & bit) == 0) continue;
    news += record_hit(target, granule);
  }
  return news;
}

namespace {

// For scan_live_lines(); a sanitizer would not leave a plain lambda out.
struct PackLine {
  uint64_t base, extent;
  NONREUSE_READS_ANY_MEMORY NONREUSE_ALWAYS_INLINE size_t operator()(const uint64_t* line,
                                                                     uint64_t* out) const {
    size_t found = 0;
    for (size_t i = 0; i < kLineWords; ++i) {
      const uint64_t offset = line[i] - base;
      out[found] = offset;
      found += offset < extent ? 1 : 0;
    }
    return found;
  }
};

}  // namespace

NONREUSE_READS_ANY_MEMORY
uint64_t scan_live_scalar(const ScanTarget& target, const LivePart& part, uint64_t& bytes) {
  return scan_live_lines(target, part, bytes, PackLine{target.base, target.extent}, TestOffsets());
}

namespace {

#if defined(__x86_64__)
// Asked when it first matters, once: under a hypervisor each question takes microseconds, and the compiler's
// builtin asks a good many of them whenever a program starts.
// Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, detection of AVX2 and of
// AVX-512. The latter counts where gather instructions are fast: on AMD's processors, and on those of Intel's
// that are younger than the leak for whose sake older ones make them slow (Gather Data Sampling; they have
// FP16).
bool is_amd() {
  unsigned a, b = 0, c = 0, d = 0;
  __get_cpuid(0, &a, &b, &c, &d);
  return b == signature_AMD_ebx && c == signature_AMD_ecx && d == signature_AMD_edx;
}

enum Vectors : uint8_t { kUnknown, kNone, kAvx2, kAvx512 };
Vectors vectors() {
  static constinit std::atomic<Vectors> known{kUnknown};
  Vectors answer = known.load(std::memory_order_relaxed);
  if (answer != kUnknown) return answer;
  constexpr unsigned kInstructions = bit_OSXSAVE | bit_AVX, kStateSaved = 0x6, kWideSaved = 0xe6;
  unsigned a, b = 0, c = 0, d, enabled = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) != 0 && (c & kInstructions) == kInstructions)
    asm volatile("xgetbv" : "=a"(enabled), "=d"(d) : "c"(0));
  answer = kNone;
  if ((enabled & kStateSaved) == kStateSaved && __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0) {
    if ((b & bit_AVX2) != 0) answer = kAvx2;
    const bool wide = (b & bit_AVX512F) != 0 && (is_amd() || (d & bit_AVX512FP16) != 0);
    if (answer == kAvx2 && wide && (enabled & kWideSaved) == kWideSaved) answer = kAvx512;
  }
  known.store(answer, std::memory_order_relaxed);
  return answer;
}
#endif

template <ScanKernel kernel>
uint64_t scan_unaligned(const ScanTarget& target, const uint64_t* words, size_t count) {
  if (count == 0) return 0;
  const char* at = reinterpret_cast<const char*>(words);
  uint64_t news = kernel(target, words, count);
  for (size_t offset = 1; offset < sizeof(uint64_t); ++offset) {
    news += kernel(target, reinterpret_cast<const uint64_t*>(at + offset), count - 1);
  }
  return news;
}
}  // namespace

bool kernel_available(KernelChoice kernel) {
  switch (kernel) {
    case KernelChoice::automatic:
    case KernelChoice::scalar:
      return true;
    case KernelChoice::avx2:
#if defined(__x86_64__)
      return vectors() >= kAvx2;
#else
      return false;
#endif
    case KernelChoice::avx512:
#if defined(__x86_64__)
      return vectors() == kAvx512;
#else
      return false;
#endif
    case KernelChoice::neon:
#if defined(__aarch64__)
      return true;
#else
      return false;
#endif
  }
  return false;
}

namespace {

// The choice of another machine's kernel counts as automatic.
KernelChoice settle(KernelChoice choice) {
  if (choice != KernelChoice::automatic && kernel_available(choice)) return choice;
  for (const KernelChoice best : {KernelChoice::avx512, KernelChoice::avx2, KernelChoice::neon}) {
    if (kernel_available(best)) return best;
  }
  return KernelChoice::scalar;
}

// What one kernel has for each way of reading.
struct Kernels {
  ScanKernel words;
  LiveKernel live;
  ScanKernel unaligned;
};

Kernels choose(KernelChoice choice) {
  switch (settle(choice)) {
#if defined(__x86_64__)
    case KernelChoice::avx2:
      return {scan_avx2, scan_live_avx2, scan_unaligned<scan_avx2>};
    case KernelChoice::avx512:
      return {scan_avx512, scan_live_avx512, scan_unaligned<scan_avx512>};
#elif defined(__aarch64__)
    case KernelChoice::neon:
      return {scan_neon, scan_live_neon, scan_unaligned<scan_neon>};
#endif
    default:
      return {scan_scalar, scan_live_scalar, scan_unaligned<scan_scalar>};
  }
}

}  // namespace

ScanKernel choose_kernel(KernelChoice choice) {
  return choose(choice).words;
}
LiveKernel choose_live_kernel(KernelChoice choice) {
  return choose(choice).live;
}
ScanKernel choose_unaligned_kernel(KernelChoice choice) {
  return choose(choice).unaligned;
}

}  // namespace nonreuse
