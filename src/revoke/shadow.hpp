// The shadow: which granules are painted (quarantined and up for release), and which of those were hit.
//
// One bit a granule each, flat, indexed as the tag map. Two summaries (one bit for a word of the bitmaps) say
// where anything is painted, and where anything was hit, so that walks skip the rest. Painting marks a whole
// chunk; a scan records the granules that words point at; expand() widens hits to whole chunks; release()
// hands out what is painted and not hit, in address order, word by word, and leaves the hit chunks painted:
// they are held, and take part in the next sweep. Thread-safety: the sweep lock.
#pragma once

#include "base/bits.hpp"
#include "base/types.hpp"
#include "platform/address_space.hpp"
#include "platform/attributes.hpp"

namespace nonreuse {

class Shadow {
 public:
  struct Tables {
    uint64_t* painted;      // one bit a granule
    uint64_t* summary;      // one bit for 2^kSummaryShift granules: something is painted
    uint64_t* hits;         // one bit a granule
    uint64_t* hit_summary;  // as summary: something was hit, and looked at
    uint64_t* expanded;     // one bit a granule, set at the start of a hit chunk that was widened
    uint64_t* news;         // as summary: something may have been hit that is not widened yet
  };
  void attach(const Tables& tables) { tables_ = tables; }

  const uint64_t* painted() const { return tables_.painted; }
  uint64_t* hits() const { return tables_.hits; }
  uint64_t* news() const { return tables_.news; }

  // False if any granule of the chunk was painted already: it was freed twice.
  bool paint(Run chunk) {
    uint64_t already = 0;
    bits::for_each_word(chunk.start, chunk.length, [&](uint64_t w, uint64_t m) {
      already |= tables_.painted[w] & m;
      tables_.painted[w] |= m;
    });
    set_blocks(tables_.summary, chunk);
    return already == 0;
  }

  // A painted chunk that was not hit.
  void unpaint(Run chunk) {
    bits::clear(tables_.painted, chunk.start, chunk.length);
    // Blocks that are shared with neighbours keep their bit: the next walk clears what is empty.
    const uint64_t first = align_up(chunk.start, Granules{1} << kSummaryShift) >> kSummaryShift;
    const uint64_t end = chunk.end() >> kSummaryShift;
    if (first < end) bits::clear(tables_.summary, first, end - first);
  }

  // Paints many chunks, most of which lie in one word of the bitmap, and many one after the other in the
  // same: that word is kept at hand, and written when another one's turn comes. Nobody else looks at what is
  // painted while one exists.
  class Brush {
   public:
    explicit Brush(Shadow& shadow) : shadow_(shadow) {}
    Brush(const Brush&) = delete;
    Brush& operator=(const Brush&) = delete;
    ~Brush() { put_down(); }

    // As Shadow::paint().
    NONREUSE_ALWAYS_INLINE bool paint(Run chunk) {
      const uint64_t word = chunk.start >> 6;
      const unsigned from = chunk.start & 63;
      if (word != word_) {
        put_down();
        word_ = word;
        bits_ = shadow_.tables_.painted[word];
      }
      if (from + chunk.length > 64) [[unlikely]]
        return paint_across(chunk);
      const uint64_t mask = bits::kAll >> (64 - chunk.length) << from;
      const bool clear = (bits_ & mask) == 0;
      bits_ |= mask;
      if (chunk.start >> kSummaryShift != block_) {
        block_ = chunk.start >> kSummaryShift;
        bits::set(shadow_.tables_.summary, block_, 1);
      }
      return clear;
    }

   private:
    static constexpr uint64_t kNone = ~uint64_t{0};

    NONREUSE_ALWAYS_INLINE void put_down() {
      if (word_ != kNone) shadow_.tables_.painted[word_] = bits_;
    }

    NONREUSE_NOINLINE bool paint_across(Run chunk) {
      put_down();
      const bool clear = shadow_.paint(chunk);
      bits_ = shadow_.tables_.painted[word_];
      return clear;
    }

    Shadow& shadow_;
    uint64_t word_ = kNone, bits_ = 0;
    uint64_t block_ = kNone;  // marked in the summary already
  };

  bool is_painted(Granule granule) const { return bits::test(tables_.painted, granule); }
  bool any_hit(Run chunk) const { return bits::any(tables_.hits, chunk.start, chunk.length); }

  // A word points at `granule`. True if this is news.
  bool hit(Granule granule) {
    if (!is_painted(granule) || bits::test(tables_.hits, granule)) return false;
    bits::set(tables_.hits, granule, 1);
    set_blocks(tables_.news, {granule, 1});
    return true;
  }

  // All of a chunk, with nothing left to widen.
  void hit_chunk(Run chunk) {
    bits::set(tables_.hits, chunk.start, chunk.length);
    set_blocks(tables_.hit_summary, chunk);
  }

  // Calls f(word_index) for every word of the bitmaps below `limit` in which something is painted.
  template <class F>
  void for_each_painted_word(Granule limit, F&& f) const {
    for_each_block(tables_.summary, limit, [&](uint64_t block) {
      for (uint64_t word = block << kWordsShift; word < (block + 1) << kWordsShift; ++word) {
        if (tables_.painted[word] != 0) f(word);
      }
    });
  }

  struct Held {
    uint64_t chunks = 0;
    Granules granules = 0;
  };

  struct LeaveNone {
    bool operator()(Run) const { return false; }
  };

  // Widens every hit to its chunk. `chunk_of(granule)` gives the painted chunk around a hit granule;
  // `content(chunk)` is called once for each hit chunk of a sweep and records what its content points at (a
  // program may have written pointers through a dangling one), which may make further chunks hit: true if it
  // did. May be called again after more was hit, and then looks only where something was: what is held for
  // long costs a stop nothing. Where chunk_of() has no answer (an empty run), the next call asks again, and
  // where leave(chunk) is true the next call looks at that chunk again.
  // Returns what is held by then.
  template <class ChunkOf, class Content, class Leave = LeaveNone>
  Held expand(Granule limit, ChunkOf&& chunk_of, Content&& content, Leave&& leave = {}) {
    for (bool more = true; more;) {
      more = false;
      Granule done = 0, left = 0;  // looked at, or left, up to here
      for_each_block(tables_.news, limit, [&](uint64_t block) {
        bits::clear(tables_.news, block, 1);  // first: what is widened here may hit more of it
        bits::set(tables_.hit_summary, block, 1);
        const Granule from = block << kSummaryShift;
        bool unknown = from < left;
        for (Granule at = done > from ? done : from; at < from + (Granule{1} << kSummaryShift);) {
          const uint64_t pending = tables_.hits[at >> 6] & bits::kAll << (at & 63);
          if (pending == 0) {
            at = (at | 63) + 1;
            continue;
          }
          at = align_down(at, 64) + static_cast<unsigned>(std::countr_zero(pending));
          const Run chunk = chunk_of(at++);
          unknown |= chunk.empty();
          if (chunk.empty()) continue;
          at = done = chunk.end();
          if (leave(chunk)) {
            unknown = true;
            left = done;
          } else {
            more |= widen(chunk, content);
          }
        }
        if (unknown) bits::set(tables_.news, block, 1);
      });
    }
    return held_;
  }

  // Calls release(word, mask) for the granules of every bitmap word that are painted and not hit, in address
  // order, and unpaints them. Hits are forgotten; hit chunks stay painted. Returns the granules unpainted.
  template <class Release>
  Granules release(Granule limit, Release&& release) {
    Granules total = 0;
    for_each_block(tables_.summary, limit, [&](uint64_t block) {
      const bool any_hit = bits::test(tables_.hit_summary, block) || bits::test(tables_.news, block);
      uint64_t left = 0;
      for (uint64_t word = block << kWordsShift; word < (block + 1) << kWordsShift; ++word) {
        const uint64_t painted = tables_.painted[word];
        if (painted == 0) continue;
        uint64_t hits = 0;
        if (any_hit && (hits = tables_.hits[word]) != 0) tables_.hits[word] = tables_.expanded[word] = 0;
        const uint64_t clear = painted & ~hits;
        left |= painted & hits;
        if (clear == 0) continue;
        tables_.painted[word] = painted & hits;
        total += bits::count(clear);
        release(word, clear);
      }
      if (left == 0) bits::clear(tables_.summary, block, 1);
      if (any_hit) {
        bits::clear(tables_.hit_summary, block, 1);
        bits::clear(tables_.news, block, 1);
      }
    });
    held_ = {};
    return total;
  }

  // Forgets the hits of a sweep that did not finish; everything stays painted.
  void forget_hits(Granule limit) {
    forget_hits_in(tables_.hit_summary, limit);
    forget_hits_in(tables_.news, limit);
  }
  // The same where the summaries of hits may be wrong, because who was writing them was killed or is
  // somewhere else: only what is painted is ever hit.
  void forget_all_hits(Granule limit) { forget_hits_in(tables_.summary, limit); }

 private:
  void forget_hits_in(const uint64_t* summary, Granule limit) {
    for_each_block(summary, limit, [&](uint64_t block) {
      for (uint64_t word = block << kWordsShift; word < (block + 1) << kWordsShift; ++word) {
        tables_.hits[word] = tables_.expanded[word] = 0;
      }
      bits::clear(tables_.hit_summary, block, 1);
      bits::clear(tables_.news, block, 1);
    });
    held_ = {};
  }

  static constexpr unsigned kWordsShift = kSummaryShift - 6;  // words of the bitmaps in a block

  static void set_blocks(uint64_t* summary, Run chunk) {
    const uint64_t first = chunk.start >> kSummaryShift, last = (chunk.end() - 1) >> kSummaryShift;
    bits::set(summary, first, last - first + 1);
  }

  template <class F>
  static void for_each_block(const uint64_t* summary, Granule limit, F&& f) {
    const uint64_t blocks = (limit + (uint64_t{1} << kSummaryShift) - 1) >> kSummaryShift;
    for (uint64_t block = 0; (block = bits::find_set(summary, block, blocks)) < blocks; ++block) f(block);
  }

  // True if what the chunk holds made others hit.
  template <class Content>
  bool widen(Run chunk, Content&& content) {
    if (bits::test(tables_.expanded, chunk.start)) return false;
    bits::set(tables_.expanded, chunk.start, 1);
    hit_chunk(chunk);
    ++held_.chunks;
    held_.granules += chunk.length;
    return content(chunk);
  }

  Tables tables_{};
  Held held_;  // widened so far in this sweep
};

}  // namespace nonreuse
