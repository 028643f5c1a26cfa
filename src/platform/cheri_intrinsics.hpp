// The operations on capabilities of CHERI compilers: the only place that names __builtin_cheri_*. Included by
// nothing on other machines.
#pragma once

#include "base/capability_pointers.hpp"

#if defined(__CHERI_PURE_CAPABILITY__)

#include <cheri/cheric.h>
#include <cheri/revoke.h>
#include <cstring>

namespace nonreuse {

class CheriOps {
 public:
  using Value = void*;

  bool tagged(Value v) const { return __builtin_cheri_tag_get(v) != 0; }
  bool sealed(Value v) const { return __builtin_cheri_sealed_get(v) != 0; }
  uint64_t address(Value v) const { return __builtin_cheri_address_get(v); }
  uint64_t base(Value v) const { return __builtin_cheri_base_get(v); }
  uint64_t length(Value v) const { return __builtin_cheri_length_get(v); }
  uint64_t permissions(Value v) const { return __builtin_cheri_perms_get(v); }
  Value with_address(Value v, uint64_t to) const { return __builtin_cheri_address_set(v, to); }
  Value with_bounds(Value v, uint64_t n) const { return __builtin_cheri_bounds_set(v, n); }
  // Data and capabilities may be loaded and stored; nothing is executed; nothing is exempt from revocation.
  Value for_program(Value v) const {
    return __builtin_cheri_perms_and(v, ~static_cast<size_t>(CHERI_PERM_SW_VMEM | CHERI_PERM_EXECUTE));
  }
  uint64_t representable_length(uint64_t n) const { return __builtin_cheri_round_representable_length(n); }
  uint64_t representable_mask(uint64_t n) const { return __builtin_cheri_representable_alignment_mask(n); }
  uint64_t load(Value v, uint64_t bytes) const {
    uint64_t value = 0;
    memcpy(&value, v, bytes);
    return value;
  }
  void store(Value v, uint64_t number, uint64_t bytes) const { memcpy(v, &number, bytes); }
  // memmove of 16-byte aligned memory keeps tags.
  void copy(Value to, Value from, uint64_t bytes) const { memcpy(to, from, bytes); }
};
static_assert(CapabilityOps<CheriOps>);

}  // namespace nonreuse

#endif
