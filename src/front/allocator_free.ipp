// Allocator: free's way, and realloc. Included by allocator.hpp.
#pragma once

namespace nonreuse {

template <MemoryPlatform P, Revoker R>
NONREUSE_ALWAYS_INLINE void Allocator<P, R>::free(ThreadFront& front, Wild pointer, const char* call) {
  const Address offset = pointer.address() - base_;
  const Granule start = offset >> kGranuleShift;
  if (kFreebufMode && start < heap_.top() && offset % kGranule == 0) [[likely]] {
    const uint8_t tag = tags_.load(start);
    if (TagMap::is_live_small(tag)) [[likely]] {
      if (!judged(pointer, {start, tag}, call)) return;
      if (!tags_.claim(start, tag, os::single_threaded())) [[unlikely]]
        reject(pointer, call);
      const Address own = pointers_.own(pointer, base_);
      if (tag > kShort) return put_away_longer(front, own, {start, tag});
      space_.platform().zero_short(own, size_t{tag} << kGranuleShift);
      append(front, {start, tag});
      debug_revoke();
      return;
    }
  }
  free_other(front, pointer, call);
}

// A claimed small chunk that is cleared by a call; apart, so that the shorter ones' way needs no frame.
template <MemoryPlatform P, Revoker R>
NONREUSE_NOINLINE void Allocator<P, R>::put_away_longer(ThreadFront& front, Address own, Run chunk) {
  space_.platform().zero(own, chunk.length << kGranuleShift);
  append(front, chunk);
  debug_revoke();
}

template <MemoryPlatform P, Revoker R>
NONREUSE_NOINLINE void Allocator<P, R>::append_to_new(ThreadFront& front, Run chunk) {
  seal(front);
  // Out of memory even for a batch, and nothing could be released: the chunk's address is spent.
  if (front.batch == nullptr || !front.batch->append(chunk)) return;
  front.batch_bytes += chunk.length << kGranuleShift;
}

template <MemoryPlatform P, Revoker R>
NONREUSE_ALWAYS_INLINE void Allocator<P, R>::append(ThreadFront& front, Run chunk) {
  Batch* const batch = front.batch;
  // A program that frees in the order of addresses paints as much at once.
  const bool joined = batch != nullptr && os::single_threaded() && batch->join(chunk);
  if (!joined && (batch == nullptr || !batch->append(chunk))) [[unlikely]]
    return append_to_new(front, chunk);
  front.batch_bytes += chunk.length << kGranuleShift;
  if (front.batch_bytes >= kBatchBytes) [[unlikely]]
    seal(front);
}

// Everything but a small live chunk.
template <MemoryPlatform P, Revoker R>
NONREUSE_NOINLINE void Allocator<P, R>::free_other(ThreadFront& front, Wild pointer, const char* call) {
  put_away(front, claim(pointer, call));
  debug_revoke();
}

// The live chunk that starts at `pointer`, now marked as freed. Its length is read under the claim: a realloc
// that raced may have changed it just before.
template <MemoryPlatform P, Revoker R>
Run Allocator<P, R>::claim(Wild pointer, const char* call) {
  return claim_chunk(pointer, lookup(pointer, call).start, call);
}

// As claim, of a chunk whose pointer was judged already.
template <MemoryPlatform P, Revoker R>
Run Allocator<P, R>::claim_chunk(Wild pointer, Granule start, const char* call) {
  const uint8_t tag = tags_.load(start);
  if (!TagMap::is_live(tag) || !tags_.claim(start, tag, false)) reject(pointer, call);
  return {start, tags_.length(start)};
}

// A claimed chunk of any size: its content goes, and it waits.
template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::put_away(ThreadFront& front, Run chunk) {
  if constexpr (!kFreebufMode) {
    space_.platform().zero(address(chunk.start), chunk.length << kGranuleShift);
    LockGuard guard(heap_.lock());
    tags_.clear({chunk.start, chunk.length > kSmallMax ? TagMap::kMostTags : 1});
    heap_.release(chunk);
    return;
  }
  if (chunk.length >= kLargeChunk) return put_away_large(chunk);
  space_.platform().zero(address(chunk.start), chunk.length << kGranuleShift);
  append(front, chunk);
}

template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::put_away_large(Run chunk) {
  const Address at = address(chunk.start);
  const size_t bytes = chunk.length << kGranuleShift;
  const size_t page = space_.page_size();
  LargePages pages = LargePages::present;
  if (bytes >= options_.unmap && at % page == 0 && bytes % page == 0) {
    if (space_.platform().trap(at, bytes)) {
      pages = LargePages::trapped;
      // Known to be zero only where nothing can be written through a dangling pointer.
      heap_.note_zero(chunk);
    } else if (!space_.platform().discard(at, bytes)) {
      space_.platform().zero(at, bytes);
    } else if (may_rest()) {
      pages = LargePages::given_back;
    }
  } else {
    space_.platform().zero(at, bytes);
  }
  const auto add = [&] {
    LockGuard guard(quarantine_.lock());
    return quarantine_.add_large_locked(chunk, pages);
  };
  // Out of memory for the list: a sweep makes room. Else the chunk's addresses are spent.
  if (!add() && sweep_all() == SweepResult::done) add();
  consider_sweep();
}

// The live chunk that starts at `pointer`; the program stops where there is none.
template <MemoryPlatform P, Revoker R>
Run Allocator<P, R>::lookup(Wild pointer, const char* call) {
  const Address offset = pointer.address() - base_;
  const Granule start = offset >> kGranuleShift;
  if (base_ == 0 || start >= heap_.top() || offset % kGranule != 0) reject(pointer, call);
  if (!TagMap::is_live(tags_.load(start))) reject(pointer, call);
  const Run chunk{start, tags_.length(start)};
  judged(pointer, chunk, call);
  return chunk;
}

// On a capability machine: whether the program hands in the whole capability that it was given, for `chunk`,
// which is live and starts where the pointer points. The program stops where it does not.
template <MemoryPlatform P, Revoker R>
NONREUSE_ALWAYS_INLINE bool Allocator<P, R>::judged(const Wild& pointer, Run run, const char* call) {
  if constexpr (Pointers::kCapabilities) {
    const Chunk chunk = chunk_of(run);
    const CapabilityFault fault = pointers_.judge(pointer, chunk);
    if (fault != CapabilityFault::none) {
      misuse::stop(call, chunk.address(), fault, chunk.bytes(), pointers_.length(pointer),
                   pointers_.usable(chunk));
    }
  }
  return true;
}

// The debugging setting of backends that have it: every free is followed by a revocation.
template <MemoryPlatform P, Revoker R>
NONREUSE_ALWAYS_INLINE void Allocator<P, R>::debug_revoke() {
  if constexpr (requires { revoker_.every_free(); }) {
    if (revoker_.every_free()) sweep_all();
  }
}

template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::reject(Wild pointer, const char* call) {
  using misuse::Found;
  const Address where = pointer.address();
  const Address offset = where - base_;
  const Granule granule = offset >> kGranuleShift;
  if (base_ == 0 || !space_.heap().contains(where)) misuse::stop(call, where, Found::foreign, 0, 0);
  if (offset % kGranule != 0) misuse::stop(call, where, Found::unaligned, 0, 0);
  if (granule >= heap_.top()) misuse::stop(call, where, Found::unallocated, 0, 0);
  const Run chunk = tags_.covering(granule, granule);
  if (chunk.empty()) misuse::stop(call, where, Found::unallocated, 0, 0);
  const bool freed = TagMap::is_freed(tags_.load(chunk.start));
  const Found found =
      chunk.start != granule ? (freed ? Found::freed_inside : Found::live_inside) : Found::freed_start;
  misuse::stop(call, where, found, address(chunk.start), chunk.length << kGranuleShift);
}

template <MemoryPlatform P, Revoker R>
size_t Allocator<P, R>::usable_size(Wild pointer) {
  return pointers_.usable(chunk_of(lookup(pointer, "malloc_usable_size")));
}

// ---- realloc ------------------------------------------------------------------------------------------

template <MemoryPlatform P, Revoker R>
auto Allocator<P, R>::reallocate(ThreadFront& front, Wild old, size_t size) -> Payload {
  const Run chunk = lookup(old, "realloc");
  if (size > PTRDIFF_MAX || size >= space_.heap().size()) return {};
  const Granules length = chunk_length(size);
  const size_t usable = pointers_.usable(chunk_of(chunk));
  const bool fits = pointers_.fits(chunk_of(chunk), size);
  if (length == chunk.length && fits) return hand_out(chunk.start, chunk.length, size);
  if (length < chunk.length && fits) {
    // Cutting off little costs more than it gives.
    const Granules saved = chunk.length - length;
    if (saved < 4 || saved < chunk.length / 8) return hand_out(chunk.start, chunk.length, size);
    if (Pointers::kMayShrink && shrink(front, old, chunk, length)) return hand_out(chunk.start, length, size);
  } else if (length > chunk.length && chunk.length > kSmallMax && fits && lengthen(old, chunk, length)) {
    return hand_out(chunk.start, length, size);
  }
  if (const Payload moved = move_pages(front, old, chunk, length, size)) return moved;
  const Payload moved = allocate(front, size);
  if (!moved) return {};
  pointers_.copy(moved, chunk_of(chunk), usable < size ? usable : size);
  free(front, old, "realloc");
  return moved;
}

// The end of the chunk becomes a freed chunk of its own. The claim keeps a racing free or realloc out.
template <MemoryPlatform P, Revoker R>
bool Allocator<P, R>::shrink(ThreadFront& front, Wild pointer, Run chunk, Granules length) {
  if (!(claim_chunk(pointer, chunk.start, "realloc") == chunk)) reject(pointer, "realloc");
  const Run tail{chunk.start + length, chunk.length - length};
  {
    LockGuard guard(heap_.lock());
    if (chunk.length > kSmallMax && length <= kSmallMax)
      tags_.clear({chunk.start + 1, TagMap::kMostTags - 1});
    tags_.set_freed(tail.start, tail.length);
    tags_.set_live(chunk.start, length);
  }
  put_away(front, tail);
  return true;
}

// Whole pages get another address, which spares copying and faults. Null, with the chunk unchanged, where
// that cannot be. No sweep looks on: it would miss what moves from where it has not been to where it was, and
// writes to pages that it knew elsewhere.
template <MemoryPlatform P, Revoker R>
auto Allocator<P, R>::move_pages(ThreadFront& front, Wild old, Run chunk, Granules length, size_t size)
    -> Payload {
  const size_t bytes = chunk.length << kGranuleShift, page = space_.page_size();
  if (Pointers::kCapabilities || !kFreebufMode || bytes < options_.unmap || length <= chunk.length) return {};
  if ((address(chunk.start) | bytes) % page != 0) return {};
  wait_if_asked();
  if (!(claim_chunk(old, chunk.start, "realloc") == chunk)) reject(old, "realloc");
  Run run;
  MoveResult result = MoveResult::refused;
  if (sweep_lock_.try_lock()) {
    if (may_move_now()) result = move_to_new(chunk, length, &run);
    sweep_lock_.unlock();
  }
  if (result == MoveResult::moved) {
    heap_.forget_zero({run.start, chunk.length});
    heap_.cleanse({run.start + chunk.length, length - chunk.length});
  }
  {
    LockGuard guard(heap_.lock());
    // What was lost is spent: never freed, never looked at.
    if (!run.empty()) tags_.set_live(run.start, run.length);
    if (result != MoveResult::moved) tags_.set_live(chunk.start, chunk.length);
  }
  if (result != MoveResult::moved) return {};
  publish_gauges();
  put_away(front, chunk);
  return hand_out(run.start, run.length, size);
}

// Under the sweep lock. Nor while what the last sweep tracked is being let go of.
template <MemoryPlatform P, Revoker R>
bool Allocator<P, R>::may_move_now() {
  if (sweep_is_open()) return false;
  if constexpr (requires { revoker_.leftover(); }) {
    if (revoker_.leftover()) return false;
  }
  return true;
}

// Under the sweep lock. The run is empty where nothing has changed.
template <MemoryPlatform P, Revoker R>
MoveResult Allocator<P, R>::move_to_new(Run chunk, Granules length, Run* run) {
  const Granules page = space_.page_size() >> kGranuleShift;
  const size_t first = space_.platform().movable(address(chunk.start), chunk.length << kGranuleShift);
  if (first == 0) return MoveResult::refused;
  {
    LockGuard guard(heap_.lock());
    *run = heap_.take_aligned(length, page);
  }
  if (run->empty()) return MoveResult::refused;
  return move_or_copy(address(chunk.start), address(run->start), chunk.length << kGranuleShift, first);
}

// A mapping at a time: earlier moves have left borders; of the first mapping `part` bytes can be moved. What
// cannot be moved is copied, so that there is no way back but from what is lost, and then there is one.
template <MemoryPlatform P, Revoker R>
MoveResult Allocator<P, R>::move_or_copy(Address from, Address to, size_t bytes, size_t part) {
  auto& platform = space_.platform();
  const auto copy = [&](Address target, Address source, size_t size) {
    memcpy(platform.pointer(target), platform.pointer(source), size);
  };
  for (size_t done = 0;;) {
    MoveResult result = MoveResult::refused;
    if (part == 0)
      part = bytes - done;
    else
      result = platform.move(from + done, to + done, part);
    if (result == MoveResult::lost) {
      copy(from, to, done);
      return result;
    }
    if (result == MoveResult::refused) copy(to + done, from + done, part);
    done += part;
    if (done == bytes) return MoveResult::moved;
    part = platform.movable(from + done, bytes - done);
  }
}

template <MemoryPlatform P, Revoker R>
bool Allocator<P, R>::lengthen(Wild pointer, Run chunk, Granules length) {
  // What is to trap at free must be whole pages from its start.
  const size_t bytes = length << kGranuleShift;
  if (bytes >= options_.unmap && address(chunk.start) % space_.page_size() != 0) return false;
  if (!(claim_chunk(pointer, chunk.start, "realloc") == chunk)) reject(pointer, "realloc");
  bool longer;
  {
    LockGuard guard(heap_.lock());
    longer = heap_.extend(chunk, length);
    if (longer) pointers_.forget_length(chunk_of(chunk));
    tags_.set_live(chunk.start, longer ? length : chunk.length);
  }
  if (longer) heap_.cleanse({chunk.end(), length - chunk.length});
  return longer;
}

}  // namespace nonreuse
