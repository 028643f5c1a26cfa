// The one reserved range: where chunks live, and where the flat tables about them live.
//
//   base ──────────── chunks ─────────────┬─ tags ─┬─ free ─┬─ shadow ─┬─ hits ─┬ … ┬─ records ─┬─ arena ─┐
//
// "Is this word a heap address" is one comparison, and every table is one flat array indexed by granule.
// Tables are committed in step with the heap. Table bases are staggered by an odd number of cache lines, so
// that the same index of two tables does not fall on the same cache set: a release, which walks all of them
// at the same index, would else find each table's line pushed out by the others'.
//
// Thread-safety: the caller serialises every call that commits; reading the layout is free for all.
#pragma once

#include <atomic>
#include <initializer_list>

#include "base/types.hpp"
#include "platform/concept.hpp"
#include "platform/lock.hpp"

namespace nonreuse {

// Granules whose known-zero state shares one bit; and granules under one bit of the shadow's summaries.
inline constexpr unsigned kZeroBlockShift = 8;  // 4 KiB of heap
inline constexpr unsigned kSummaryShift = 6;    // one word of the bitmaps, 1 KiB of heap

template <MemoryPlatform P>
class AddressSpace {
 public:
  explicit constexpr AddressSpace(P& platform) : platform_(platform) {}

  // False where no addresses are to be had. Call once.
  bool init() {
    const AddressClaim claim = platform_.claim(kWanted);
    if (claim.size == 0) return false;
    page_ = platform_.page_size();
    claim_ = {claim.base, claim.base + claim.size};
    const size_t capacity = align_down(claim.size / 4 * 3, 1u << 20);
    Address at = claim.base + capacity;
    heap_ = {claim.base, at};
    const Granules granules = capacity >> kGranuleShift;
    const size_t sizes[kTableCount] = {granules,
                                       granules / 8,
                                       granules / 8,
                                       granules / 8,
                                       (granules >> kSummaryShift) / 8 + 64,
                                       (granules >> kZeroBlockShift) / 8 + 64,
                                       granules / 8,
                                       (granules >> kSummaryShift) / 8 + 64,
                                       (granules >> kSummaryShift) / 8 + 64};
    for (size_t i = 0; i < kTableCount; ++i) {
      tables_[i].begin = at + (i + 1) * kStagger;
      tables_[i].committed = align_down(tables_[i].begin, page_);
      at = align_up(tables_[i].begin + sizes[i] + kStagger, page_);
    }
    const size_t rest = claim_.end - at;
    records_ = {at, at, align_down(at + rest / 2, page_)};
    arena_ = {records_.limit, records_.limit, claim_.end};
    arena_next_ = arena_.begin;
    return true;
  }

  P& platform() { return platform_; }
  size_t page_size() const { return page_; }
  Range heap() const { return heap_; }                      // all addresses that chunks may ever have
  Range tables() const { return {heap_.end, claim_.end}; }  // never a root
  Granules capacity() const { return heap_.size() >> kGranuleShift; }

  uint8_t* tags() const { return static_cast<uint8_t*>(platform_.pointer(tables_[0].begin)); }
  uint64_t* free_bits() const { return words(1); }
  uint64_t* shadow_bits() const { return words(2); }
  uint64_t* hit_bits() const { return words(3); }
  uint64_t* summary_bits() const { return words(4); }
  uint64_t* zero_bits() const { return words(5); }
  uint64_t* expanded_bits() const { return words(6); }
  uint64_t* hit_summary_bits() const { return words(7); }
  uint64_t* news_bits() const { return words(8); }
  void* records() const { return platform_.pointer(records_.begin); }

  Address address(Granule granule) const { return heap_.begin + (granule << kGranuleShift); }
  Granule granule(Address address) const { return (address - heap_.begin) >> kGranuleShift; }

  // Commits the chunk memory of `run` (whole pages) and the tables for everything up to its end.
  CommitResult commit_heap(Run run) {
    if (!commit_tables(run.end())) return CommitResult::no_memory;
    return platform_.commit(address(run.start), run.length << kGranuleShift);
  }

  // The record array holds at least `bytes` afterwards; false: no memory.
  bool commit_records(size_t bytes) { return extend(records_, records_.begin + bytes, kArenaStep); }

  // Memory for the library's own structures: zero, 64-byte aligned, never given back (structures keep their
  // own free lists). nullptr: no memory. Thread-safe.
  void* arena_allocate(size_t bytes) {
    LockGuard guard(arena_lock_);
    const Address at = align_up(arena_next_, 64);
    if (!extend(arena_, at + bytes, kArenaStep)) return nullptr;
    arena_next_ = at + bytes;
    return platform_.pointer(at);
  }

  Lock& arena_lock() { return arena_lock_; }

 private:
  struct Area {
    Address begin = 0, committed = 0, limit = 0;
  };
  struct Table {
    Address begin = 0, committed = 0;
  };
  static constexpr size_t kWanted = size_t{1} << 40;
  static constexpr size_t kTableCount = 9;
  static constexpr size_t kStagger = 33856;
  static constexpr size_t kArenaStep = size_t{1} << 20;
  static constexpr Granules kTablesAhead = (size_t{64} << 20) >> kGranuleShift;

  uint64_t* words(size_t table) const {
    return static_cast<uint64_t*>(platform_.pointer(tables_[table].begin));
  }

  static size_t table_bytes(size_t table, Granules granules) {
    constexpr unsigned kBlocks = kSummaryShift + 3;
    constexpr unsigned kShift[kTableCount] = {0, 3, 3, 3, kBlocks, kZeroBlockShift + 3, 3, kBlocks, kBlocks};
    // Walks over the bitmaps read whole words of them.
    return (granules >> kShift[table]) + 2 * sizeof(uint64_t);
  }

  // Virtual space only, so well ahead of need where the system allows it, else exactly what is needed.
  bool commit_tables(Granule end) {
    if (end <= tables_end_) return true;
    const Granule ahead = end + kTablesAhead < capacity() ? end + kTablesAhead : capacity();
    return commit_tables_to(ahead) || commit_tables_to(end);
  }

  bool commit_tables_to(Granule end) {
    for (size_t i = 0; i < kTableCount; ++i) {
      const Address until = align_up(tables_[i].begin + table_bytes(i, end), page_);
      if (until <= tables_[i].committed) continue;
      const Address from = tables_[i].committed;
      if (platform_.commit(from, until - from) != CommitResult::done) return false;
      tables_[i].committed = until;
    }
    tables_end_ = end;
    return true;
  }

  bool extend(Area& area, Address until, size_t step) {
    if (until <= area.committed) return true;
    if (until > area.limit) return false;
    for (const Address wanted : {align_up(until, step), align_up(until, page_)}) {
      if (wanted > area.limit) continue;
      if (platform_.commit(area.committed, wanted - area.committed) == CommitResult::done) {
        area.committed = wanted;
        return true;
      }
    }
    return false;
  }

  P& platform_;
  size_t page_ = 0;
  Range claim_, heap_;
  Table tables_[kTableCount];
  Granule tables_end_ = 0;
  Area records_, arena_;
  Address arena_next_ = 0;
  Lock arena_lock_;
};

}  // namespace nonreuse
