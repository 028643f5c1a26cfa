// The free pool: Doug Lea's policy over out-of-line knowledge.
//
// A bitmap says which granules are free; that is the truth. Longer free runs are found through size-keyed
// tries, shorter ones through exact bins; small requests prefer the designated victim, the remainder of the
// last split; what nothing else satisfies is cut from the top, the unused end of the last segment. A
// released run coalesces with both neighbours at once. Chunk memory is never read or written here.
//
// What sweeps release never enters the bins: release_word() sets its bits, and gather() finds it by walking
// the bitmap in address order, so that what is allocated together lies together.
//
// Thread-safety: every function needs the caller to hold lock(), unless it says otherwise.
#pragma once

#include "base/bits.hpp"
#include "base/settings.hpp"
#include "heap/run_index.hpp"
#include "heap/small_bins.hpp"
#include "heap/tag_map.hpp"
#include "platform/address_space.hpp"
#include "platform/lock.hpp"

namespace nonreuse {

struct HeapCount {
  uint64_t chunks = 0, bytes = 0;
};

template <MemoryPlatform P>
class Heap {
 public:
  using Space = AddressSpace<P>;
  explicit constexpr Heap(Space& space) : space_(space), index_(space) {}

  // Call once, after the address space is ready. False: no memory.
  bool init();

  Lock& lock() { return lock_; }
  TagMap& tags() { return tags_; }
  const uint64_t* free_bits() const { return free_; }

  // Exactly `length` granules, or an empty run where memory is out. Best fit, low addresses first.
  Run take(Granules length);
  // As take; the start is a multiple of `alignment` granules (a power of two).
  Run take_aligned(Granules length, Granules alignment);
  // For a thread: up to `most` free runs in address order from where the last call ended, until those of at
  // least `least` (at most kSmallMax) granules have about `wanted` granules in all; their number. Shorter
  // ones are among them unless their size's bit of `unwanted` is set. None once all were passed, until
  // rewind(). Where the last release left holes shorter than kIndexedMin of more than 1 MiB and three
  // quarters of what is in use, longer runs are passed over, for requests that need them: a heap of objects
  // that stay and, between them, larger ones that go would not stop growing for long.
  size_t gather(Granules least, Granules wanted, uint64_t unwanted, Run* out, size_t most);
  // Of what gather() has passed, runs of at least `least` granules, from where the last call for such a size
  // ended.
  size_t gather_passed(Granules least, Granules wanted, Run* out, size_t most);
  // One run of at least `least` granules, about `wanted`: best fit among longer runs, else fresh memory.
  Run take_any(Granules least, Granules wanted);
  // These and take() look again from the lowest address on.
  void rewind();
  // Lengthens `chunk` in place to `length` granules by what is free behind it.
  bool extend(Run chunk, Granules length);
  // Back to the free pool. The run's tags must be clear.
  void release(Run run);
  // As release(), but never gives memory back to the system.
  void release_quietly(Run run) { join(run); }
  // Many at once, under one lock: begin_release(), then release_word() in ascending order, then
  // end_release(), which rewinds. `freed` says which granules of bitmap word `word` are released; their tags
  // are cleared here.
  void begin_release();
  void release_word(uint64_t word, uint64_t freed);
  void end_release();
  // True where the granule is in the free pool already.
  bool is_free(Granule at) const { return at >= top_ || bits::test(free_, at); }

  // Makes a run that was just taken all zero, skipping what is known to be. Without the lock: the run is
  // the caller's. True where something had been written to after it was freed.
  bool cleanse(Run run);
  // Tells that pages of this run were given back and read as zeroes. Without the lock.
  void note_zero(Run run);
  // Somebody may have written to the run: nothing is known about it.
  void forget_zero(Run run);

  // Gives pages back whose contents nobody needs (quarantined, never to be released). Without the lock.
  bool give_back(Run pages) { return discard(pages); }

  // Gives free memory back to the system; every MAX_RELEASE_CHECK_RATE consolidations the heap does so
  // itself. Keeps `pad` bytes at the top. True if anything was given back.
  bool trim(size_t pad);

  Granule top() const { return __atomic_load_n(&top_, __ATOMIC_RELAXED); }
  const Granule* top_word() const { return &top_; }  // where an observer of the process reads it
  Granules in_use() const { return __atomic_load_n(&in_use_, __ATOMIC_RELAXED); }
  Granules committed() const { return __atomic_load_n(&committed_, __ATOMIC_RELAXED); }
  Granules committed_max() const { return __atomic_load_n(&committed_max_, __ATOMIC_RELAXED); }
  Granules top_size() const { return segment_end_ - top_; }
  uint64_t indexed_runs() const { return index_.count(); }

  // Checks invariants I1 and I2 and the indexes over [0, top). `unknown(run)` is asked about memory that is
  // neither free nor a chunk: true if a front owns it. Returns nullptr, or what is broken (and where).
  HeapCount count_live() const;
  template <class Unknown>
  const char* check(Unknown&& unknown, Granule* where) const;

 private:
  static constexpr Granules kStep = (size_t{256} << 10) >> kGranuleShift;   // of growth
  static constexpr Granules kStepFar = (size_t{2} << 20) >> kGranuleShift;  // the same of large heaps
  static constexpr Granules kManyHoles = (size_t{1} << 20) >> kGranuleShift;
  static constexpr Granules kStepMax = (size_t{64} << 20) >> kGranuleShift;
  static constexpr Granules kSegmentMin = (size_t{4} << 20) >> kGranuleShift;    // to be unmapped
  static constexpr Granules kDiscardMin = (size_t{256} << 10) >> kGranuleShift;  // to be given back
  static constexpr Granules kBroughtMost = (size_t{128} << 10) >> kGranuleShift;
  static constexpr Granules kWeighty = (size_t{16} << 10) >> kGranuleShift;  // counts as a release
  static constexpr size_t kVacancies = 256;
  static constexpr size_t kCursors = 8 + 4 * (kIndexedMinShift - 3);
  static constexpr Granules kWholeByte = 15;  // a run this long fills a byte of the bitmap

  // Figures that others read without the lock.
  static void set(uint64_t& figure, uint64_t value) { __atomic_store_n(&figure, value, __ATOMIC_RELAXED); }

  void note_committed(Granules more) {
    set(committed_, committed_ + more);
    if (committed_ > committed_max_) set(committed_max_, committed_);
  }
  void mark_taken(Run run);
  void settle_edges(Run run);
  bool known_zero(Run run) const;
  void bring(Run absent, Run run);
  void add_to_top(Run fresh, Granules length);
  Run unindex(RecordId id);
  void index(Run run);
  void replace_victim(Run run);
  void retire_victim();
  void join_below(Granule low, uint64_t before, uint64_t now);
  void join_above(Granule low, uint64_t before, uint64_t now);
  void finish_join();
  void lower_top(Granule start);
  Run next_run(Granule at, Granules least) const;
  Granule next_whole_byte(Granule at) const;
  Run take_passed(Granules length);
  bool left_whole(Run run) const { return thrifty_ && run.length >= kIndexedMin; }
  static constexpr size_t cursor_of(Granules least);
  Run take_part(Run run, Granules wanted);
  Run split(Run from, Granules length);
  Run take_small(Granules length);
  Run pop_hole(Granules length);
  Run take_indexed(Granules length);
  Run take_top(Granules length);
  void refind_holes(Granules length);
  bool join(Run run);
  bool grow(Granules length);
  Run free_run_before(Granule at) const;
  Run free_run_after(Granule at) const;
  bool forget(Run run);
  bool grow_into_vacancy(Granules length);
  void retire_top();
  bool discard(Run run);
  bool release_segments(Granules most);
  Granule zero_tail(Run run) const;
  size_t vacancy_beside(Run run) const;
  bool has_room_for_vacancy(Run run) const;
  void add_vacancy(Run run);
  bool vacate(Run run);
  Granules spare() const { return index_.granules() + victim_.length; }  // in long free runs
  void periodic_release();
  Run next_vacancy(Granule at) const;
  Granules page_granules() const { return space_.page_size() >> kGranuleShift; }
  Granule first() const { return page_granules(); }  // no chunk lies below

  Space& space_;
  Lock lock_;
  TagMap tags_;
  uint64_t* free_ = nullptr;
  uint64_t* zero_ = nullptr;
  RunIndex<Space> index_;
  SmallBins bins_;
  Granule refind_at_[SmallBins::kSizes] = {};
  Granule gather_at_ = 0;
  Granule cursors_[kCursors] = {};  // of gather_passed() and take(), by size
  bool thrifty_ = false;            // gather() leaves long runs whole
  Run joining_;              // between begin_release() and end_release(): a long free run in no index yet
  Run victim_;               // in the free bitmap, in no bin and no trie
  Granule top_ = 0;          // below: chunks and free runs; from here to segment_end_: unused
  Granule segment_end_ = 0;  // end of the committed memory of the last segment
  Granule dirty_end_ = 0;    // top was never above this since it was last given back
  Granules in_use_ = 0, committed_ = 0, committed_max_ = 0;
  Granules idle_ = 0;     // the least spare() since the last periodic_release()
  Granule peak_top_ = 0;  // highest top since then
  uint64_t consolidations_ = 0;
  uint64_t swept_runs_ = 0;           // between begin_release() and end_release()
  bool runs_without_record_ = false;  // memory for one was out at some time
  Run vacancies_[kVacancies];  // unmapped segments and gaps between segments, free to be mapped (again)
  size_t vacancy_count_ = 0;
};

}  // namespace nonreuse

#include "heap/heap_give_back.ipp"
#include "heap/heap_take.ipp"
#include "heap/heap_walk.ipp"
#include "heap/heap_words.ipp"
