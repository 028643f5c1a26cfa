// The statistics page: where a protected process keeps its figures up to date, so that the launcher (and any
// observer) can read them without stopping or signalling it. Every process has one in its own memory
// (platform/statistics_place.hpp); with the option stats_dir also one in a small file that it maps shared,
// named by its process id, which is there even after the process died.
#pragma once

#include <dlmalloc_nonreuse.h>

#include <atomic>
#include <cstddef>

#include "base/types.hpp"

namespace nonreuse {

inline constexpr uint64_t kStatsPageMagic = 0x32656c6261746e6fULL;  // "ontable2"
inline constexpr size_t kStatsPageBytes = 4096;  // of the file's format, whatever a page of memory is

struct alignas(64) StatsPage {
  uint64_t magic;
  uint64_t process_id;  // as the process sees it
  uint64_t started_ns;  // CLOCK_REALTIME
  uint64_t finished;    // 1 once the process ran its exit handlers
  uint64_t sequence;    // odd while the statistics are written; another one afterwards
  char command[64];     // as the kernel knows it (comm)
  nonreuse_statistics statistics;
  nonreuse_statistics inherited;  // a fork's child: what the counters started from; else zero
};
static_assert(sizeof(StatsPage) <= kStatsPageBytes);

// How an observer finds the page in a process' memory: the library (or the program that is linked with it)
// has an ELF note of this owner and type, 8 bytes long, in one of its PT_NOTE segments. The number in it plus
// the number's own address is the address of the page. So nothing but the memory is needed: no symbol, no
// file, no kernel that names mappings. elf(5), process_vm_readv(2).
inline constexpr uint32_t kPlaceNoteType = 0x4e52;
inline constexpr char kPlaceNoteOwner[] = "nonreuse";

inline constexpr size_t kStatisticsWords = sizeof(nonreuse_statistics) / sizeof(uint64_t);

// Writes `now` to the page. False, with nothing written: another thread is at it. Readers in this process or
// another take a copy of the page, and another one if the sequence was odd or has changed.
inline bool write_statistics(StatsPage& page, const nonreuse_statistics& now) {
  const std::atomic_ref<uint64_t> sequence(page.sequence);
  uint64_t before = sequence.load(std::memory_order_relaxed);
  if (before % 2 != 0 || !sequence.compare_exchange_strong(before, before + 1, std::memory_order_acq_rel))
    return false;
  auto* to = reinterpret_cast<uint64_t*>(&page.statistics);
  const auto* from = reinterpret_cast<const uint64_t*>(&now);
  // Each is seen after the odd number.
  for (size_t i = 0; i < kStatisticsWords; ++i)
    std::atomic_ref<uint64_t>(to[i]).store(from[i], std::memory_order_release);
  sequence.store(before + 2, std::memory_order_release);
  return true;
}

// The gauges that change between sweeps, one by one.
struct Gauges {
  uint64_t heap, live, quarantined, footprint, footprint_max;
};
inline void write_gauges(StatsPage& page, const Gauges& now) {
  const auto put = [](uint64_t& to, uint64_t value) {
    std::atomic_ref<uint64_t>(to).store(value, std::memory_order_relaxed);
  };
  put(page.statistics.heap_bytes, now.heap);
  put(page.statistics.live_bytes, now.live);
  put(page.statistics.quarantined_bytes, now.quarantined);
  put(page.statistics.footprint_bytes, now.footprint);
  put(page.statistics.footprint_max, now.footprint_max);
}

}  // namespace nonreuse
