// Boundary tags, out of line: one byte a granule.
//
//   00vvvvvv  v = 0: not the start of anything (inside a chunk, or free)
//             v = 1..62: start of a live chunk of v granules; v = 63: of a larger one, size in the digits
//   01vvvvvv  v = 0: first granule of an indexed free run, v = 1: its last; record number in the digits
//   10vvvvvv  as 00, but freed: batched, sealed or held (quarantine)
//   11dddddd  a digit (6 bits) of the number that belongs to the head before it, or the tail behind it
//
// malloc writes a tag plainly; free claims it with one compare-and-swap, so two threads that free the same
// chunk cannot both succeed, and any pointer is exactly one of: live start, interior, freed, not allocated.
// No overflow in the program reaches this map. Thread-safety: each byte is an atomic object; the owner of the
// chunk writes digits before their head and reads them after it. Who writes them holds the heap's lock, which
// fork takes, or carves the chunk from a run of its own: then a child that inherits digits without their head
// knows where (Allocator::clear_torn_size).
#pragma once

#include <atomic>
#include <bit>
#include <cstring>

#include "base/types.hpp"

namespace nonreuse {

inline constexpr Granules kSmallMax = 62;                       // granules of the largest cached chunk size
inline constexpr Granules kMaxChunk = (uint64_t{1} << 36) - 1;  // what six digits can say

class TagMap {
 public:
  static constexpr Granules kMostTags = 7;  // of one chunk: its first granule's, and six digits

  enum class State : uint8_t { nothing = 0, mark = 1, freed = 2, digit = 3 };
  enum class Claim : uint8_t { claimed, not_live };

  // `tags`: at a multiple of eight, and to be read up to one.
  void attach(uint8_t* tags) { tags_ = tags; }

  void set_live(Granule start, Granules length) {
    if (length > kSmallMax) {
      write_digits(start + 1, length);
      publish(start, kLarge);
    } else {
      store(start, static_cast<uint8_t>(length));
    }
  }
  void set_live_small(Granule start, Granules length) { store(start, static_cast<uint8_t>(length)); }

  uint8_t load(Granule at) const { return __atomic_load_n(tags_ + at, __ATOMIC_RELAXED); }

  static bool is_live(uint8_t tag) { return static_cast<uint8_t>(tag - 1) < kLarge; }
  static bool is_freed(uint8_t tag) { return tag >> 6 == 2; }
  static bool is_live_small(uint8_t tag) { return static_cast<uint8_t>(tag - 1) < kSmallMax; }

  // Chunk size of the live or freed chunk that starts at `start`.
  Granules length(Granule start) const {
    const uint8_t value = load(start) & 63;
    return value == kLarge ? read_digits(start + 1) : value;
  }

  // live -> freed, exactly once among all threads. `seen` is the tag just loaded. `alone`: no other thread
  // exists, and the locked instruction is not needed.
  bool claim(Granule start, uint8_t seen, bool alone) {
    if (alone) {
      store(start, seen | kFreed);
      return true;
    }
    return __atomic_compare_exchange_n(tags_ + start, &seen, static_cast<uint8_t>(seen | kFreed), false,
                                       __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
  }

  // A part of a chunk that becomes a freed chunk of its own (realloc that shrinks).
  void set_freed(Granule start, Granules length) {
    if (length > kSmallMax) {
      write_digits(start + 1, length);
      publish(start, kFreed | kLarge);
    } else {
      store(start, kFreed | static_cast<uint8_t>(length));
    }
  }

  // Nothing starts in [start, start + length) any more.
  void clear(Run run) { memset(tags_ + run.start, 0, run.length); }

  // The same for the granules of one bitmap word that are set in `mask`. Only their bytes are written: other
  // threads own those between.
  void clear_word(Granule low, uint64_t mask) {
    while (mask != 0) {
      const unsigned from = static_cast<unsigned>(std::countr_zero(mask));
      const unsigned length = static_cast<unsigned>(std::countr_one(mask >> from));
      clear_short(tags_ + low + from, length);
      mask = from + length >= 64 ? 0 : mask & (~uint64_t{0} << (from + length));
    }
  }

  bool all_clear(Run run) const {
    for (Granule g = run.start; g < run.end(); ++g) {
      if (load(g) != 0) return false;
    }
    return true;
  }

  // The live or freed chunk that covers `at`, looking back at most `most` granules; empty if none does.
  Run covering(Granule at, Granules most) const {
    for (Granules back = 0; back <= most && back <= at; ++back) {
      const Granule start = at - back;
      if (start % 8 == 7 && back + 8 <= most && load_eight(start - 7) == 0) {
        back += 7;  // the inside of a long chunk
        continue;
      }
      const uint8_t tag = load(start);
      if (tag == 0 || tag >> 6 == 3) continue;
      if (tag >> 6 == 1) return {};
      const Granules size = length(start);
      return at < start + size ? Run{start, size} : Run{};
    }
    return {};
  }

  // Free runs of at least kIndexedMin granules carry the number of their index record at both ends.
  void mark_run(Run run, uint32_t record) {
    write_digits(run.start + 1, record);
    write_digits(run.end() - 7, record);
    store(run.start, kMark);
    store(run.end() - 1, kMark | 1);
  }
  void unmark_run(Run run) {
    memset(tags_ + run.start, 0, 7);
    memset(tags_ + run.end() - 7, 0, 7);
  }
  bool is_run_head(Granule at) const { return load(at) == kMark; }
  bool is_run_tail(Granule at) const { return load(at) == (kMark | 1); }
  uint32_t record_at_head(Granule start) const { return static_cast<uint32_t>(read_digits(start + 1)); }
  uint32_t record_at_tail(Granule last) const { return static_cast<uint32_t>(read_digits(last - 6)); }

 private:
  // Up to 64 bytes, by stores that overlap: a call of memset would cost more than the bytes.
  static void clear_short(uint8_t* at, unsigned length) {
    const auto ends = [&](auto zero) {
      unsigned done = 0;
      for (; done + sizeof zero <= length; done += sizeof zero) memcpy(at + done, &zero, sizeof zero);
      if (done < length) memcpy(at + length - sizeof zero, &zero, sizeof zero);
    };
    if (length >= 8)
      ends(uint64_t{0});
    else if (length >= 4)
      ends(uint32_t{0});
    else if (length >= 2)
      ends(uint16_t{0});
    else
      *at = 0;
  }

  // At a multiple of eight.
  uint64_t load_eight(Granule at) const {
    using Eight [[gnu::may_alias]] = uint64_t;
    return __atomic_load_n(reinterpret_cast<const Eight*>(tags_ + at), __ATOMIC_RELAXED);
  }

  static constexpr uint8_t kLarge = 63, kMark = 64, kFreed = 128, kDigit = 192;

  void store(Granule at, uint8_t tag) { __atomic_store_n(tags_ + at, tag, __ATOMIC_RELAXED); }

  // Of a large chunk, after its digits: whoever claims the tag reads these, also one that frees without
  // having been told of the chunk in any order.
  void publish(Granule at, uint8_t tag) { __atomic_store_n(tags_ + at, tag, __ATOMIC_RELEASE); }

  void write_digits(Granule at, uint64_t number) {
    for (int i = 0; i < 6; ++i) store(at + i, static_cast<uint8_t>(kDigit | (number >> (6 * i) & 63)));
  }
  uint64_t read_digits(Granule at) const {
    uint64_t number = 0;
    for (int i = 0; i < 6; ++i) number |= static_cast<uint64_t>(load(at + i) & 63) << (6 * i);
    return number;
  }

  uint8_t* tags_ = nullptr;
};

}  // namespace nonreuse
