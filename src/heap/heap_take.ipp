// Heap: taking, releasing, coalescing. Included by heap.hpp.
#pragma once

namespace nonreuse {

template <MemoryPlatform P>
bool Heap<P>::init() {
  void* hints = space_.arena_allocate(SmallBins::kBytes);
  if (hints == nullptr) return false;
  bins_.attach(hints);
  tags_.attach(space_.tags());
  free_ = space_.free_bits();
  zero_ = space_.zero_bits();
  // The first page stays unused: the library keeps the address of granule 0, so a chunk there would always
  // look referenced.
  set(top_, first());
  segment_end_ = dirty_end_ = first();
  rewind();
  // Records now, so that free runs can still be found when memory is out. Without, they wait unindexed.
  space_.commit_records(1);
  return true;
}

// ---- taking -----------------------------------------------------------------------------------------

template <MemoryPlatform P>
Run Heap<P>::take(Granules length) {
  if (length == 0 || length > kMaxChunk) return {};
  Run run;
  if (length < SmallBins::kSizes) run = take_small(length);
  if (run.empty() && length < kIndexedMin) run = take_passed(length);
  if (run.empty()) run = take_indexed(length);
  if (run.empty()) run = take_top(length);
  if (run.empty() && length < kIndexedMin) {
    rewind();  // memory is out: what was released behind the cursor counts, too
    run = take_passed(length);
  }
  if (!run.empty()) mark_taken(run);
  return run;
}

// An exact hole; else the victim; else the next larger hole, whose rest becomes the victim.
template <MemoryPlatform P>
Run Heap<P>::take_small(Granules length) {
  if (const Run exact = pop_hole(length); !exact.empty()) return exact;
  if (bins_.overflowed() >> length & 1 || refind_at_[length] != 0) {
    refind_holes(length);
    if (const Run exact = pop_hole(length); !exact.empty()) return exact;
  }
  if (victim_.length >= length) return split(victim_, length);
  for (Granules larger; (larger = bins_.next_nonempty(length + 1)) != 0;) {
    if (const Run hole = pop_hole(larger); !hole.empty()) return split(hole, length);
  }
  return {};
}

// An old hint may name the run that has become the victim since: it is the victim no more.
template <MemoryPlatform P>
Run Heap<P>::pop_hole(Granules length) {
  const Run hole = bins_.pop(length, free_);
  if (!hole.empty() && hole.start == victim_.start) victim_ = {};
  return hole;
}

// Best fit among the victim and the indexed runs.
template <MemoryPlatform P>
Run Heap<P>::take_indexed(Granules length) {
  const RecordId best = index_.best_fit(length);
  if (victim_.length >= length && (best == 0 || victim_.length <= index_.run(best).length)) {
    return split(victim_, length);
  }
  return best == 0 ? Run{} : split(unindex(best), length);
}

template <MemoryPlatform P>
Run Heap<P>::take_top(Granules length) {
  if (segment_end_ - top_ < length) {
    if (!grow(length)) return {};
    if (segment_end_ - top_ < length) return take_indexed(length);  // a vacancy was filled instead
  }
  const Run run{top_, length};
  set(top_, run.end());
  if (top_ > dirty_end_) dirty_end_ = top_;
  return run;
}

// The front `length` granules of a free run that is in no index; the rest is the new victim where the
// request is small, or goes to its index.
template <MemoryPlatform P>
Run Heap<P>::split(Run from, Granules length) {
  const Run rest{from.start + length, from.length - length};
  if (from.start == victim_.start) {
    victim_ = rest.empty() ? Run{} : rest;
  } else if (!rest.empty()) {
    if (length < kIndexedMin)
      replace_victim(rest);
    else
      index(rest);
  }
  return {from.start, length};
}

template <MemoryPlatform P>
void Heap<P>::replace_victim(Run run) {
  if (run.length <= victim_.length) return index(run);
  const Run old = victim_;
  victim_ = run;
  if (!old.empty()) index(old);
}

template <MemoryPlatform P>
Run Heap<P>::take_aligned(Granules length, Granules alignment) {
  if (alignment <= 1) return take(length);
  if (alignment > kMaxChunk || length > kMaxChunk - alignment) return {};
  const Run run = take(length + alignment - 1);
  if (run.empty()) return {};
  const Granule base = space_.address(0) >> kGranuleShift;
  const Granule start = align_up(run.start + base, alignment) - base;
  if (start > run.start) release({run.start, start - run.start});
  const Run chunk{start, length};
  settle_edges(chunk);
  if (chunk.end() < run.end()) release({chunk.end(), run.end() - chunk.end()});
  return chunk;
}

template <MemoryPlatform P>
Run Heap<P>::take_any(Granules least, Granules wanted) {
  if (const RecordId id = index_.best_fit(least); id != 0) {
    const Run found = unindex(id);
    const Run run{found.start, found.length < wanted ? found.length : wanted};
    if (run.length < found.length) index({run.end(), found.length - run.length});
    mark_taken(run);
    return run;
  }
  const Run run = take_top(wanted);
  if (run.empty()) return take(least);
  mark_taken(run);
  return run;
}

template <MemoryPlatform P>
bool Heap<P>::extend(Run chunk, Granules length) {
  const Granules more = length - chunk.length;
  const Granule end = chunk.end();
  if (length > kMaxChunk) return false;
  if (end == top_) {
    if (segment_end_ - top_ < more) return false;
    set(top_, end + more);
    if (top_ > dirty_end_) dirty_end_ = top_;
    mark_taken({end, more});
    return true;
  }
  const Run behind = free_run_after(end);
  if (behind.length < more) return false;
  const bool victim = forget(behind);
  const Run rest{end + more, behind.length - more};
  if (victim && !rest.empty())
    victim_ = rest;
  else if (!rest.empty())
    index(rest);
  mark_taken({end, more});
  return true;
}

template <MemoryPlatform P>
void Heap<P>::mark_taken(Run run) {
  bits::clear(free_, run.start, run.length);
  set(in_use_, in_use_ + run.length);
  if (spare() < idle_) idle_ = spare();
  if (run.end() > peak_top_) peak_top_ = run.end();
  settle_edges(run);
}

// Zero-blocks that the run covers in part are shared with neighbours: settle them under the lock.
template <MemoryPlatform P>
void Heap<P>::settle_edges(Run run) {
  const Granule last = run.end() - 1;
  if (run.start & ((1u << kZeroBlockShift) - 1)) forget_zero({run.start, 1});
  if (run.end() & ((1u << kZeroBlockShift) - 1)) forget_zero({last, 1});
}

// ---- releasing --------------------------------------------------------------------------------------

// The maximal free run that ends at `at`, or begins there, whoever knows it; empty, at `at`, where there is
// none. A run in no index is a short one, or a long one for which no record was left.
template <MemoryPlatform P>
Run Heap<P>::free_run_before(Granule at) const {
  if (!bits::test(free_, at - 1)) return {at, 0};
  if (victim_.end() == at) return victim_;
  if (tags_.is_run_tail(at - 1)) return index_.run(tags_.record_at_tail(at - 1));
  const Granule start = bits::run_start_before(free_, at, at);
  return {start, at - start};
}
template <MemoryPlatform P>
Run Heap<P>::free_run_after(Granule at) const {
  if (at >= top_ || !bits::test(free_, at)) return {at, 0};
  if (victim_.start == at) return victim_;
  if (tags_.is_run_head(at)) return index_.run(tags_.record_at_head(at));
  return {at, bits::find_clear(free_, at, top_) - at};
}

// Makes whoever knows this maximal free run forget it. True: it was the victim.
template <MemoryPlatform P>
bool Heap<P>::forget(Run run) {
  if (run.empty()) return false;
  if (run.start == victim_.start) {
    victim_ = {};
    return true;
  }
  if (run.length >= kIndexedMin && tags_.is_run_head(run.start)) unindex(tags_.record_at_head(run.start));
  return false;
}

template <MemoryPlatform P>
void Heap<P>::release(Run run) {
  if (!join(run)) return;
  consolidations_ += 1 + run.length / kWeighty;
  if (consolidations_ < kMaxReleaseCheckRate) return;
  consolidations_ = 0;
  periodic_release();
}

// Frees a run and coalesces it with its neighbours. True where it had any.
template <MemoryPlatform P>
bool Heap<P>::join(Run run) {
  set(in_use_, in_use_ - run.length);
  if (run.end() == top_) {
    lower_top(run.start);
    return true;
  }
  const Run before = free_run_before(run.start), after = free_run_after(run.end());
  bool victim = forget(before);
  if (forget(after)) victim = true;
  bits::set(free_, run.start, run.length);
  const Run merged{before.start, before.length + run.length + after.length};
  if (victim)
    victim_ = merged;
  else
    index(merged);
  return merged.length != run.length;
}

template <MemoryPlatform P>
void Heap<P>::index(Run run) {
  if (run.length < SmallBins::kSizes) return bins_.push(run);
  if (run.length < kIndexedMin) {  // found by walking
    if (run.start < gather_at_) gather_at_ = run.start;
    return;
  }
  const RecordId id = index_.insert(run);
  if (id != 0)
    tags_.mark_run(run, id);
  else
    runs_without_record_ = true;
}

template <MemoryPlatform P>
Run Heap<P>::unindex(RecordId id) {
  const Run run = index_.run(id);
  index_.remove(id);
  tags_.unmark_run(run);
  return run;
}

// A bin that overflowed forgot some holes; walk on through the bitmap where the last walk stopped.
template <MemoryPlatform P>
void Heap<P>::refind_holes(Granules length) {
  Granule at = refind_at_[length];
  if (at == 0) bins_.forget_overflow(length);
  unsigned found = 0;
  while (at < top_ && found < SmallBins::kCapacity / 2) {
    const Granule start = bits::find_set(free_, at, top_);
    if (start >= top_) {
      at = top_;
      break;
    }
    at = bits::find_clear(free_, start, top_);
    if (at - start == length && start != victim_.start) {
      bins_.push({start, length});
      ++found;
    }
  }
  refind_at_[length] = at < top_ ? at : 0;
}

}  // namespace nonreuse
