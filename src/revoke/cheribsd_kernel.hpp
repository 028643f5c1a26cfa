// CheriBSD's revocation: cheri_revoke(2), the shadow bitmap and the epochs that the kernel publishes, as
// <cheri/revoke.h> and <cheri/libcaprevoke.h> declare them. Written against the documented interface.
#pragma once

#include "revoke/cheri_kernel.hpp"

#if defined(__CHERI_PURE_CAPABILITY__) && defined(__FreeBSD__)

#include <cheri/libcaprevoke.h>
#include <cheri/revoke.h>

#include <atomic>

#include "platform/cheri_intrinsics.hpp"

namespace nonreuse {

class CheriBsdKernel {
 public:
  bool ready() {
    if (info_ != nullptr) return shadow_ != nullptr;
    void* page = nullptr;
    if (cheri_revoke_get_shadow(CHERI_REVOKE_SHADOW_INFO_STRUCT, nullptr, &page) != 0) return false;
    info_ = static_cast<const volatile struct cheri_revoke_info*>(page);
    void* shadow = nullptr;
    // All of it: the bitmap of one arena is not always representable.
    if (cheri_revoke_get_shadow(CHERI_REVOKE_SHADOW_NOVMMAP_ENTIRE, nullptr, &shadow) != 0) return false;
    shadow_ = static_cast<uint64_t*>(shadow);
    return true;
  }

  void paint(uintptr_t begin, uintptr_t end) {
    caprev_shadow_nomap_set_raw(info_->base_mem_nomap, shadow_, begin, end);
  }
  void unpaint(uintptr_t begin, uintptr_t end) {
    caprev_shadow_nomap_clear_raw(info_->base_mem_nomap, shadow_, begin, end);
  }
  // base_mem_nomap is the address of the bit of address 0: one bit for 16 bytes, 64 to a word.
  uint64_t painted(uintptr_t address) {
    const uint64_t at = info_->base_mem_nomap + static_cast<uint64_t>(address) / (64 * kGranule) * 8;
    return __atomic_load_n(static_cast<const uint64_t*>(CheriOps().with_address(shadow_, at)),
                           __ATOMIC_RELAXED);
  }
  void fence_after_paint() { std::atomic_thread_fence(std::memory_order_seq_cst); }
  void fence_after_unpaint() { std::atomic_thread_fence(std::memory_order_release); }

  RevocationEpoch enqueue_epoch() { return info_->epochs.enqueue; }
  RevocationEpoch dequeue_epoch() { return info_->epochs.dequeue; }
  bool clears(RevocationEpoch now, RevocationEpoch then) { return cheri_revoke_epoch_clears(now, then) != 0; }
  bool revoke(RevocationPass pass, RevocationEpoch epoch) {
#ifdef CHERI_REVOKE_ASYNC
    const int flags = pass == RevocationPass::finish ? CHERI_REVOKE_LAST_PASS : CHERI_REVOKE_ASYNC;
#else
    // A kernel without passes of its own: the first pass is the caller's, the load barrier does the rest.
    const int flags = pass == RevocationPass::finish ? CHERI_REVOKE_LAST_PASS : 0;
#endif
    return cheri_revoke(flags, epoch, nullptr) == 0;
  }

 private:
  const volatile struct cheri_revoke_info* info_ = nullptr;
  uint64_t* shadow_ = nullptr;
};
static_assert(CheriKernel<CheriBsdKernel>);

}  // namespace nonreuse

#endif
