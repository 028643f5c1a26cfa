// Heap: the walker that checks invariants I1 and I2. Included by heap.hpp.
#pragma once

namespace nonreuse {

// The first unmapped segment, or gap between segments, that ends after `at`; else one that starts at the top.
template <MemoryPlatform P>
Run Heap<P>::next_vacancy(Granule at) const {
  Run found{top_, 1};
  for (size_t i = 0; i < vacancy_count_; ++i) {
    if (vacancies_[i].end() > at && vacancies_[i].start < found.start) found = vacancies_[i];
  }
  return found;
}

// Chunks in use, by their tags. Under the lock.
template <MemoryPlatform P>
HeapCount Heap<P>::count_live() const {
  HeapCount count;
  for (Granule at = first(); at < top_;) {
    const Run vacancy = next_vacancy(at);
    for (; at < vacancy.start && at < top_; ++at) {
      if (!TagMap::is_live(tags_.load(at))) continue;
      ++count.chunks;
      count.bytes += tags_.length(at) << kGranuleShift;
    }
    at = vacancy.end();
  }
  return count;
}

template <MemoryPlatform P>
template <class Unknown>
const char* Heap<P>::check(Unknown&& unknown, Granule* where) const {
  Granules indexed = 0, used_total = 0;
  bool left_free = false;
  for (Granule at = first(); at < top_;) {
    *where = at;
    if (bits::test(free_, at)) {
      if (left_free) return "two free runs are neighbours";
      const Run run{at, bits::find_clear(free_, at, top_) - at};
      const bool victim = run == victim_;
      if (!victim && run.start == victim_.start && !victim_.empty()) return "the victim is not a whole run";
      if (tags_.is_run_head(at)) {
        if (victim) return "the victim is indexed";
        if (!(index_.run(tags_.record_at_head(at)) == run))
          return "an index record disagrees with the bitmap";
        if (!tags_.is_run_tail(run.end() - 1)) return "an indexed run has no tail mark";
        indexed += run.length;
      } else if (run.length >= kIndexedMin && !victim && !runs_without_record_) {
        return "a long free run is in no index";
      }
      at = run.end();
      left_free = true;
      continue;
    }
    left_free = false;
    const uint8_t tag = tags_.load(at);
    if (TagMap::is_live(tag) || TagMap::is_freed(tag)) {
      const Granules length = tags_.length(at);
      if (length == 0 || at + length > top_) return "a chunk reaches past the top";
      if (bits::any(free_, at, length)) return "a chunk overlaps free memory";
      used_total += length;
      at += length;
      continue;
    }
    if (tag != 0) return "a mark or digit without its head";
    const Run vacancy = next_vacancy(at);
    if (at >= vacancy.start) {
      at = vacancy.end();
      continue;
    }
    Granule end = at + 1;
    while (end < vacancy.start && tags_.load(end) == 0 && !bits::test(free_, end)) ++end;
    if (!unknown(Run{at, end - at})) return "memory belongs to nobody";
    used_total += end - at;
    at = end;
  }
  *where = top_;
  if (indexed != index_.granules()) return "the index holds runs that are not free";
  if (used_total != in_use_) return "chunk sizes do not add up to what is in use";
  return nullptr;
}

}  // namespace nonreuse
