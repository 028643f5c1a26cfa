// The allocator: the only place that knows both the heap and the quarantine.
//
//   free pool ─take─▶ cached ─malloc─▶ in use ─free─▶ batched ─seal─▶ sealed ─sweep─▶ clear ─▶ free pool
//                  (one thread)                    (one thread)         └──▶ held ──▶ swept again
//
// Every function takes the calling thread's front; who finds it, and what happens in threads that have none,
// is the caller's affair (override/process_heap.cpp). Lock order: sweep, quarantine, heap, arena.
#pragma once

#include <cstring>

#include "base/options.hpp"
#include "base/pointers.hpp"
#include "base/report.hpp"
#include "base/stats_page.hpp"
#include "front/misuse.hpp"
#include "front/misuse_capability.hpp"
#include "front/statistics.hpp"
#include "front/thread_front.hpp"
#include "heap/heap.hpp"
#include "platform/attributes.hpp"
#include "platform/os.hpp"
#include "platform/probes.hpp"
#include "platform/spill.hpp"
#include "platform/zeroing.hpp"
#include "revoke/policy.hpp"
#include "revoke/quarantine.hpp"
#include "revoke/revoker.hpp"
#include "trace/recorder.hpp"
#include "trace/stacks.hpp"

namespace nonreuse {

enum class SweepResult : uint8_t {
  nothing,  // nothing waits in quarantine
  done,
  pending,  // under way beside the program; nothing was released yet
  retry,    // threads could not be stopped; nothing was released
  blind,    // roots cannot be seen; nothing was released
};

template <MemoryPlatform P, Revoker R>
class Allocator {
 public:
  using Pointers = PointersFor<P>;
  using Wild = typename Pointers::Wild;
  using Payload = typename Pointers::Payload;
  using Chunk = typename Pointers::Chunk;

  constexpr Allocator(P& platform, R& revoker)
      : pointers_(platform), space_(platform), heap_(space_), quarantine_(space_), revoker_(revoker) {}

  // Call once, by one thread. False: no address space; every allocation fails.
  bool init(const Options& options);
  Options& options() { return options_; }

  // ---- allocation. A null payload: out of memory ----------------------------------------------------
  Payload allocate(ThreadFront& front, size_t size);
  Payload allocate_aligned(ThreadFront& front, size_t alignment, size_t size);
  // Null, with the old chunk unchanged: out of memory.
  Payload reallocate(ThreadFront& front, Wild old, size_t size);
  void free(ThreadFront& front, Wild pointer, const char* call = "free");
  // Free where no front is to be had: the chunk is checked, and its addresses are spent.
  void abandon(Wild pointer, const char* call) { claim(pointer, call); }
  // Bytes from the start of the chunk that the program may use; stops the program for anything else.
  size_t usable_size(Wild pointer);

  // ---- quarantine -----------------------------------------------------------------------------------
  // Sweeps until all that was freed before the call was looked at.
  SweepResult revoke(ThreadFront& front);
  bool revoking() const {
    if constexpr (requires { revoker_.under_way(); }) {
      if (revoker_.under_way()) return true;
    }
    return revoking_.load(std::memory_order_relaxed);
  }

  // malloc_is_revoking(): where revocation can be switched off, whether it is on; else whether it is under
  // way.
  bool tells_revoking() const {
    if constexpr (requires { revoker_.enabled(); }) {
      return revoker_.enabled();
    } else {
      return revoking();
    }
  }

  // ---- threads --------------------------------------------------------------------------------------
  ThreadFront* make_front();               // nullptr: out of memory
  void give_up_front(ThreadFront* front);  // the thread ends: all it owns is found by others at once
  // Who waits for a sweep under its lock lets go of it from then on; before_fork() must follow.
  void announce_fork() { fork_waits_.store(true, std::memory_order_relaxed); }
  void before_fork();
  void after_fork_in_parent();
  void after_fork_in_child(ThreadFront* self);

  // ---- figures --------------------------------------------------------------------------------------
  void statistics(nonreuse_statistics& out);
  // Where statistics are published: static data, which is no root, and a shared file's page. Either may be
  // null.
  void attach_stats_pages(StatsPage* place, StatsPage* shared) {
    place_ = place;
    shared_page_ = shared;
  }
  StatsPage* shared_page() { return shared_page_; }
  void publish_statistics();
  void publish_gauges();
  void mallinfo(nonreuse_mallinfo2& out);
  bool trim(size_t pad);
  HeapCount count_live();  // by the tags; while other threads allocate, about so many
  // Walks the heap; the program stops with what is broken. Other threads must be quiet.
  void check();

  // What a program handed in, to be judged by the functions above.
  template <class T>
  Wild wild(const T& pointer) const {
    return pointers_.wild(pointer);
  }
  Heap<P>& heap() { return heap_; }
  AddressSpace<P>& space() { return space_; }

 private:
  static constexpr size_t kGivenBackMin = size_t{64} << 10;  // bytes of a chunk that is held for long
  static constexpr uint8_t kShort = 8;  // granules that free clears without a call: 128 bytes
  static constexpr Granules kRunMin = (4 * 1024) >> kGranuleShift;
  static constexpr Granules kRunMax = (32 * 1024) >> kGranuleShift;

  Address address(Granule granule) const { return base_ + (granule << kGranuleShift); }

  Chunk chunk_of(Run run) const { return Chunk(address(run.start), run); }
  Payload hand_out(Granule start, Granules length, size_t size);
  Payload allocate_slow(ThreadFront& front, size_t size);
  Payload allocate_direct(Granules length, Granules alignment, size_t size);
  Granules chunk_length(size_t size) const;
  bool carve_aligned(ThreadFront& front, Granules length, Granules alignment, Granule* start);
  bool refill(ThreadFront& front, Granules length);
  bool next_run(ThreadFront& front, Granules length);
  bool larger_hole(ThreadFront& front, Granules length);
  bool fetch(ThreadFront& front, Granules length);
  size_t fetch_runs(ThreadFront& front, Granules length, Granules wanted);
  void put_back_run(ThreadFront& front);
  void put_back(ThreadFront& front, Run hole);
  void return_leftovers(ThreadFront& front);
  void release_unowned(Run run);

  Run lookup(Wild pointer, const char* call);
  NONREUSE_NOINLINE Run claim(Wild pointer, const char* call);
  Run claim_chunk(Wild pointer, Granule start, const char* call);
  bool judged(const Wild& pointer, Run chunk, const char* call);
  void debug_revoke();
  [[noreturn]] NONREUSE_NOINLINE void reject(Wild pointer, const char* call);
  void free_other(ThreadFront& front, Wild pointer, const char* call);
  void put_away(ThreadFront& front, Run chunk);
  void put_away_large(Run chunk);
  void append(ThreadFront& front, Run chunk);
  NONREUSE_NOINLINE void append_to_new(ThreadFront& front, Run chunk);
  NONREUSE_NOINLINE void put_away_longer(ThreadFront& front, Address own, Run chunk);
  NONREUSE_NOINLINE void seal(ThreadFront& front);
  NONREUSE_NOINLINE void consider_sweep(bool hurried = false);
  void await_reader_for_fork();
  bool shrink(ThreadFront& front, Wild pointer, Run chunk, Granules length);
  bool lengthen(Wild pointer, Run chunk, Granules length);
  Payload move_pages(ThreadFront& front, Wild old, Run chunk, Granules length, size_t size);
  bool may_move_now();
  MoveResult move_or_copy(Address from, Address to, size_t bytes, size_t part);
  MoveResult move_to_new(Run chunk, Granules length, Run* run);

  SweepResult sweep_all();
  SweepResult sweep_pass(bool* more, bool wait = true);
  RevokeOutcome revoke_painted(bool wait, RevokeFigures& seen);
  void note_end(RevokeOutcome outcome, const RevokeFigures& seen);
  bool sweep_is_open() const;
  bool sweep_is_ready() const;
  uint64_t limit(uint64_t threshold) const;
  bool paint(bool* more);
  void release_clear(RevokeFigures& figures);
  void release_large(Run chunk);
  void spend_painted();
  void report_failure(RevokeOutcome outcome, uint64_t stood_ns);
  void freeze(bool still);
  template <class F>
  auto with_quarantine(F&& f);
  Run painted_chunk_at(Granule granule);
  LargePages pages_of(Run chunk);
  bool may_rest() const;
  void rest_held();
  bool give_back_held(Run chunk);
  uint64_t live_bytes() const;
  void wait_if_asked();
  void adopt(ThreadFront& front);
  void clear_torn_size(ThreadFront& front);
  void add_frees(nonreuse_statistics& out);

  // Read by every call, written at start only.
  Address base_ = 0;
  TagMap tags_;
  [[no_unique_address]] Pointers pointers_;
  Options options_{};

  alignas(64) AddressSpace<P> space_;
  alignas(64) Heap<P> heap_;
  alignas(64) Quarantine<P> quarantine_;
  Lock sweep_lock_;
  Shadow shadow_;
  R& revoker_;
  Policy policy_;
  Figures figures_;
  StatsPage* place_ = nullptr;
  StatsPage* shared_page_ = nullptr;
  ThreadFront* fronts_ = nullptr;  // under the quarantine's lock
  std::atomic<bool> revoking_{false};
  std::atomic<bool> calm_{false};        // threads wait in their slow paths until memory was read
  std::atomic<bool> fork_waits_{false};  // for the sweep lock
  std::atomic<bool> retry_said_{false}, blind_said_{false};
  bool frozen_ = false;        // by freeze(); under the sweep lock
  bool lost_allowed_ = false;  // a fork's child may have lost what other threads had in hand
  int owner_ = 0;              // the process this heap belongs to
  bool spent_ = false;  // pages of quarantined chunks were given back, and may have been written to since
  uint64_t cpu_at_last_sweep_ = 0;
  // Of the sweep under way; under the sweep lock.
  uint64_t sweep_begin_ns_ = 0, sweep_cpu_ns_ = 0;
  bool sweep_leaves_more_ = false;
};

}  // namespace nonreuse

#include "front/allocator_alloc.ipp"
#include "front/allocator_free.ipp"
#include "front/allocator_sweep.ipp"
#include "front/allocator_threads.ipp"
