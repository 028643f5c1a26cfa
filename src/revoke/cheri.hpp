// The CHERI backend: the kernel takes every capability to what is painted; nothing is ever held.
//
// The order is the whole point: paint all runs; fence; read the epoch; let the kernel revoke until the epoch
// is cleared; unpaint; fence; only then return, after which the memory is handed out. Read the epoch earlier
// and a revocation that began before the painting would count; unpaint earlier and the kernel would pass over
// what it has not reached yet; unpaint later and it would revoke capabilities to the memory's next life.
//
// Synchronous, revoke() waits for all this. Asynchronous, two generations are in quarantine: the older is
// painted in the kernel's shadow while the kernel works, the younger only in the heap's; a call either finds
// that the older is not cleared yet, or releases it and paints the younger, and never waits. A request that
// must wait (malloc_revoke(), a heap that outruns the kernel) takes both generations together.
//
// What the heap's shadow has painted and the kernel's has not is the younger generation: no list of either
// exists. Thread-safety: the sweep lock; the figures are atomic.
#pragma once

#include <atomic>

#include "base/bits.hpp"
#include "revoke/cheri_kernel.hpp"
#include "revoke/cheri_setting.hpp"
#include "revoke/revoker.hpp"

namespace nonreuse {

template <CheriKernel K>
class CheriRevoker {
 public:
  static constexpr bool kHolds = false;

  explicit constexpr CheriRevoker(K& kernel) : kernel_(kernel) {}

  // ---- how it is used; set before the heap is, by one thread -------------------------------------------
  // Off: memory leaves quarantine without any revocation, as the system's own heap does where it is off.
  void set(const CheriSetting& setting) { setting_ = setting; }
  // What malloc_is_revoking() tells on CheriBSD.
  bool enabled() const { return setting_.enabled; }
  bool every_free() const { return setting_.every_free && setting_.enabled; }

  // True while an older generation is with the kernel.
  bool under_way() const { return under_way_.load(std::memory_order_relaxed); }

  // ---- Revoker -----------------------------------------------------------------------------------------
  RevokeOutcome revoke(const RevokeRequest& request, RevokeFigures& figures) {
    // Switched off while a generation is with the kernel, that one is still waited for: its paint must go.
    if (!setting_.enabled && !under_way()) return RevokeOutcome::cleared;
    if (!kernel_.ready()) return RevokeOutcome::blind;
    if (setting_.enabled && setting_.asynchronous && !request.wait) return go_on(request, figures);
    // Also what a generation under way has painted: it is cleared with the rest.
    begin(request);
    while (!cleared()) {
      if (!kernel_.revoke(RevocationPass::finish, epoch_)) return RevokeOutcome::retry;
    }
    set_under_way(false);
    for_each_run(
        request, [&](uint64_t word) { return request.shadow->painted()[word]; },
        [&](Address from, Address to) { kernel_.unpaint(from, to); });
    kernel_.fence_after_unpaint();
    return RevokeOutcome::cleared;
  }

  // The child has the parent's memory and shadow, but no revocation under way.
  void after_fork_in_child() { set_under_way(false); }

 private:
  bool cleared() { return kernel_.clears(kernel_.dequeue_epoch(), epoch_); }
  void set_under_way(bool on) { under_way_.store(on, std::memory_order_relaxed); }

  // Paints all that the heap's shadow has and labels it.
  void begin(const RevokeRequest& request) {
    for_each_run(
        request, [&](uint64_t word) { return request.shadow->painted()[word]; },
        [&](Address from, Address to) { kernel_.paint(from, to); });
    kernel_.fence_after_paint();
    epoch_ = kernel_.enqueue_epoch();
  }

  RevokeOutcome go_on(const RevokeRequest& request, RevokeFigures& figures) {
    if (!under_way()) {
      begin(request);
      set_under_way(true);
    }
    if (!cleared()) {
      if (!kernel_.revoke(RevocationPass::begin, epoch_)) return RevokeOutcome::retry;
      if (!cleared()) return RevokeOutcome::pending;
    }
    keep_younger(request, figures);
    for_each_run(
        request, [&](uint64_t word) { return older(request, word); },
        [&](Address from, Address to) { kernel_.unpaint(from, to); });
    kernel_.fence_after_unpaint();
    set_under_way(false);
    if (figures.held.granules != 0) {
      for_each_run(
          request, [&](uint64_t word) { return request.shadow->hits()[word]; },
          [&](Address from, Address to) { kernel_.paint(from, to); });
      kernel_.fence_after_paint();
      epoch_ = kernel_.enqueue_epoch();
      set_under_way(true);
      kernel_.revoke(RevocationPass::begin, epoch_);  // where refused, the next call tries again
    }
    return RevokeOutcome::cleared;
  }

  // Marks the younger generation as hit, so that it stays painted and is not released.
  void keep_younger(const RevokeRequest& request, RevokeFigures& figures) {
    for_each_run(
        request,
        [&](uint64_t word) {
          return request.shadow->painted()[word] & ~kernel_.painted(address(request, word << 6));
        },
        [&](Address from, Address to) {
          const Run run{(from - request.base) >> kGranuleShift, (to - from) >> kGranuleShift};
          request.shadow->hit_chunk(run);
          figures.held.granules += run.length;
          // Runs are counted as chunks: nobody knows where one ends without asking for each granule.
          ++figures.held.chunks;
        });
  }

  static uint64_t older(const RevokeRequest& request, uint64_t word) {
    return request.shadow->painted()[word] & ~request.shadow->hits()[word];
  }

  static Address address(const RevokeRequest& request, Granule granule) {
    return request.base + (granule << kGranuleShift);
  }

  // Calls f(begin, end) for every maximal run of granules whose bits `bits_of(word)` has set.
  template <class BitsOf, class F>
  static void for_each_run(const RevokeRequest& request, BitsOf&& bits_of, F&& f) {
    Run run;
    const auto flush = [&] {
      if (!run.empty()) f(address(request, run.start), address(request, run.end()));
    };
    request.shadow->for_each_painted_word(request.top, [&](uint64_t word) {
      for (uint64_t left = bits_of(word); left != 0;) {
        const unsigned from = static_cast<unsigned>(std::countr_zero(left));
        const unsigned length = static_cast<unsigned>(std::countr_one(left >> from));
        left = from + length >= 64 ? 0 : left & (bits::kAll << (from + length));
        const Granule start = (word << 6) + from;
        if (!run.empty() && run.end() == start) {
          run.length += length;
          continue;
        }
        flush();
        run = {start, length};
      }
    });
    flush();
  }

  K& kernel_;
  RevocationEpoch epoch_ = 0;  // of what is under way
  std::atomic<bool> under_way_{false};
  CheriSetting setting_;
};

}  // namespace nonreuse
