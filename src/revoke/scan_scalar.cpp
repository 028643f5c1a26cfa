// The reference kernel, and the choice among kernels.
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <atomic>

#include "platform/attributes.hpp"
#include "revoke/scan.hpp"

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

#if defined(__x86_64__)
// Asked when it first matters, once: under a hypervisor each question takes microseconds, and the compiler's
// builtin asks a good many of them whenever a program starts.
// Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, detection of AVX2.
bool has_avx2() {
  enum : uint8_t { kUnknown, kYes, kNo };
  static constinit std::atomic<uint8_t> known{kUnknown};
  uint8_t answer = known.load(std::memory_order_relaxed);
  if (answer == kUnknown) {
    constexpr unsigned kInstructions = bit_OSXSAVE | bit_AVX, kStateSaved = 6;
    unsigned a, b = 0, c = 0, d, enabled = 0;
    if (__get_cpuid(1, &a, &b, &c, &d) != 0 && (c & kInstructions) == kInstructions)
      asm volatile("xgetbv" : "=a"(enabled), "=d"(d) : "c"(0));
    const bool yes = (enabled & kStateSaved) == kStateSaved && __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 &&
                     (b & bit_AVX2) != 0;
    answer = yes ? kYes : kNo;
    known.store(answer, std::memory_order_relaxed);
  }
  return answer == kYes;
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
      return has_avx2();
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

ScanKernel choose_kernel(KernelChoice choice) {
  // The choice of another machine's kernel counts as automatic.
  if (choice == KernelChoice::scalar) return scan_scalar;
#if defined(__x86_64__)
  if (kernel_available(KernelChoice::avx2)) return scan_avx2;
#elif defined(__aarch64__)
  return scan_neon;
#endif
  return scan_scalar;
}

ScanKernel choose_unaligned_kernel(KernelChoice choice) {
#if defined(__x86_64__)
  if (choose_kernel(choice) == scan_avx2) return scan_unaligned<scan_avx2>;
#elif defined(__aarch64__)
  if (choose_kernel(choice) == scan_neon) return scan_unaligned<scan_neon>;
#endif
  (void)choice;
  return scan_unaligned<scan_scalar>;
}

}  // namespace nonreuse
