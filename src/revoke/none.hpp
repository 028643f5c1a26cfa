// The backend that revokes nothing: for a heap without quarantine, and for processes in which no sweep is
// possible or wanted. What is in quarantine stays there; its addresses are spent.
#pragma once

#include "revoke/revoker.hpp"

namespace nonreuse {

class NoRevoker {
 public:
  static constexpr bool kHolds = false;
  RevokeOutcome revoke(const RevokeRequest&, RevokeFigures&) { return RevokeOutcome::blind; }
  void after_fork_in_child() {}
};

static_assert(Revoker<NoRevoker>);

}  // namespace nonreuse
