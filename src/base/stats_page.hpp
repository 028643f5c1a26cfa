// The statistics page: a small file that a protected process maps shared and keeps up to date, so that the
// launcher (and any observer) can read its figures without stopping or signalling it, even after it died.
// One file a process, named by its process id, in the directory of the option stats_dir.
#pragma once

#include <dlmalloc_nonreuse.h>

#include "base/types.hpp"

namespace nonreuse {

inline constexpr uint64_t kStatsPageMagic = 0x31656c6261746e6fULL;  // "ontable1"
inline constexpr size_t kStatsPageBytes = 4096;  // of the file's format, whatever a page of memory is

struct StatsPage {
  uint64_t magic;
  uint64_t process_id;
  uint64_t started_ns;  // CLOCK_REALTIME
  uint64_t finished;    // 1 once the process ran its exit handlers
  char command[64];     // as the kernel knows it (comm)
  nonreuse_statistics statistics;
  nonreuse_statistics inherited;  // a fork's child: what the counters started from; else zero
};
static_assert(sizeof(StatsPage) <= kStatsPageBytes);

}  // namespace nonreuse
