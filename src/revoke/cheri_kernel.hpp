// What the CHERI backend asks of the kernel: a shadow bitmap that it reads, two epochs that it publishes, and
// a call that drives revocation. One implementation for CheriBSD (cheribsd_kernel.hpp), one in tests.
#pragma once

#include <concepts>

#include "base/types.hpp"

namespace nonreuse {

// Counts the beginnings and ends of revocations: odd while one is under way.
using RevocationEpoch = uint64_t;
inline constexpr unsigned kEpochBits = 61;

// True when a whole revocation began and ended after `then` was read, given that it is `now`: the one under
// way at `then`, if any, does not count. Serial-number arithmetic (RFC 1982): the count may wrap.
constexpr bool epoch_clears(RevocationEpoch now, RevocationEpoch then) {
  constexpr RevocationEpoch kMask = (RevocationEpoch{1} << kEpochBits) - 1;
  const RevocationEpoch ahead = (now - (then + (then & 1) + 2)) & kMask;
  return ahead < RevocationEpoch{1} << (kEpochBits - 1);
}

enum class RevocationPass : uint8_t {
  finish,  // returns after the revocation that is under way, or one that it begins, has ended
  begin,   // makes sure that one is under way, and does not wait for its end
};

template <class K>
concept CheriKernel = requires(K& kernel, Address address, RevocationEpoch epoch, RevocationPass pass,
                               bool flag) {
  // Maps the shadow and the epochs at the first call. False: this kernel or process has no revocation.
  { kernel.ready() } -> std::same_as<bool>;
  // Every capability without the exemption whose base lies in [begin, end) is to be revoked, or no more.
  // Both ends are multiples of 16. The caller alone writes these granules' bits.
  { kernel.paint(address, address) } -> std::same_as<void>;
  { kernel.unpaint(address, address) } -> std::same_as<void>;
  // The bits of the 64 granules from `address`, a multiple of 1024.
  { kernel.painted(address) } -> std::same_as<uint64_t>;
  // Full: what was painted is seen by every revocation that begins after the epoch read next.
  { kernel.fence_after_paint() } -> std::same_as<void>;
  { kernel.enqueue_epoch() } -> std::same_as<RevocationEpoch>;  // labels what enters now
  { kernel.dequeue_epoch() } -> std::same_as<RevocationEpoch>;  // says what may leave
  { kernel.clears(epoch, epoch) } -> std::same_as<bool>;        // epoch_clears(now, then)
  // Returns at once when `epoch` is cleared already. False: the kernel refuses.
  { kernel.revoke(pass, epoch) } -> std::same_as<bool>;
  // Release: no revocation sees these bits any more once the memory is handed out.
  { kernel.fence_after_unpaint() } -> std::same_as<void>;
};

}  // namespace nonreuse
