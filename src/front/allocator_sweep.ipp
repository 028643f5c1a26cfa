// Allocator: sealing, sweeping, releasing. Included by allocator.hpp.
#pragma once

namespace nonreuse {

// Publishes the thread's batch and gives it a new one; sweeps where it is time to.
template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::seal(ThreadFront& front) {
  wait_if_asked();
  {
    LockGuard guard(quarantine_.lock());
    Batch* full = front.batch;
    if (full != nullptr && full->count.load(std::memory_order_relaxed) != 0) {
      Batch* fresh = quarantine_.take_batch_locked();
      if (fresh == nullptr) {
        // Out of memory: keep the full batch where a sweep can empty it in place.
        front.batch = nullptr;
      }
      trace::note(trace::Rare::seal, full->count.load(std::memory_order_relaxed) - full->taken + full->joined,
                  front.batch_bytes - full->bytes);
      quarantine_.seal_locked(full, front.batch_bytes - full->bytes);
      front.batch = fresh;
    } else if (full == nullptr) {
      front.batch = quarantine_.take_batch_locked();
    }
    front.batch_bytes = 0;
  }
  publish_gauges();
  consider_sweep();
  if (front.batch == nullptr) {
    sweep_all();
    LockGuard guard(quarantine_.lock());
    front.batch = quarantine_.take_batch_locked();
  }
}

template <MemoryPlatform P, Revoker R>
uint64_t Allocator<P, R>::live_bytes() const {
  const uint64_t used = heap_.in_use() << kGranuleShift;
  const uint64_t trapped = quarantine_.trapped_bytes() - quarantine_.held_trapped_bytes();
  const uint64_t waiting = quarantine_.pending_bytes() + quarantine_.held_bytes() + trapped;
  return used > waiting ? used - waiting : 0;
}

// A sweep that reads memory beside the program, with the painting fixed until it ends (docs/concurrency.md).
template <MemoryPlatform P, Revoker R>
bool Allocator<P, R>::sweep_is_open() const {
  if constexpr (requires { revoker_.ready(); }) return revoker_.under_way();
  return false;
}

template <MemoryPlatform P, Revoker R>
bool Allocator<P, R>::sweep_is_ready() const {
  if constexpr (requires { revoker_.ready(); }) return revoker_.ready();
  return false;
}

// It cannot keep up with what is written: who comes for memory, or with freed memory, waits until all was
// read. Not under the sweep lock, which fork needs.
template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::wait_if_asked() {
  if (!calm_.load(std::memory_order_relaxed)) [[likely]]
    return;
  if constexpr (requires { revoker_.await(0); }) {
    // Nobody reads for a process that was copied behind our back.
    if (os::process_id() != owner_) return;
    const auto waits = [&] {
      return calm_.load(std::memory_order_relaxed) && !fork_waits_.load(std::memory_order_relaxed) &&
             sweep_is_open() && !sweep_is_ready();
    };
    for (int look = 0; look < 1000 && waits(); ++look) revoker_.await(kReaderLook);
    const bool in_vain = waits();
    if (in_vain) calm_.store(false, std::memory_order_relaxed);
    consider_sweep(in_vain);
  }
}

// Quarantine that nobody may exceed without waiting for the sweep.
template <MemoryPlatform P, Revoker R>
uint64_t Allocator<P, R>::limit(uint64_t threshold) const {
  const uint64_t most = 2 * threshold;
  return options_.max != 0 && most > options_.max ? options_.max : most;
}

// A thread that wants to fork needs the sweep lock. It may wait for the caller as well (shared front): not
// longer than memory is read.
template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::await_reader_for_fork() {
  if constexpr (requires { revoker_.await(0); }) {
    while (fork_waits_.load(std::memory_order_relaxed) && sweep_is_open() && !sweep_is_ready())
      revoker_.await(kReaderLook);
  }
}

template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::consider_sweep(bool hurried) {
  if constexpr (requires { revoker_.leftover(); }) {
    if (revoker_.leftover() && sweep_lock_.try_lock()) {
      revoker_.tidy();
      sweep_lock_.unlock();
    }
  }
  // A process that has a copy of the sweep, or shares it (vfork), has no part in it.
  if (sweep_is_open() && os::process_id() != owner_) return;
  uint64_t threshold = 0;
  const auto due = [&] {
    threshold = policy_.threshold(options_, live_bytes());
    return sweep_is_open() || (quarantine_.pending_bytes() >= threshold && !policy_.must_wait(os::now_ns()));
  };
  if (!due()) return;
  // One sweeps, the others go on; only who outruns the sweep by far waits for it.
  const bool hurry = hurried || quarantine_.pending_bytes() >= limit(threshold);
  if (sweep_is_open() && !sweep_is_ready() && !hurry) return;
  if (!sweep_lock_.try_lock()) {
    if (!hurry || os::process_id() != owner_) return;
    sweep_lock_.lock();
  }
  bool more = false;
  if (due()) sweep_pass(&more, hurry);
  sweep_lock_.unlock();
}

template <MemoryPlatform P, Revoker R>
SweepResult Allocator<P, R>::revoke(ThreadFront&) {
  return sweep_all();
}

template <MemoryPlatform P, Revoker R>
SweepResult Allocator<P, R>::sweep_all() {
  if (base_ == 0) return SweepResult::nothing;
  SweepResult result = SweepResult::nothing;
  sweep_lock_.lock();
  bool again = sweep_is_open();  // painted before this call
  for (bool more = true; more;) {
    const SweepResult pass = sweep_pass(&more);
    if constexpr (requires { revoker_.await(0); }) {
      if (pass == SweepResult::pending) {
        // A thread that wants to fork needs the lock.
        sweep_lock_.unlock();
        await_reader_for_fork();
        sweep_lock_.lock();
        more = true;
        continue;
      }
    }
    if (pass != SweepResult::nothing) result = pass;
    if (pass != SweepResult::done) break;
    more = more || again;
    again = false;
  }
  sweep_lock_.unlock();
  return result;
}

// Paints what is sealed and what other threads have in open batches. False: nothing is painted.
template <MemoryPlatform P, Revoker R>
bool Allocator<P, R>::paint(bool* more) {
  typename Quarantine<P>::Painted painted;
  uint64_t chunks = 0;
  Granules granules = 0;
  {
    LockGuard guard(quarantine_.lock());
    painted = quarantine_.paint_locked(shadow_, options_.sweep_size);
    chunks = painted.chunks;
    granules = painted.granules;
    *more = options_.sweep_size != 0 && painted.chunks >= options_.sweep_size;
    for (ThreadFront* front = fronts_; front != nullptr && painted.twice.empty() && !*more;
         front = front->next) {
      if (front->batch == nullptr) continue;
      painted = quarantine_.paint_open_locked(shadow_, *front->batch);
      front->batch->bytes += painted.granules << kGranuleShift;
      chunks += painted.chunks;
      granules += painted.granules;
    }
  }
  if (!painted.twice.empty()) {
    const Address chunk = address(painted.twice.start);
    sweep_lock_.unlock();  // a handler of SIGABRT may go on using the heap
    misuse::stop("free", chunk, misuse::Found::freed_start, chunk, painted.twice.length << kGranuleShift);
  }
  figures_.swept_chunks.add(chunks);
  figures_.swept_bytes.add(granules << kGranuleShift);
  figures_.bits_painted.add(granules);
  return chunks != 0 || quarantine_.pending_bytes() != 0 || quarantine_.held_chunks() != 0;
}

// Under the sweep lock.
template <MemoryPlatform P, Revoker R>
SweepResult Allocator<P, R>::sweep_pass(bool* more, bool wait) {
  *more = false;
  // A handler of the program could move words about while memory is read, or leave by longjmp.
  const os::SignalsBlocked no_handlers;
  const uint64_t cpu_begin = os::thread_cpu_ns();
  if (!sweep_is_open()) {
    sweep_begin_ns_ = os::now_ns();
    sweep_cpu_ns_ = 0;
    if (!paint(&sweep_leaves_more_)) return SweepResult::nothing;
    trace::note(trace::Rare::sweep_begin, quarantine_.pending_bytes(), live_bytes());
    probes::note_sweep_begin(quarantine_.pending_bytes(), live_bytes());
  }
  *more = sweep_leaves_more_;
  revoking_.store(true, std::memory_order_relaxed);
  RevokeFigures seen;
  const RevokeOutcome outcome = revoke_painted(wait, seen);
  if (outcome == RevokeOutcome::cleared)
    release_clear(seen);
  else if (outcome != RevokeOutcome::pending)
    report_failure(outcome, seen.stood_ns);
  sweep_cpu_ns_ += os::thread_cpu_ns() - cpu_begin;
  if (outcome != RevokeOutcome::pending) note_end(outcome, seen);
  revoking_.store(false, std::memory_order_relaxed);  // one that is pending is under way in the revoker
  wipe_dead_frames();
  switch (outcome) {
    case RevokeOutcome::cleared:
      return SweepResult::done;
    case RevokeOutcome::pending:
      return SweepResult::pending;
    case RevokeOutcome::blind:
      return SweepResult::blind;
    case RevokeOutcome::retry:
      break;
  }
  return SweepResult::retry;
}

template <MemoryPlatform P, Revoker R>
RevokeOutcome Allocator<P, R>::revoke_painted(bool wait, RevokeFigures& seen) {
  // A process that shares our memory without being us (vfork) or was copied behind our back must not sweep:
  // it does not see the threads.
  if (!options_.sweep || os::process_id() != owner_) return RevokeOutcome::blind;
  static constexpr auto self = [](void* context) { return static_cast<Allocator*>(context); };
  const Address place = address_of(place_);
  RevokeRequest request{
      &shadow_,
      base_,
      heap_.top(),
      heap_.free_bits(),
      live_bytes(),
      space_.heap(),
      space_.tables(),
      {place, place + (place_ != nullptr ? sizeof(StatsPage) : 0)},
      [](void* context, Granule granule) { return self(context)->painted_chunk_at(granule); },
      [](void* context, Granule granule) { return self(context)->tags_.covering(granule, granule); },
      [](void* context, Run chunk) { return self(context)->pages_of(chunk); },
      [](void* context, bool still) { self(context)->freeze(still); },
      [](void* context) { return self(context)->fork_waits_.load(std::memory_order_relaxed); },
      [](void* context) { self(context)->calm_.store(true, std::memory_order_relaxed); },
      this,
      &options_,
      wait};
  return revoker_.revoke(request, seen);
}

template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::note_end(RevokeOutcome outcome, const RevokeFigures& seen) {
  const uint64_t cpu = sweep_cpu_ns_ + seen.reader_cpu_ns;
  const uint64_t cpu_end = os::process_cpu_ns();
  const uint64_t took = os::now_ns() - sweep_begin_ns_;
  if (outcome == RevokeOutcome::cleared) {
    policy_.note_sweep(options_, cpu, cpu_end - cpu_at_last_sweep_ + seen.reader_cpu_ns, seen.root_bytes,
                       live_bytes());
    policy_.note_cost(cpu + seen.faults_ns, seen.extra_ns);
    figures_.sweeps.add(1);
    figures_.sweep_total.add(took);
    figures_.sweep_max.at_least(took);
    figures_.sweep_times.add(took);
  }
  figures_.sweep_cpu.add(cpu);
  cpu_at_last_sweep_ = cpu_end;
  if (seen.pause_ns != 0) trace::note(trace::Rare::stop, seen.stop_begin_ns, seen.pause_ns);
  trace::note(trace::Rare::sweep_end, outcome == RevokeOutcome::cleared ? 1 : 0, quarantine_.held_chunks(),
              quarantine_.held_bytes(), seen.pause_ns);
  trace::note(trace::Rare::gauges, live_bytes(), quarantine_.pending_bytes(), quarantine_.held_bytes(),
              heap_.committed() << kGranuleShift);
  if (outcome == RevokeOutcome::cleared) stacks::note_sweep();
  calm_.store(false, std::memory_order_relaxed);
  probes::note_sweep_end(outcome == RevokeOutcome::cleared, quarantine_.held_chunks(),
                         quarantine_.held_bytes(), took);
  publish_statistics();
}

// What the revoker asks; only the sweeping thread calls these.

template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::freeze(bool still) {
  if (still) {
    quarantine_.lock().lock();
    heap_.lock().lock();
  } else {
    heap_.lock().unlock();
    quarantine_.lock().unlock();
  }
  frozen_ = still;
}

// Calls f() under the quarantine's lock.
template <MemoryPlatform P, Revoker R>
template <class F>
auto Allocator<P, R>::with_quarantine(F&& f) {
  if (frozen_) return f();
  LockGuard guard(quarantine_.lock());
  return f();
}

template <MemoryPlatform P, Revoker R>
Run Allocator<P, R>::painted_chunk_at(Granule granule) {
  const Run chunk = tags_.covering(granule, kLargeChunk);
  if (!chunk.empty()) return chunk;
  return with_quarantine([&] { return quarantine_.large_around_locked(granule); });
}

template <MemoryPlatform P, Revoker R>
LargePages Allocator<P, R>::pages_of(Run chunk) {
  if (chunk.length < kLargeChunk) return LargePages::present;
  return with_quarantine([&] { return quarantine_.pages_of_locked(chunk); });
}

// Where words at any offset count, those across the edge of what is absent would have to be put together.
template <MemoryPlatform P, Revoker R>
bool Allocator<P, R>::may_rest() const {
  return R::kHolds && !options_.unaligned;
}

// Large chunks that are held for long give their pages back. Under the sweep lock alone.
template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::rest_held() {
  if (!may_rest()) return;
  for (size_t at = 0;; ++at) {
    Run chunk;
    {
      LockGuard guard(quarantine_.lock());
      chunk = quarantine_.next_to_rest_locked(at);
    }
    if (chunk.empty()) return;
    if (!give_back_held(chunk)) continue;
    LockGuard guard(quarantine_.lock());
    quarantine_.note_given_back_locked(at);
  }
}

// Not where the program writes through a dangling pointer: it might look for what it wrote. False: nothing
// has changed.
template <MemoryPlatform P, Revoker R>
bool Allocator<P, R>::give_back_held(Run chunk) {
  const Run pages = whole_pages(chunk, space_.page_size() >> kGranuleShift);
  const size_t bytes = pages.length << kGranuleShift;
  const Address at = address(pages.start);
  return bytes >= kGivenBackMin && all_zero(space_.platform().pointer(at), bytes) &&
         space_.platform().discard(at, bytes);
}

// All at once, and only its head's tags are touched: word by word a chunk of many MiB would bring all the
// lines of its tags, which are clear, into the caches.
template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::release_large(Run chunk) {
  shadow_.unpaint(chunk);
  if (spent_) heap_.forget_zero(chunk);
  LockGuard guard(heap_.lock());
  tags_.clear({chunk.start, TagMap::kMostTags});
  heap_.release(chunk);
}

// What was painted and not hit goes back to the free pool, in address order.
template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::release_clear(RevokeFigures& seen) {
  Granules released = 0;
  {
    LockGuard guard(quarantine_.lock());
    quarantine_.settle_large_locked(shadow_, [&](const LargeChunk& large) {
      const size_t bytes = large.chunk.length << kGranuleShift;
      if (large.trapped() && !space_.platform().untrap(address(large.chunk.start), bytes)) {
        shadow_.hit_chunk(large.chunk);  // cannot be made usable now: the next sweep tries again
        return false;
      }
      // There may be pages again, which nobody can write to any more.
      if (large.pages == LargePages::given_back)
        heap_.give_back(whole_pages(large.chunk, space_.page_size() >> kGranuleShift));
      release_large(large.chunk);
      released += large.chunk.length;
      return true;
    });
  }
  rest_held();
  {
    LockGuard guard(heap_.lock());
    heap_.begin_release();
    released += shadow_.release(heap_.top(), [&](uint64_t word, uint64_t clear) {
      if (spent_) heap_.forget_zero({word << 6, 64});
      heap_.release_word(word, clear);
    });
    heap_.end_release();
  }
  quarantine_.settle_books(seen.held.chunks, seen.held.granules << kGranuleShift);
  figures_.released_bytes.add(released << kGranuleShift);
  trace::note(trace::Rare::release, released << kGranuleShift);
  probes::note_release(released << kGranuleShift);
  figures_.bits_cleared.add(released);
  figures_.root_bytes.add(seen.root_bytes);
  figures_.heap_bytes.add(seen.heap_bytes);
  figures_.again_bytes.add(seen.again_bytes);
  figures_.beside.add(seen.beside ? 1 : 0);
  if (seen.pause_ns != 0) {
    figures_.stops.add(1);
    figures_.pause_total.add(seen.pause_ns);
    figures_.pause_max.at_least(seen.pause_ns);
    figures_.pauses.add(seen.pause_ns);
  }
}

// Nothing may be released. Where that is for good, quarantined pages at least go back to the system.
template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::report_failure(RevokeOutcome outcome, uint64_t stood_ns) {
  figures_.abandoned.add(1);
  const uint64_t now = os::now_ns();
  policy_.note_failure(now, stood_ns);
  if (outcome == RevokeOutcome::retry) {
    if (!retry_said_.exchange(true)) {
      misuse::say(
          R::kHolds
              ? "a thread did not stop in time for a sweep; freed memory waits longer (this is said once)"
              : "the kernel refused to revoke; freed memory waits longer (this is said once)");
    }
    return;
  }
  spend_painted();
  if (options_.sweep && os::process_id() == owner_ && !blind_said_.exchange(true)) {
    misuse::say(R::kHolds
                    ? "this process may not look at its own memory map or threads; freed memory is not "
                      "reused, its pages are given back (this is said once)"
                    : "this kernel does not revoke; freed memory is not reused, its pages are given back "
                      "(this is said once)");
  }
}

template <MemoryPlatform P, Revoker R>
void Allocator<P, R>::spend_painted() {
  const Granules page = space_.page_size() >> kGranuleShift;
  Granules total = 0;
  Run run;
  spent_ = true;
  const auto give_back = [&](Run painted) {
    const Run pages = whole_pages(painted, page);
    if (!pages.empty()) heap_.give_back(pages);
  };
  shadow_.for_each_painted_word(heap_.top(), [&](uint64_t word) {
    uint64_t left = shadow_.painted()[word];
    total += bits::count(left);
    while (left != 0) {
      const unsigned from = static_cast<unsigned>(std::countr_zero(left));
      const unsigned length = static_cast<unsigned>(std::countr_one(left >> from));
      left = from + length >= 64 ? 0 : left & (bits::kAll << (from + length));
      const Granule start = (word << 6) + from;
      if (run.end() == start && !run.empty()) {
        run.length += length;
      } else {
        give_back(run);
        run = {start, length};
      }
    }
  });
  give_back(run);
  quarantine_.settle_books(quarantine_.sealed_chunks(), total << kGranuleShift);
}

}  // namespace nonreuse
