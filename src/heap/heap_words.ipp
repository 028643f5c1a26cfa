// Heap: what a sweep releases, a bitmap word at a time, and gathering it again in address order.
// Included by heap.hpp.
//
// A sweep frees thousands of chunks at once. Setting their bits word by word consolidates short neighbours
// for nothing; only where a word makes or meets a run long enough for the index is there more to do, and a
// word meets at most one such run at its lower edge and one at its upper. `joining_` is the long run under
// construction, which is in no index: its end is followed from word to word.
#pragma once

namespace nonreuse {

// The designated victim, if any, becomes an ordinary free run.
template <MemoryPlatform P>
void Heap<P>::retire_victim() {
  const Run victim = victim_;
  victim_ = {};
  if (!victim.empty()) index(victim);
}

template <MemoryPlatform P>
void Heap<P>::begin_release() {
  swept_runs_ = 0;
  retire_victim();
}

template <MemoryPlatform P>
void Heap<P>::release_word(uint64_t word, uint64_t freed) {
  const Granule low = word << 6, high = low + 64;
  if (!joining_.empty()) {
    joining_.length = bits::find_clear(free_, joining_.end(), top_) - joining_.start;
    if (joining_.end() < low) finish_join();
  }
  const uint64_t before = free_[word], now = before | freed;
  tags_.clear_word(low, freed);
  free_[word] = now;
  set(in_use_, in_use_ - bits::count(freed));
  swept_runs_ += bits::count(freed & ~(freed << 1));
  join_below(low, before, now);
  join_above(low, before, now);
  if (!joining_.empty() && joining_.end() < high) finish_join();
}

// The free run at the lower edge of a word, if it grew.
template <MemoryPlatform P>
void Heap<P>::join_below(Granule low, uint64_t before, uint64_t now) {
  const Granule old_end = low + static_cast<unsigned>(std::countr_one(before));
  const Granule end = low + static_cast<unsigned>(std::countr_one(now));
  if (end == old_end) return;
  if (!joining_.empty()) {
    joining_.length = end - joining_.start;
    return;
  }
  const bool goes_on = bits::test(free_, low - 1);
  // What was too short to be indexed is told by its bits alone: tags are not in any cache.
  Granule start = goes_on ? bits::run_start_before(free_, low, kIndexedMin) : low;
  if (old_end - start >= kIndexedMin) {
    if (tags_.is_run_tail(old_end - 1)) {
      const Run run = unindex(tags_.record_at_tail(old_end - 1));
      joining_ = {run.start, end - run.start};
      return;
    }
    start = bits::run_start_before(free_, low, low);
  }
  if (end - start >= kIndexedMin) joining_ = {start, end - start};
}

// The free run at the upper edge, if it grew.
template <MemoryPlatform P>
void Heap<P>::join_above(Granule low, uint64_t before, uint64_t now) {
  const Granule high = low + 64;
  const Granule old_start = high - static_cast<unsigned>(std::countl_one(before));
  const Granule start = high - static_cast<unsigned>(std::countl_one(now));
  if (start == old_start || high >= top_ || !bits::test(free_, high)) return;
  const Granule near = high + kIndexedMin < top_ ? high + kIndexedMin : top_;
  const Granules behind = bits::find_clear(free_, high, near) - high;
  const bool joined = start == low && !joining_.empty();  // the whole word is free, and being joined
  const Granule from =
      start == low && bits::test(free_, low - 1) ? bits::run_start_before(free_, low, kIndexedMin) : start;
  Run whole{from, high - from};
  if (high - old_start + behind >= kIndexedMin && tags_.is_run_head(old_start)) {
    whole.length = unindex(tags_.record_at_head(old_start)).end() - from;
  } else if (joined || whole.length + behind < kIndexedMin) {
    return;
  }
  if (joined) {
    joining_.length = whole.end() - joining_.start;
    return;
  }
  finish_join();
  joining_ = whole;
}

template <MemoryPlatform P>
void Heap<P>::finish_join() {
  if (joining_.empty()) return;
  const Run run{joining_.start, bits::find_clear(free_, joining_.end(), top_) - joining_.start};
  joining_ = {};
  index(run);
}

template <MemoryPlatform P>
void Heap<P>::end_release() {
  finish_join();
  lower_top(top_);
  const Granules holes = committed_ - top_size() - in_use_ - spare();  // in short free runs
  thrifty_ = holes > kManyHoles && holes > in_use_ / 4 * 3;
  rewind();
  // Several sweeps between two looks: what is used again after the next one is not idle, and would cost a
  // fault a page.
  constexpr uint64_t kMost = kMaxReleaseCheckRate / 4 + 1;
  consolidations_ += swept_runs_ < kMost ? swept_runs_ : kMost;
  if (consolidations_ < kMaxReleaseCheckRate) return;
  consolidations_ = 0;
  periodic_release();
}

// What lies from `start` on is part of the top from now on, and so is a free run that ends there.
template <MemoryPlatform P>
void Heap<P>::lower_top(Granule start) {
  const Run last = free_run_before(start);
  if (!last.empty()) {
    forget(last);
    bits::clear(free_, last.start, last.length);
  }
  set(top_, last.start);
}

// ---- gathering ----------------------------------------------------------------------------------------

template <MemoryPlatform P>
size_t Heap<P>::gather(Granules least, Granules wanted, uint64_t unwanted, Run* out, size_t most) {
  retire_victim();
  Granules got = 0;
  size_t count = 0;
  while (gather_at_ < top_ && count < most && got < wanted) {
    const Run run = next_run(gather_at_, 1);
    gather_at_ = run.end();
    if (run.length < least) {
      if (run.empty() || unwanted >> run.length & 1) continue;
      mark_taken(run);
      out[count++] = run;
    } else if (!left_whole(run)) {
      out[count] = take_part(run, wanted - got > least ? wanted - got : least);
      gather_at_ = out[count].end();
      got += out[count++].length;
    }
  }
  return count;
}

template <MemoryPlatform P>
size_t Heap<P>::gather_passed(Granules least, Granules wanted, Run* out, size_t most) {
  retire_victim();
  Granule& cursor = cursors_[cursor_of(least)];
  Granules got = 0;
  size_t count = 0;
  while (cursor < top_ && count < most && got < wanted) {
    const Run run = next_run(cursor, least);
    cursor = run.end();
    if (run.length < least || left_whole(run)) continue;
    out[count] = take_part(run, wanted - got > least ? wanted - got : least);
    cursor = out[count].end();
    got += out[count++].length;
  }
  return count;
}

// The front of a free run, about `wanted` granules of it. It ends where a block of known zeroes may begin.
template <MemoryPlatform P>
Run Heap<P>::take_part(Run run, Granules wanted) {
  wanted = align_up(run.start + wanted, Granules{1} << kZeroBlockShift) - run.start;
  forget(run);
  if (run.length >= wanted + kIndexedMin) {
    index({run.start + wanted, run.length - wanted});
    run.length = wanted;
  }
  mark_taken(run);
  return run;
}

// Sizes up to eight granules have a cursor each, larger ones share four an octave.
template <MemoryPlatform P>
constexpr size_t Heap<P>::cursor_of(Granules least) {
  if (least <= 8) return least - 1;
  const unsigned octave = static_cast<unsigned>(std::bit_width(least - 1)) - 4;  // 9..16: 0
  return 8 + 4 * octave + ((least - 1) >> (octave + 1) & 3);
}

// The first maximal free run that ends after `at`; empty, at the top, where there is none. Runs shorter than
// `least` may be passed over.
template <MemoryPlatform P>
Run Heap<P>::next_run(Granule at, Granules least) const {
  if (least >= kWholeByte) at = next_whole_byte(at);
  Granule start = bits::find_set(free_, at, top_);
  if (start >= top_) return {top_, 0};
  // It may begin before the cursor: something before it was released since.
  if (start == at && bits::test(free_, at - 1)) start = bits::run_start_before(free_, at, at);
  // A short hole is told by its bits alone: its tags are not in any cache.
  const Granule near = start + kIndexedMin < top_ ? start + kIndexedMin : top_;
  const Granule end = bits::find_clear(free_, start, near);
  return end < near ? Run{start, end - start} : free_run_after(start);
}

// The start of the next byte of the bitmap, from `at` on, whose granules are all free: a run of kWholeByte
// granules fills one. The top where there is none.
template <MemoryPlatform P>
Granule Heap<P>::next_whole_byte(Granule at) const {
  constexpr uint64_t kLow = 0x0101010101010101, kHigh = 0x8080808080808080;
  uint64_t used = ~free_[at >> 6] | ((uint64_t{1} << (at & 63)) - 1);
  for (uint64_t word = at >> 6; word << 6 < top_; used = ~free_[++word]) {
    // The lowest byte of `used` that is 0, and maybe more.
    const uint64_t whole = (used - kLow) & ~used & kHigh;
    if (whole != 0) return (word << 6) + static_cast<unsigned>(std::countr_zero(whole)) - 7;
  }
  return top_;
}

// A hole of at least `length` that no bin knows of, cut to size.
template <MemoryPlatform P>
Run Heap<P>::take_passed(Granules length) {
  Granule& cursor = cursors_[cursor_of(length)];
  while (cursor < top_) {
    const Run run = next_run(cursor, length);
    cursor = run.end();
    // Long runs are best fit's affair.
    if (run.length < length || run.length >= kIndexedMin || run.start == victim_.start) continue;
    cursor = run.start + length;
    return {run.start, length};
  }
  return {};
}

template <MemoryPlatform P>
void Heap<P>::rewind() {
  gather_at_ = first();
  for (Granule& cursor : cursors_) cursor = first();
}

}  // namespace nonreuse
