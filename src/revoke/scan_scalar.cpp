// The reference kernel, and the choice among kernels.
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
      return __builtin_cpu_supports("avx2");
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
