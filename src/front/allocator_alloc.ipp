// Allocator: malloc's way. Included by allocator.hpp.
#pragma once

#include <algorithm>

namespace nonreuse {

template <MemoryPlatform P, Revoker R>
bool Allocator<P, R>::init(const Options& options) {
  options_ = options;
  os::default_stack_bytes();  // as the limits are now, before the program changes them
  owner_ = os::process_id();
  if (!space_.init() || !heap_.init()) return false;
  base_ = space_.address(0);
  pointers_.attach(space_.platform());
  tags_ = heap_.tags();
  shadow_.attach({space_.shadow_bits(), space_.summary_bits(), space_.hit_bits(), space_.hit_summary_bits(),
                  space_.expanded_bits(), space_.news_bits()});
  return true;
}

// Chunks whose pages are to be given back at free are whole pages.
template <MemoryPlatform P, Revoker R>
Granules Allocator<P, R>::chunk_length(size_t size) const {
  const Granules length = pointers_.granules_for(size);
  if ((length << kGranuleShift) < options_.unmap) return length;
  return align_up(length, space_.page_size() >> kGranuleShift);
}

template <MemoryPlatform P, Revoker R>
auto Allocator<P, R>::hand_out(Granule start, Granules length, size_t size) -> Payload {
  return pointers_.payload(chunk_of({start, length}), size);
}

template <MemoryPlatform P, Revoker R>
NONREUSE_ALWAYS_INLINE auto Allocator<P, R>::allocate(ThreadFront& front, size_t size) -> Payload {
  const Granules length = pointers_.granules_for(size);
  if (length <= kSmallMax && kFreebufMode) [[likely]] {
    if (const uint8_t cached = front.cached[length]; cached != 0) [[likely]] {
      const Granule start = front.cache(length)[cached - 1];
      tags_.set_live_small(start, length);
      in_this_order();
      front.cached[length] = static_cast<uint8_t>(cached - 1);
      return hand_out(start, length, size);
    }
    if (front.run_end - front.run_at >= length) [[likely]] {
      const Granule start = front.run_at;
      tags_.set_live_small(start, length);
      in_this_order();
      front.run_at = start + length;
      return hand_out(start, length, size);
    }
  }
  return allocate_slow(front, size);
}

template <MemoryPlatform P, Revoker R>
NONREUSE_NOINLINE auto Allocator<P, R>::allocate_slow(ThreadFront& front, size_t size) -> Payload {
  if (size > PTRDIFF_MAX || size >= space_.heap().size()) return {};
  const Granules length = chunk_length(size);
  wait_if_asked();
  if (length <= kSmallMax && kFreebufMode) {
    if (refill(front, length)) {
      publish_gauges();
      return allocate(front, size);
    }
    if (revoke(front) == SweepResult::done && refill(front, length)) return allocate(front, size);
    return {};
  }
  // Longer than what caches hold, but part of the run that the thread has anyway.
  if (kFreebufMode && length < kIndexedMin && front.run_end - front.run_at >= length &&
      pointers_.alignment_for(size, 1) == 1) {
    const Granule start = front.run_at;
    tags_.set_live(start, length);
    in_this_order();
    front.run_at = start + length;
    return hand_out(start, length, size);
  }
  const Granules alignment =
      (length << kGranuleShift) >= options_.unmap ? space_.page_size() >> kGranuleShift : 1;
  const Payload payload = allocate_direct(length, alignment, size);
  if (payload || !kFreebufMode) return payload;
  // Out of memory: what is quarantined may be had back.
  return revoke(front) == SweepResult::done ? allocate_direct(length, alignment, size) : Payload{};
}

// From the free pool, without caches.
template <MemoryPlatform P, Revoker R>
auto Allocator<P, R>::allocate_direct(Granules length, Granules alignment, size_t size) -> Payload {
  Run run;
  {
    LockGuard guard(heap_.lock());
    run = heap_.take_aligned(length, pointers_.alignment_for(size, alignment));
    if (!run.empty()) tags_.set_live(run.start, run.length);
  }
  if (run.empty()) return {};
  heap_.cleanse(run);
  publish_gauges();
  return hand_out(run.start, run.length, size);
}

// Makes the fast path succeed for `length`. False: out of memory.
template <MemoryPlatform P, Revoker R>
bool Allocator<P, R>::refill(ThreadFront& front, Granules length) {
  put_back_run(front);
  return next_run(front, length) || larger_hole(front, length) || fetch(front, length);
}

// The rest of the run to the cache of its size.
template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::put_back_run(ThreadFront& front) {
  const Run rest{front.run_at, front.run_end - front.run_at};
  if (!rest.empty()) put_back(front, rest);
  front.set_run({});
}

template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::put_back(ThreadFront& front, Run hole) {
  if (front.keep(hole)) return;
  if (front.leftover_count == ThreadFront::kLeftovers) {
    LockGuard guard(heap_.lock());
    return_leftovers(front);
  }
  front.leftovers[front.leftover_count] = hole;
  in_this_order();
  ++front.leftover_count;
  in_this_order();
}

// Under the heap's lock.
template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::return_leftovers(ThreadFront& front) {
  while (front.leftover_count > 0) heap_.release(front.leftovers[--front.leftover_count]);
}

// The next gathered run that is long enough; shorter ones go to the caches of their sizes.
template <MemoryPlatform P, Revoker R>
bool Allocator<P, R>::next_run(ThreadFront& front, Granules length) {
  while (front.gathered != 0) {
    const Run run = front.runs[front.gathered - 1];
    --front.gathered;
    in_this_order();
    if (run.length >= length) {
      front.set_run(run);
      return true;
    }
    put_back(front, run);
  }
  return false;
}

// The smallest larger cached hole, to carve from.
template <MemoryPlatform P, Revoker R>
bool Allocator<P, R>::larger_hole(ThreadFront& front, Granules length) {
  for (Granules larger = length + 1; larger <= kSmallMax; ++larger) {
    if (front.cached[larger] == 0) continue;
    const Granule start = front.cache(larger)[--front.cached[larger]];
    in_this_order();
    front.set_run({start, larger});
    return true;
  }
  return false;
}

// From the free pool: what is free in address order, so that chunks allocated together lie together; holes
// that are too short fill the caches of their sizes. When all of it was passed since the last sweep, a long
// run or fresh memory.
template <MemoryPlatform P, Revoker R>
bool Allocator<P, R>::fetch(ThreadFront& front, Granules length) {
  Granules wanted = front.carved / 8;
  wanted = wanted < kRunMin ? kRunMin : wanted > kRunMax ? kRunMax : wanted;
  do {
    const size_t count = fetch_runs(front, length, wanted);
    if (count == 0) return false;
    // Lowest address last: runs are popped from the end.
    std::reverse(front.runs, front.runs + count);
    for (size_t i = count; i-- > 0;) {
      heap_.cleanse(front.runs[i]);
      front.carved += front.runs[i].length;
    }
    in_this_order();
    front.gathered = static_cast<uint8_t>(count);
  } while (!next_run(front, length));
  return true;
}

template <MemoryPlatform P, Revoker R>
size_t Allocator<P, R>::fetch_runs(ThreadFront& front, Granules length, Granules wanted) {
  const uint64_t unwanted = front.well_stocked();
  LockGuard guard(heap_.lock());
  return_leftovers(front);
  size_t count = heap_.gather(length, wanted, unwanted, front.runs, ThreadFront::kRuns);
  if (count == 0) count = heap_.gather_passed(length, wanted, front.runs, ThreadFront::kRuns);
  if (count != 0) return count;
  front.runs[0] = heap_.take_any(length, wanted);
  if (!front.runs[0].empty()) return 1;
  heap_.rewind();  // memory is out: what was released behind the cursors counts, too
  return heap_.gather_passed(length, wanted, front.runs, ThreadFront::kRuns);
}

// ---- aligned ----------------------------------------------------------------------------------------

template <MemoryPlatform P, Revoker R>
auto Allocator<P, R>::allocate_aligned(ThreadFront& front, size_t alignment, size_t size) -> Payload {
  if (alignment <= kGranule) return allocate(front, size);
  if (size > PTRDIFF_MAX || alignment > PTRDIFF_MAX / 2 || size >= space_.heap().size()) return {};
  const Granules length = chunk_length(size);
  Granules step = alignment >> kGranuleShift;
  if (kFreebufMode && length <= kSmallMax) {
    Granule start;
    if (carve_aligned(front, length, step, &start)) return hand_out(start, length, size);
  }
  const Granules page = space_.page_size() >> kGranuleShift;
  if ((length << kGranuleShift) >= options_.unmap && step < page) step = page;
  const Payload payload = allocate_direct(length, step, size);
  if (payload || !kFreebufMode) return payload;
  return revoke(front) == SweepResult::done ? allocate_direct(length, step, size) : Payload{};
}

// Small alignments out of the thread's run; the padding goes to the cache of its size.
template <MemoryPlatform P, Revoker R>
bool Allocator<P, R>::carve_aligned(ThreadFront& front, Granules length, Granules alignment, Granule* start) {
  const Granule base = base_ >> kGranuleShift;
  const Granule at = align_up(front.run_at + base, alignment) - base;
  const Granules padding = at - front.run_at;
  if (front.run_end < front.run_at + padding + length || padding > kSmallMax) return false;
  if (padding != 0) {
    if (front.cached[padding] == cache_capacity(padding)) return false;
    front.cache(padding)[front.cached[padding]] = front.run_at;
    front.run_at = at;
    in_this_order();
    ++front.cached[padding];
  }
  tags_.set_live_small(at, length);
  in_this_order();
  front.run_at = at + length;
  *start = at;
  return true;
}

}  // namespace nonreuse
