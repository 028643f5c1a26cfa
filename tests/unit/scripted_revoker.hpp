// A backend that sees nothing: the test says what each revocation ends with and what is still pointed to.
#pragma once

#include <deque>
#include <functional>
#include <set>
#include <vector>

#include "revoke/revoker.hpp"

namespace nonreuse {

class ScriptedRevoker {
 public:
  static constexpr bool kHolds = true;

  // ---- the script ---------------------------------------------------------------------------------------
  std::deque<RevokeOutcome> outcomes;  // of the next calls; when used up, `cleared`
  std::set<uintptr_t> pointers;        // addresses that "words" hold: their chunks are hit
  // Words stored in hit chunks: a hit on the chunk around `first` makes `second` a pointer, too.
  std::vector<std::pair<uintptr_t, uintptr_t>> stored;
  std::function<void(const RevokeRequest&)> during;  // called at each revocation, before anything is hit
  uint64_t pause_ns = 0;

  // ---- what happened ------------------------------------------------------------------------------------
  uint64_t calls = 0;
  uint64_t forks = 0;
  Shadow::Held held;

  // ---- Revoker ------------------------------------------------------------------------------------------
  RevokeOutcome revoke(const RevokeRequest& request, RevokeFigures& figures) {
    ++calls;
    request.freeze(request.context, true);
    const RevokeOutcome outcome = revoke_frozen(request, figures);
    request.freeze(request.context, false);
    return outcome;
  }
  void after_fork_in_child() { ++forks; }

 private:
  RevokeOutcome revoke_frozen(const RevokeRequest& request, RevokeFigures& figures) {
    if (during) during(request);
    RevokeOutcome outcome = RevokeOutcome::cleared;
    if (!outcomes.empty()) {
      outcome = outcomes.front();
      outcomes.pop_front();
    }
    if (outcome != RevokeOutcome::cleared) return outcome;
    for (const uintptr_t pointer : pointers) mark(request, pointer);
    held = request.shadow->expand(
        request.top, [&](Granule granule) { return request.chunk_at(request.context, granule); },
        [&](Run chunk) {
          bool news = false;
          for (const auto& [place, pointer] : stored) {
            const Granule at = (place - request.base) >> kGranuleShift;
            if (at >= chunk.start && at < chunk.end()) news |= mark(request, pointer);
          }
          return news;
        });
    figures.held = held;
    figures.pause_ns = pause_ns;
    return RevokeOutcome::cleared;
  }

  static bool mark(const RevokeRequest& request, uintptr_t pointer) {
    const Granule granule = (pointer - request.base) >> kGranuleShift;
    return granule < request.top && request.shadow->hit(granule);
  }
};

static_assert(Revoker<ScriptedRevoker>);

}  // namespace nonreuse
