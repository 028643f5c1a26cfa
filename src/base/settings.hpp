// The compile-time settings of dlmalloc_nonreuse.h as typed constants. Only this file and the header know
// the macros' names; everything else says `if constexpr (kUseLocks)`.
#pragma once

#include <dlmalloc_nonreuse.h>

#include <cstddef>
#include <cstdint>

namespace nonreuse {

inline constexpr bool kUseLocks = USE_LOCKS != 0;
inline constexpr bool kSpinLocks = USE_SPIN_LOCKS != 0;
inline constexpr bool kRecursiveLocks = USE_RECURSIVE_LOCKS != 0;
inline constexpr bool kHaveMmap = HAVE_MMAP != 0;
inline constexpr size_t kStaticHeapBytes = NONREUSE_STATIC_HEAP_BYTES;
inline constexpr uint64_t kMaxReleaseCheckRate = MAX_RELEASE_CHECK_RATE;
inline constexpr bool kFreebufMode = FREEBUF_MODE != 0;
inline constexpr uint64_t kDefaultFreebufPercent = DEFAULT_FREEBUF_PERCENT;
inline constexpr uint64_t kDefaultSweepSize = DEFAULT_SWEEP_SIZE;
inline constexpr bool kSweepStats = SWEEP_STATS != 0;
inline constexpr bool kMallocUtrace = MALLOC_UTRACE != 0;
// Where calls are recorded unless the option `trace` says otherwise; "": nowhere.
#if MALLOC_UTRACE
inline constexpr char kDefaultTrace[] = "nonreuse.trace";
#else
inline constexpr char kDefaultTrace[] = "";
#endif
inline constexpr bool kDebug = DEBUG != 0;

namespace settings_check {
constexpr bool is_switch(long long value) {
  return value == 0 || value == 1;
}
}  // namespace settings_check

static_assert(settings_check::is_switch(USE_LOCKS), "USE_LOCKS must be 0 or 1");
static_assert(settings_check::is_switch(USE_SPIN_LOCKS), "USE_SPIN_LOCKS must be 0 or 1");
static_assert(settings_check::is_switch(USE_RECURSIVE_LOCKS), "USE_RECURSIVE_LOCKS must be 0 or 1");
static_assert(settings_check::is_switch(HAVE_MMAP), "HAVE_MMAP must be 0 or 1");
static_assert(settings_check::is_switch(FREEBUF_MODE), "FREEBUF_MODE must be 0 or 1");
static_assert(settings_check::is_switch(SWEEP_STATS), "SWEEP_STATS must be 0 or 1");
static_assert(settings_check::is_switch(MALLOC_UTRACE), "MALLOC_UTRACE must be 0 or 1");
static_assert(settings_check::is_switch(DEBUG), "DEBUG must be 0 or 1");
static_assert(settings_check::is_switch(USE_DL_PREFIX), "USE_DL_PREFIX must be 0 or 1");
static_assert(MAX_RELEASE_CHECK_RATE >= 1, "MAX_RELEASE_CHECK_RATE counts frees: at least 1");
static_assert(DEFAULT_FREEBUF_PERCENT >= 1 && DEFAULT_FREEBUF_PERCENT <= 10000,
              "DEFAULT_FREEBUF_PERCENT must be 1 to 10000");
static_assert(static_cast<long long>(DEFAULT_SWEEP_SIZE) >= 0, "DEFAULT_SWEEP_SIZE must not be negative");
// Of less, the tables would leave nothing for chunks.
static_assert(NONREUSE_STATIC_HEAP_BYTES >= (128UL << 20),
              "NONREUSE_STATIC_HEAP_BYTES: at least 128 MiB (134217728)");
static_assert(NONREUSE_STATIC_HEAP_BYTES % 65536 == 0, "NONREUSE_STATIC_HEAP_BYTES: whole pages of any size");

}  // namespace nonreuse
