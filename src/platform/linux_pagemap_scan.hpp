// ioctl PAGEMAP_SCAN (Linux 6.7): its structures and constants, which the headers of older systems lack.
// Source: linux Documentation/admin-guide/mm/pagemap.rst.
#pragma once

#include <linux/ioctl.h>

#include <cstdint>

namespace nonreuse {

// struct pm_scan_arg
struct ScanArguments {
  uint64_t size;
  uint64_t flags;
  uint64_t start;
  uint64_t end;
  uint64_t walk_end;
  uint64_t regions;
  uint64_t region_count;
  uint64_t max_pages;
  uint64_t inverted;  // categories that are asked for by their absence
  uint64_t all_of;
  uint64_t any_of;
  uint64_t returned;
};
inline constexpr unsigned long kPagemapScan = _IOWR('f', 16, ScanArguments);
inline constexpr uint64_t kScanProtect = 1;       // write-protects the pages that it reports
inline constexpr uint64_t kScanChecked = 2;       // fails where write-protection is not asynchronous
inline constexpr uint64_t kPageWritten = 1 << 1;  // since it was last write-protected
inline constexpr uint64_t kPageFile = 1 << 2;
inline constexpr uint64_t kPagePresent = 1 << 3;
inline constexpr uint64_t kPageSwapped = 1 << 4;
inline constexpr uint64_t kPageZero = 1 << 5;
inline constexpr uint64_t kPageGuard = 1 << 8;  // Linux 6.15; before that guard pages count as swapped

}  // namespace nonreuse
