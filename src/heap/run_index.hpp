// The index of the longer free runs: digital tries keyed by size, then by address, so that the best fit is
// found in a number of steps bounded by the key's bits, and of equal sizes the lowest address wins.
//
// As in Doug Lea's malloc each size octave has a trie of its own and a node may stand anywhere on the path
// that its key's bits describe; unlike there, the key is (size, start), so no two nodes are equal. Records
// live in the library's own memory, never in free chunks. Thread-safety: the heap lock.
#pragma once

#include <bit>

#include "base/settings.hpp"
#include "base/types.hpp"

namespace nonreuse {

// With a quarantine, where sweeps release and threads gather by walking the bitmap, an index of the runs of a
// few KiB would be work for nothing.
inline constexpr unsigned kIndexedMinShift = kFreebufMode ? 9 : 6;
inline constexpr Granules kIndexedMin = Granules{1} << kIndexedMinShift;  // 8 KiB, 1 KiB without quarantine

using RecordId = uint32_t;  // 0: none

template <class Space>
class RunIndex {
 public:
  explicit constexpr RunIndex(Space& space) : space_(space) {}

  // Inserts a run of at least kIndexedMin granules. 0 where no record can be had: the caller keeps the run
  // unindexed (it is found again when a neighbour is released).
  RecordId insert(Run run) {
    const RecordId id = take_record();
    if (id == 0) return 0;
    Record& record = at(id);
    record = {run, {0, 0}, 0, octave_of(run.length)};
    RecordId* link = &roots_[record.octave];
    unsigned depth = 0;
    RecordId parent = 0;
    while (*link != 0) {
      parent = *link;
      link = &at(parent).child[key_bit(run, record.octave, depth++)];
    }
    *link = id;
    record.parent = parent;
    nonempty_ |= uint64_t{1} << record.octave;
    ++count_;
    granules_ += run.length;
    return id;
  }

  void remove(RecordId id) {
    Record& record = at(id);
    // Any leaf below may take the node's place: all its keys share the path.
    RecordId leaf = id;
    while (at(leaf).child[0] != 0 || at(leaf).child[1] != 0) {
      leaf = at(leaf).child[at(leaf).child[1] != 0 ? 1 : 0];
    }
    link_to(leaf) = 0;
    if (leaf != id) {
      Record& replacement = at(leaf);
      replacement.child[0] = record.child[0];
      replacement.child[1] = record.child[1];
      replacement.parent = record.parent;
      link_to_from(id, record) = leaf;
      for (const RecordId child : replacement.child) {
        if (child != 0) at(child).parent = leaf;
      }
    }
    if (roots_[record.octave] == 0) nonempty_ &= ~(uint64_t{1} << record.octave);
    --count_;
    granules_ -= record.run.length;
    give_record(id);
  }

  Run run(RecordId id) const { return at(id).run; }

  // The smallest run of at least `length` granules, of these the lowest; 0: none.
  RecordId best_fit(Granules length) const {
    const Run target{0, length};
    const unsigned octave = octave_of(length);
    if (const RecordId found = lower_bound(octave, target)) return found;
    const uint64_t larger = octave == 63 ? 0 : nonempty_ >> (octave + 1) << (octave + 1);
    if (larger == 0) return 0;
    return smallest(roots_[std::countr_zero(larger)]);
  }

  // A largest-octave run, for a caller that takes what there is; 0: none.
  RecordId some_large() const { return nonempty_ == 0 ? 0 : roots_[63 - std::countl_zero(nonempty_)]; }

  uint64_t count() const { return count_; }
  Granules granules() const { return granules_; }

  // Calls f(run) for every indexed run of at least `least` granules, in no order. The index must not change.
  template <class F>
  void for_each(Granules least, F&& f) const {
    for (RecordId id = 1; id < next_; ++id) {
      if (at(id).octave != kFreeRecord && at(id).run.length >= least) f(at(id).run);
    }
  }

 private:
  struct Record {
    Run run;
    RecordId child[2];
    RecordId parent;  // of a free record: the next free one
    uint32_t octave;
  };
  static constexpr uint32_t kFreeRecord = 255;

  Record& at(RecordId id) const { return static_cast<Record*>(space_.records())[id]; }
  static unsigned octave_of(Granules length) { return 63 - static_cast<unsigned>(std::countl_zero(length)); }

  // Bit `depth` of the key, from the most significant bit below the octave's own down to the start's last.
  static unsigned key_bit(Run run, unsigned octave, unsigned depth) {
    if (depth < octave) return run.length >> (octave - 1 - depth) & 1;
    return run.start >> (47 - (depth - octave)) & 1;
  }

  static bool less(Run a, Run b) { return a.length != b.length ? a.length < b.length : a.start < b.start; }

  RecordId smaller(RecordId a, RecordId b) const {
    if (a == 0) return b;
    return b != 0 && less(at(b).run, at(a).run) ? b : a;
  }

  RecordId smallest(RecordId node) const {
    RecordId best = 0;
    while (node != 0) {
      best = smaller(best, node);
      node = at(node).child[at(node).child[0] != 0 ? 0 : 1];
    }
    return best;
  }

  // Smallest key >= target in one octave. Nodes on the target's path may be either side of it; the deepest
  // right subtree that the path did not enter holds only larger keys, the smallest of all those.
  RecordId lower_bound(unsigned octave, Run target) const {
    RecordId best = 0, right = 0, node = roots_[octave];
    for (unsigned depth = 0; node != 0; ++depth) {
      if (!less(at(node).run, target)) best = smaller(best, node);
      const unsigned bit = key_bit(target, octave, depth);
      if (bit == 0 && at(node).child[1] != 0) right = at(node).child[1];
      node = at(node).child[bit];
    }
    return smaller(best, smallest(right));
  }

  RecordId& link_to(RecordId id) { return link_to_from(id, at(id)); }
  RecordId& link_to_from(RecordId id, const Record& record) {
    if (record.parent == 0) return roots_[record.octave];
    Record& parent = at(record.parent);
    return parent.child[parent.child[0] == id ? 0 : 1];
  }

  RecordId take_record() {
    if (free_ != 0) {
      const RecordId id = free_;
      free_ = at(id).parent;
      return id;
    }
    if (next_ == UINT32_MAX || !space_.commit_records((size_t{next_} + 1) * sizeof(Record))) return 0;
    return next_++;
  }
  void give_record(RecordId id) {
    at(id) = {{}, {0, 0}, free_, kFreeRecord};
    free_ = id;
  }

  Space& space_;
  RecordId roots_[64] = {};
  uint64_t nonempty_ = 0;
  RecordId next_ = 1, free_ = 0;
  uint64_t count_ = 0;
  Granules granules_ = 0;
};

}  // namespace nonreuse
