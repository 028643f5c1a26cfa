// The shadow: which granules are painted (quarantined and up for release), and which of those were hit.
//
// One bit a granule each, flat, indexed as the tag map. A coarse summary (one bit for 64 KiB of heap) says
// where anything is painted, so that walks skip the rest. Painting marks a whole chunk; a scan records the
// granules that words point at; expand() widens hits to whole chunks; release() hands out what is painted
// and not hit, in address order, word by word, and leaves the hit chunks painted: they are held, and take
// part in the next sweep. Thread-safety: the sweep lock.
#pragma once

#include "base/bits.hpp"
#include "base/types.hpp"
#include "platform/address_space.hpp"

namespace nonreuse {

class Shadow {
 public:
  void attach(uint64_t* painted, uint64_t* hits, uint64_t* summary, uint64_t* expanded) {
    painted_ = painted;
    hits_ = hits;
    summary_ = summary;
    expanded_ = expanded;
  }

  const uint64_t* painted() const { return painted_; }
  uint64_t* hits() const { return hits_; }

  // False if any granule of the chunk was painted already: it was freed twice.
  bool paint(Run chunk) {
    uint64_t already = 0;
    bits::for_each_word(chunk.start, chunk.length, [&](uint64_t w, uint64_t m) {
      already |= painted_[w] & m;
      painted_[w] |= m;
    });
    bits::set(summary_, chunk.start >> kSummaryShift,
              ((chunk.end() - 1) >> kSummaryShift) - (chunk.start >> kSummaryShift) + 1);
    return already == 0;
  }

  bool is_painted(Granule granule) const { return bits::test(painted_, granule); }
  bool any_hit(Run chunk) const { return bits::any(hits_, chunk.start, chunk.length); }

  // A word points at `granule`. True if this is news.
  bool hit(Granule granule) {
    const uint64_t bit = uint64_t{1} << (granule & 63);
    uint64_t& word = hits_[granule >> 6];
    if ((painted_[granule >> 6] & bit) == 0 || (word & bit) != 0) return false;
    word |= bit;
    return true;
  }

  void hit_chunk(Run chunk) { bits::set(hits_, chunk.start, chunk.length); }

  // Calls f(word_index) for every word of the bitmaps below `limit` in which something is painted.
  template <class F>
  void for_each_painted_word(Granule limit, F&& f) const {
    constexpr unsigned kWordsShift = kSummaryShift - 6;
    const uint64_t blocks = ((limit + (uint64_t{1} << kSummaryShift) - 1) >> kSummaryShift);
    for (uint64_t block = bits::find_set(summary_, 0, blocks); block < blocks;
         block = bits::find_set(summary_, block + 1, blocks)) {
      const uint64_t first = block << kWordsShift;
      for (uint64_t word = first; word < first + (uint64_t{1} << kWordsShift); ++word) {
        if (painted_[word] != 0) f(word);
      }
    }
  }

  struct Held {
    uint64_t chunks = 0;
    Granules granules = 0;
  };

  // Widens every hit to its chunk. `chunk_of(granule)` gives the painted chunk around a hit granule;
  // `content(chunk)` is called once for each hit chunk of a sweep and records what its content points at (a
  // program may have written pointers through a dangling one), which may make further chunks hit: true if it
  // did. May be called again after more was hit. Returns what is held by then.
  template <class ChunkOf, class Content>
  Held expand(Granule limit, ChunkOf&& chunk_of, Content&& content) {
    for (bool more = true; more;) {
      more = false;
      Granule done = 0;
      for_each_painted_word(limit, [&](uint64_t word) {
        const Granule end = (word + 1) << 6;
        uint64_t pending = done >= end ? 0 : hits_[word];
        if (done > word << 6) pending &= bits::kAll << (done & 63);
        while (pending != 0) {
          const Run chunk = chunk_of((word << 6) + static_cast<unsigned>(std::countr_zero(pending)));
          pending &= pending - 1;
          if (chunk.empty()) continue;
          if (!bits::test(expanded_, chunk.start)) {
            bits::set(expanded_, chunk.start, 1);
            hit_chunk(chunk);
            more |= content(chunk);
            ++held_.chunks;
            held_.granules += chunk.length;
          }
          done = chunk.end();
          pending = done >= end ? 0 : hits_[word] & bits::kAll << (done & 63);
        }
      });
    }
    return held_;
  }

  // Calls release(word, mask) for the granules of every bitmap word that are painted and not hit, in address
  // order, and unpaints them. Hits are forgotten; hit chunks stay painted. Returns the granules unpainted.
  template <class Release>
  Granules release(Granule limit, Release&& release) {
    constexpr unsigned kWordsShift = kSummaryShift - 6;
    Granules total = 0;
    const uint64_t blocks = ((limit + (uint64_t{1} << kSummaryShift) - 1) >> kSummaryShift);
    for (uint64_t block = bits::find_set(summary_, 0, blocks); block < blocks;
         block = bits::find_set(summary_, block + 1, blocks)) {
      uint64_t left = 0;
      const uint64_t first = block << kWordsShift;
      for (uint64_t word = first; word < first + (uint64_t{1} << kWordsShift); ++word) {
        const uint64_t painted = painted_[word];
        if (painted == 0) continue;
        const uint64_t hits = hits_[word], clear = painted & ~hits;
        left |= painted & hits;
        if (hits != 0) hits_[word] = expanded_[word] = 0;
        if (clear == 0) continue;
        painted_[word] = painted & hits;
        total += static_cast<unsigned>(std::popcount(clear));
        release(word, clear);
      }
      if (left == 0) bits::clear(summary_, block, 1);
    }
    held_ = {};
    return total;
  }

  // Forgets the hits of a sweep that did not finish; everything stays painted.
  void forget_hits(Granule limit) {
    for_each_painted_word(limit, [&](uint64_t word) { hits_[word] = expanded_[word] = 0; });
    held_ = {};
  }

 private:
  uint64_t* painted_ = nullptr;
  uint64_t* hits_ = nullptr;
  uint64_t* summary_ = nullptr;
  uint64_t* expanded_ = nullptr;  // at the start of chunks whose hits were widened and whose content was read
  Held held_;                     // in the sweep under way
};

}  // namespace nonreuse
