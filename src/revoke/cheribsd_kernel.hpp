// CheriBSD's revocation: cheri_revoke(2), the shadow bitmap and the epochs that the kernel publishes, as
// <cheri/revoke.h> and <cheri/libcaprevoke.h> declare them. Written against the documented interface.
#pragma once

#include "revoke/cheri.hpp"
#include "revoke/cheri_kernel.hpp"
#include "revoke/none.hpp"

#if defined(__CHERI_PURE_CAPABILITY__) && defined(__FreeBSD__)

#include <cheri/libcaprevoke.h>
#include <cheri/revoke.h>
#include <elf.h>
#include <string.h>
#include <sys/auxv.h>

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

  void paint(Address begin, Address end) {
    caprev_shadow_nomap_set_raw(info_->base_mem_nomap, shadow_, begin, end);
  }
  void unpaint(Address begin, Address end) {
    caprev_shadow_nomap_clear_raw(info_->base_mem_nomap, shadow_, begin, end);
  }
  // base_mem_nomap is the address of the bit of address 0: one bit for 16 bytes, 64 to a word.
  uint64_t painted(Address address) {
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

// What the kernel decided for this process: the system's default, the program's ELF note and the parent's
// procctl(2).
inline CheriKernelFlags cheribsd_flags() {
  CheriKernelFlags flags;
#if defined(AT_BSDFLAGS) && defined(ELF_BSDF_CHERI_REVOKE)
  uint32_t bits = 0;
  if (elf_aux_info(AT_BSDFLAGS, &bits, sizeof bits) != 0) return flags;
  flags.known = true;
  flags.revoke = (bits & ELF_BSDF_CHERI_REVOKE) != 0;
#if defined(ELF_BSDF_CHERI_REVOKE_EVERY_FREE)
  flags.every_free = (bits & ELF_BSDF_CHERI_REVOKE_EVERY_FREE) != 0;
#endif
#if defined(ELF_BSDF_CHERI_REVOKE_ASYNC)
  flags.asynchronous = (bits & ELF_BSDF_CHERI_REVOKE_ASYNC) != 0;
#endif
#endif
  return flags;
}

namespace detail {
struct OwnCheriBsdKernel {
  CheriBsdKernel kernel;
};
}  // namespace detail

// The revoker of a CheriBSD process, with a kernel interface of its own.
class CheriBsdRevoker : private detail::OwnCheriBsdKernel, public CheriRevoker<CheriBsdKernel> {
 public:
  constexpr CheriBsdRevoker() : CheriRevoker(static_cast<OwnCheriBsdKernel&>(*this).kernel) {}

  // Before other threads use the heap; once more when there is an environment (NULL-terminated, or nullptr).
  void configure(const char* const* environment, bool privileged, Options& options) {
    const auto value = [&](const char* name) { return find(environment, name); };
    set(decide_revocation(cheribsd_flags(), privileged,
                          [&](const char* name) { return value(name) != nullptr; }));
    if (const uint64_t percent = decide_percent(privileged, value); percent != 0) {
      options.percent = percent;
      options.percent_set = true;
    }
  }

 private:
  static const char* find(const char* const* environment, const char* name) {
    const size_t length = strlen(name);
    for (; environment != nullptr && *environment != nullptr; ++environment) {
      if (strncmp(*environment, name, length) == 0 && (*environment)[length] == '=')
        return *environment + length + 1;
    }
    return nullptr;
  }
};
static_assert(Revoker<CheriBsdRevoker>);

}  // namespace nonreuse

#else

namespace nonreuse {
using CheriBsdRevoker = NoRevoker;  // there is no CheriBSD below
}  // namespace nonreuse

#endif
