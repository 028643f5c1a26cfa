// Heap: segments, what is known to be zero, and giving memory back. Included by heap.hpp.
#pragma once

#include <algorithm>

namespace nonreuse {

// ---- what is known to be zero -----------------------------------------------------------------------
// One bit for 4 KiB: set when the system delivered the block as zeroes and nobody has had it since. Bits of
// blocks that lie wholly inside a run belong to the run's owner; the words are shared, hence atomic.

template <MemoryPlatform P>
void Heap<P>::note_zero(Run run) {
  const Granule first = align_up(run.start, Granules{1} << kZeroBlockShift) >> kZeroBlockShift;
  const Granule end = run.end() >> kZeroBlockShift;
  if (first >= end) return;
  bits::for_each_word(first, end - first,
                      [&](uint64_t w, uint64_t m) { __atomic_fetch_or(zero_ + w, m, __ATOMIC_RELAXED); });
}

template <MemoryPlatform P>
void Heap<P>::forget_zero(Run run) {
  const Granule first = run.start >> kZeroBlockShift;
  const Granule end = (run.end() - 1) / (Granules{1} << kZeroBlockShift) + 1;
  bits::for_each_word(first, end - first, [&](uint64_t w, uint64_t m) {
    if (__atomic_load_n(zero_ + w, __ATOMIC_RELAXED) & m) __atomic_fetch_and(zero_ + w, ~m, __ATOMIC_RELAXED);
  });
}

template <MemoryPlatform P>
bool Heap<P>::known_zero(Run run) const {
  const Granule first = run.start >> kZeroBlockShift;
  const Granule end = (run.end() - 1) / (Granules{1} << kZeroBlockShift) + 1;
  bool known = true;
  bits::for_each_word(first, end - first, [&](uint64_t w, uint64_t m) {
    known = known && (__atomic_load_n(zero_ + w, __ATOMIC_RELAXED) & m) == m;
  });
  return known;
}

template <MemoryPlatform P>
bool Heap<P>::cleanse(Run run) {
  constexpr Granules kBlock = Granules{1} << kZeroBlockShift;
  bool dirty = false, absent = false;
  Run stretch{run.start, 0};  // of blocks that are alike: absent, or not known to be zero
  const auto settle = [&] {
    if (stretch.empty()) return;
    if (absent)
      bring(stretch, run);
    else
      dirty |= space_.platform().make_zero(space_.address(stretch.start), stretch.length << kGranuleShift);
  };
  for (Granule at = run.start; at < run.end();) {
    Granule next = align_down(at + kBlock, kBlock);
    if (next > run.end()) next = run.end();
    const Run piece{at, next - at};
    const bool zero = piece.length == kBlock && known_zero(piece);
    if (zero) forget_zero(piece);
    if (zero != absent) {
      settle();
      stretch = {at, 0};
      absent = zero;
    }
    stretch.length = next - stretch.start;
    at = next;
  }
  settle();
  return dirty;
}

// Memory for the absent part of a run, at once. Long runs are left to who touches them: not all of such a
// chunk need ever be used.
template <MemoryPlatform P>
void Heap<P>::bring(Run absent, Run run) {
  if (run.length > kBroughtMost) return;
  const Granule from = align_down(absent.start, page_granules());
  const Granule until = align_up(absent.end(), page_granules());
  space_.platform().populate(space_.address(from), (until - from) << kGranuleShift);
}

// ---- segments -----------------------------------------------------------------------------------------

// Commits more memory so that the top, or an indexed run, has `length` granules.
template <MemoryPlatform P>
bool Heap<P>::grow(Granules length) {
  const Granules pages = page_granules();
  const Granules here = align_up(length - (segment_end_ - top_), pages);
  Granules step = align_down(committed_ / 32, pages);
  step = step < kStep ? kStep : step > kStepFar ? kStepFar : step;
  step = align_up(step, pages);
  if (grow_into_vacancy(length)) return true;
  for (const Granules wanted : {here > step ? here : step, here}) {
    if (segment_end_ + wanted > space_.capacity()) continue;
    const CommitResult result = space_.commit_heap({segment_end_, wanted});
    if (result == CommitResult::done) {
      note_committed(wanted);
      add_to_top({segment_end_, wanted}, length);
      return true;
    }
    if (result == CommitResult::occupied) break;
    if (wanted == here) return false;
  }
  // Somebody else's mapping is in the way: leave it behind and go on further up.
  const Granules whole = align_up(length, pages);
  const Granules add = whole > step ? whole : step;
  for (Granule at = segment_end_ + kStepMax; at + add <= space_.capacity(); at += kStepMax) {
    const CommitResult result = space_.commit_heap({at, add});
    if (result == CommitResult::no_memory) return false;
    if (result != CommitResult::done) continue;
    retire_top();
    add_vacancy({segment_end_, at - segment_end_});
    set(top_, at);
    dirty_end_ = at;
    note_committed(add);
    add_to_top({at, add}, length);
    return true;
  }
  return false;
}

// Fresh memory, of which `length` granules were asked for: it is brought in at once, unless all of it may be
// one chunk, which need never be used whole. What is there is not told to be zero as what may be absent is.
// Under the lock: the time is that of a few faults.
template <MemoryPlatform P>
void Heap<P>::add_to_top(Run fresh, Granules length) {
  segment_end_ = fresh.end();
  if (length > kBroughtMost) return note_zero(fresh);
  space_.platform().populate(space_.address(fresh.start), fresh.length << kGranuleShift);
  if (fresh.end() > dirty_end_) dirty_end_ = fresh.end();
}

// What is left of the last segment becomes an ordinary free run.
template <MemoryPlatform P>
void Heap<P>::retire_top() {
  const Run rest{top_, segment_end_ - top_};
  if (rest.empty()) return;
  set(top_, segment_end_);
  bits::set(free_, rest.start, rest.length);
  index(rest);
}

// Maps a segment again that was released earlier, or as much of it as makes `length` with the free memory on
// either side. It becomes part of a free run.
template <MemoryPlatform P>
bool Heap<P>::grow_into_vacancy(Granules length) {
  size_t best = vacancy_count_;
  Granules best_size = 0, best_need = 0;
  for (size_t i = 0; i < vacancy_count_; ++i) {
    const Run vacancy = vacancies_[i];
    const Granules before = free_run_before(vacancy.start).length;
    const Granules size = before + vacancy.length + free_run_after(vacancy.end()).length;
    if (size < length || (best != vacancy_count_ && size >= best_size)) continue;
    best = i;
    best_size = size;
    best_need = length > before ? length - before : 1;
  }
  if (best == vacancy_count_) return false;
  const Run whole = vacancies_[best];
  Granules part = align_up(best_need > kSegmentMin ? best_need : kSegmentMin, page_granules());
  if (part > whole.length) part = whole.length;
  const Run run{whole.start, part};
  if (space_.commit_heap(run) != CommitResult::done) return false;
  vacancies_[best] = {run.end(), whole.length - part};
  if (vacancies_[best].empty()) vacancies_[best] = vacancies_[--vacancy_count_];
  note_zero(run);
  note_committed(part);
  set(in_use_, in_use_ + part);
  join(run);  // not release(): that might unmap it again at once
  return true;
}

// ---- giving back --------------------------------------------------------------------------------------

// The whole pages inside `run`.
inline Run whole_pages(Run run, Granules page) {
  const Granule first = align_up(run.start, page);
  const Granule end = align_down(run.end(), page);
  return first < end ? Run{first, end - first} : Run{};
}

template <MemoryPlatform P>
bool Heap<P>::discard(Run run) {
  const Run pages = whole_pages(run, page_granules());
  if (pages.empty() || known_zero(pages)) return false;
  if (!space_.platform().discard(space_.address(pages.start), pages.length << kGranuleShift)) return false;
  note_zero(pages);
  return true;
}

// The number of a vacancy that touches `run`; vacancy_count_ where there is none.
template <MemoryPlatform P>
size_t Heap<P>::vacancy_beside(Run run) const {
  const auto touches = [&](Run other) { return other.end() == run.start || run.end() == other.start; };
  return static_cast<size_t>(std::find_if(vacancies_, vacancies_ + vacancy_count_, touches) - vacancies_);
}

template <MemoryPlatform P>
bool Heap<P>::has_room_for_vacancy(Run run) const {
  return vacancy_count_ < kVacancies || vacancy_beside(run) < vacancy_count_;
}

// Neighbours become one, so that a request as long as both can be served. Without room it is forgotten.
template <MemoryPlatform P>
void Heap<P>::add_vacancy(Run run) {
  for (size_t i; (i = vacancy_beside(run)) < vacancy_count_;) {
    const Run other = vacancies_[i];
    run = {std::min(run.start, other.start), run.length + other.length};
    vacancies_[i] = vacancies_[--vacancy_count_];
  }
  if (vacancy_count_ < kVacancies) vacancies_[vacancy_count_++] = run;
}

// Unmaps the pages of a free run that is in no index; its edges stay free.
template <MemoryPlatform P>
bool Heap<P>::vacate(Run run) {
  const Run pages = whole_pages(run, page_granules());
  if (pages.length < kSegmentMin || !has_room_for_vacancy(pages)) return false;
  if (!space_.platform().uncommit(space_.address(pages.start), pages.length << kGranuleShift)) return false;
  bits::clear(free_, pages.start, pages.length);
  forget_zero(pages);
  set(committed_, committed_ - pages.length);
  add_vacancy(pages);
  if (pages.start > run.start) index({run.start, pages.start - run.start});
  if (pages.end() < run.end()) index({pages.end(), run.end() - pages.end()});
  return true;
}

// Where the pages known to be zero begin that the run ends with: the system has them already.
template <MemoryPlatform P>
Granule Heap<P>::zero_tail(Run run) const {
  const Granules page = page_granules();
  const Granule last = align_down(run.end(), page);
  Granule end = last;
  while (end >= run.start + page && known_zero({end - page, page})) end -= page;
  return end == last ? run.end() : end;
}

// Gives back about `most` granules of free runs, from their ends, for their starts are used first. Parts of a
// segment's size are unmapped, shorter ones lose their pages. One vacated run at a time: the index may not
// change under its own walk.
template <MemoryPlatform P>
bool Heap<P>::release_segments(Granules most) {
  const Granules least = kSegmentMin + 2 * page_granules();
  bool any = false;
  retire_victim();  // it may have grown long, too
  for (size_t rounds = 0; rounds < kVacancies && most >= least; ++rounds) {
    Run largest;
    index_.for_each(least, [&](Run run) {
      if (run.length > largest.length) largest = run;
    });
    if (largest.empty()) break;
    unindex(tags_.record_at_head(largest.start));
    Run front, part = largest;
    if (part.length >= most + kIndexedMin + page_granules()) {
      const Granule cut = align_up(largest.end() - most, page_granules());
      front = {largest.start, cut - largest.start};
      part = {cut, largest.end() - cut};
    }
    if (!vacate(part)) {
      index(largest);
      break;
    }
    if (!front.empty()) index(front);
    most -= part.length < most ? part.length : most;
    any = true;
  }
  index_.for_each(kDiscardMin, [&](Run run) {
    run.length = zero_tail(run) - run.start;
    if (run.length > most) run = {run.end() - most, most};
    if (run.length < kDiscardMin || !discard(run)) return;
    most -= run.length;
    any = true;
  });
  return any;
}

// What was free all the time since the last look is idle: a quarter of it goes back, so that what rests for
// long goes nearly all. What was used in between will be used again, and would cost a fault a page.
template <MemoryPlatform P>
void Heap<P>::periodic_release() {
  const Granules keep = kSegmentMin / 2;
  if (idle_ > keep) release_segments((idle_ - keep) / 4 + kDiscardMin);
  if (dirty_end_ > peak_top_ + keep) {
    const Granules part = (dirty_end_ - peak_top_ - keep) / 4 + kDiscardMin;
    const Granule end = align_up(dirty_end_ - (part < 8 * keep ? part : 8 * keep), page_granules());
    if (end < dirty_end_) discard({end, dirty_end_ - end});
    dirty_end_ = end;
  }
  idle_ = spare();
  peak_top_ = top_;
}

template <MemoryPlatform P>
bool Heap<P>::trim(size_t pad) {
  bool any = release_segments(kMaxChunk);
  index_.for_each(page_granules(), [&](Run run) { any |= discard(run); });
  const Granule keep = align_up(top_ + (pad >> kGranuleShift) + (pad % kGranule != 0), page_granules());
  if (keep < segment_end_) {
    const Run rest{keep, segment_end_ - keep};
    if (space_.platform().uncommit(space_.address(keep), rest.length << kGranuleShift)) {
      forget_zero(rest);
      set(committed_, committed_ - rest.length);
      segment_end_ = keep;
      any = true;
    }
  }
  if (dirty_end_ > segment_end_) dirty_end_ = segment_end_;
  idle_ = spare();
  return any;
}

}  // namespace nonreuse
