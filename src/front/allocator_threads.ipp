// Allocator: threads that come and go, fork, figures, the walker. Included by allocator.hpp.
#pragma once

#include <new>

namespace nonreuse {

template <MemoryPlatform P, Revoker R>
ThreadFront* Allocator<P, R>::make_front() {
  LockGuard guard(quarantine_.lock());
  quarantine_.prepare_locked();
  for (ThreadFront* front = fronts_; front != nullptr; front = front->next) {
    if (front->in_use) continue;
    front->in_use = true;
    front->exit_rounds = 0;
    front->batch = quarantine_.take_batch_locked();  // now, so that it can free when memory is out
    return front;
  }
  void* memory = space_.arena_allocate(sizeof(ThreadFront));
  if (memory == nullptr) return nullptr;
  auto* front = new (memory) ThreadFront;
  front->in_use = true;
  front->batch = quarantine_.take_batch_locked();
  front->next = fronts_;
  fronts_ = front;
  return front;
}

// Releases what of `run` is neither a chunk nor free already. Under the heap's lock.
template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::release_unowned(Run run) {
  for (Granule at = run.start; at < run.end();) {
    Granule end = at;
    while (end < run.end() && tags_.load(end) == 0 && !heap_.is_free(end)) ++end;
    if (end > at) heap_.release_quietly({at, end - at});  // the run may be named twice: nothing may move
    const uint8_t tag = end < run.end() ? tags_.load(end) : 0;
    at = TagMap::is_live(tag) || TagMap::is_freed(tag) ? end + tags_.length(end) : end + 1;
  }
}

// Of a chunk that was being carved when fork came, with a size that takes several tags to say, the first of
// these may be missing: then the others say nothing.
template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::clear_torn_size(ThreadFront& front) {
  const Run run{front.run_at, front.run_at < front.run_end ? front.run_end - front.run_at : 0};
  if (run.length <= kSmallMax || tags_.load(run.start) != 0) return;
  tags_.clear({run.start, TagMap::kMostTags});
}

// Takes over what a front owns whose thread is gone. After fork its thread may have been anywhere, and pages
// of it may be older than others; the tags decide what was handed out. What was between two places is lost
// to the child, never handed out twice.
template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::adopt(ThreadFront& front) {
  {
    LockGuard guard(heap_.lock());
    clear_torn_size(front);
    front.for_each_hole([&](Run hole) { release_unowned(hole); });
    for (uint8_t& cached : front.cached) cached = 0;
    front.gathered = 0;
    front.leftover_count = 0;
    front.set_run({});
    front.carved = 0;
  }
  LockGuard guard(quarantine_.lock());
  if (Batch* batch = front.batch; batch != nullptr) {
    const uint32_t count = batch->count.load(std::memory_order_relaxed);
    uint64_t bytes = 0;
    uint32_t kept = batch->taken;
    for (uint32_t i = batch->taken; i < count; ++i) {
      const BatchEntry entry = batch->entries[i];
      if (!TagMap::is_freed(tags_.load(entry.start()))) continue;
      batch->entries[kept++] = entry;
      bytes += entry.length() << kGranuleShift;
    }
    batch->count.store(kept, std::memory_order_relaxed);
    front.batch = nullptr;
    if (kept > batch->taken)
      quarantine_.seal_locked(batch, bytes);
    else
      quarantine_.give_batch_locked(batch);
  }
  front.batch_bytes = 0;
}

template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::give_up_front(ThreadFront* front) {
  adopt(*front);
  LockGuard guard(quarantine_.lock());
  front->in_use = false;
}

template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::before_fork() {
  announce_fork();
  sweep_lock_.lock();
  fork_waits_.store(false, std::memory_order_relaxed);
  quarantine_.lock().lock();
  heap_.lock().lock();
  space_.arena_lock().lock();
}

template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::after_fork_in_parent() {
  space_.arena_lock().unlock();
  heap_.lock().unlock();
  quarantine_.lock().unlock();
  sweep_lock_.unlock();
}

template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::after_fork_in_child(ThreadFront* self) {
  space_.arena_lock().reset();
  heap_.lock().reset();
  quarantine_.lock().reset();
  sweep_lock_.reset();
  calm_.store(false, std::memory_order_relaxed);
  revoker_.after_fork_in_child();
  owner_ = os::process_id();
  cpu_at_last_sweep_ = 0;
  for (ThreadFront* front = fronts_; front != nullptr; front = front->next) {
    if (front == self || !front->in_use) continue;
    lost_allowed_ = true;
    give_up_front(front);
  }
}

// ---- figures ------------------------------------------------------------------------------------------

template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::statistics(nonreuse_statistics& out) {
  out = {};
  out.version = 3;
  out.sweeps = figures_.sweeps.get();
  out.sweeps_abandoned = figures_.abandoned.get();
  out.swept_bytes = figures_.swept_bytes.get();
  out.swept_chunks = figures_.swept_chunks.get();
  add_frees(out);
  out.released_bytes = figures_.released_bytes.get();
  out.bits_painted = figures_.bits_painted.get();
  out.bits_cleared = figures_.bits_cleared.get();
  out.held_chunks = quarantine_.held_chunks();
  out.held_bytes = quarantine_.held_bytes();
  out.quarantined_bytes = quarantine_.pending_bytes();
  out.decommitted_bytes = quarantine_.trapped_bytes() + quarantine_.given_back_bytes();
  out.scanned_root_bytes = figures_.root_bytes.get();
  out.scanned_heap_bytes = figures_.heap_bytes.get();
  out.concurrent_sweeps = figures_.beside.get();
  out.reread_bytes = figures_.again_bytes.get();
  out.stops = figures_.stops.get();
  out.pause_ns_total = figures_.pause_total.get();
  out.pause_ns_max = figures_.pause_max.get();
  figures_.pauses.read(out.pause_histogram);
  figures_.sweep_times.read(out.sweep_histogram);
  out.sweep_ns_total = figures_.sweep_total.get();
  out.sweep_ns_max = figures_.sweep_max.get();
  out.sweep_cpu_ns_total = figures_.sweep_cpu.get();
  out.heap_bytes = heap_.in_use() << kGranuleShift;
  out.live_bytes = live_bytes();
  out.footprint_bytes = heap_.committed() << kGranuleShift;
  out.footprint_max = heap_.committed_max() << kGranuleShift;
}

// What was freed, also where it waits in batches that their threads have not sealed.
template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::add_frees(nonreuse_statistics& out) {
  if (base_ == 0) return;
  LockGuard guard(quarantine_.lock());
  out.frees = quarantine_.sealed_chunks();
  out.freed_bytes = quarantine_.sealed_bytes();
  for (ThreadFront* front = fronts_; front != nullptr; front = front->next) {
    const Batch* batch = front->batch;
    if (batch == nullptr) continue;
    const uint32_t count = batch->count.load(std::memory_order_acquire);
    out.frees += batch->joined;
    for (uint32_t i = batch->taken; i < count; ++i) {
      ++out.frees;
      out.freed_bytes += batch->entries[i].length() << kGranuleShift;
    }
  }
}

template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::publish_statistics() {
  if (place_ == nullptr && shared_page_ == nullptr) return;
  nonreuse_statistics now;
  statistics(now);
  for (StatsPage* page : {place_, shared_page_}) {
    if (page != nullptr) write_statistics(*page, now);
  }
}

// Between sweeps, where a thread comes for memory or brings some back. Everything is read and written one by
// one: no lock, and a few nanoseconds.
template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::publish_gauges() {
  for (StatsPage* page : {place_, shared_page_}) {
    if (page == nullptr) continue;
    write_gauges(*page, {heap_.in_use() << kGranuleShift, live_bytes(), quarantine_.pending_bytes(),
                         heap_.committed() << kGranuleShift, heap_.committed_max() << kGranuleShift});
  }
}

template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::mallinfo(nonreuse_mallinfo2& out) {
  out = {};
  if (base_ == 0) return;
  LockGuard guard(heap_.lock());
  out.arena = heap_.committed() << kGranuleShift;
  out.ordblks = heap_.indexed_runs();
  out.smblks = quarantine_.held_chunks();
  out.fsmblks = quarantine_.pending_bytes() + quarantine_.held_bytes();
  out.hblkhd = quarantine_.trapped_bytes();
  out.uordblks = live_bytes();
  out.fordblks = out.arena - (heap_.in_use() << kGranuleShift);
  out.keepcost = heap_.top_size() << kGranuleShift;
}

template <MemoryPlatform P, Revoker R>
bool Allocator<P, R>::trim(size_t pad) {
  if (base_ == 0) return false;
  LockGuard guard(heap_.lock());
  return heap_.trim(pad);
}

template <MemoryPlatform P, Revoker R>
HeapCount Allocator<P, R>::count_live() {
  if (base_ == 0) return {};
  LockGuard guard(heap_.lock());
  return heap_.count_live();
}

template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::check() {
  LockGuard guard(quarantine_.lock());
  LockGuard heap_guard(heap_.lock());
  const auto owned_by_a_front = [&](Run run) {
    Granules covered = 0;
    for (ThreadFront* front = fronts_; front != nullptr; front = front->next) {
      front->for_each_hole([&](Run hole) {
        const Granule from = hole.start > run.start ? hole.start : run.start;
        const Granule to = hole.end() < run.end() ? hole.end() : run.end();
        if (from < to) covered += to - from;
      });
    }
    return covered == run.length || lost_allowed_;
  };
  Granule where = 0;
  if (const char* broken = heap_.check(owned_by_a_front, &where); broken != nullptr) {
    Line line;
    line.text("nonreuse: the heap is broken at ").hex(address(where)).text(": ").text(broken).text("\n");
    os::write_error(line.c_str(), line.size());
    os::die();
  }
}

}  // namespace nonreuse
