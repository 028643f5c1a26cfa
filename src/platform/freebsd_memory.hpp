// MemoryPlatform on FreeBSD and, for purecap programs, on CheriBSD. Written against mmap(2) of both;
// compiled, never run (docs/porting.md).
//
// The claim is a reservation: a guard (MAP_GUARD), which no mapping enters that does not ask for this very
// place, and which takes neither memory nor swap. Pieces are committed by mapping over it with MAP_FIXED, and
// given back by putting the guard there again. Nobody else can be in the way: commit() never finds a place
// occupied. Unlike the claim on Linux it counts against RLIMIT_AS, so where the limit refuses it half as much
// is asked for.
//
// On CheriBSD the capability that mmap returned for the reservation is the heap's authority, over all of it
// and over nothing else: PROT_MAX gives it the permissions of what will be mapped there, and it keeps
// CHERI_PERM_SW_VMEM, without which nothing can be mapped over it, and which exempts it from revocation.
// Programs get neither (CheriOps::for_program).
#pragma once

#include "platform/cheri_intrinsics.hpp"
#include "platform/concept.hpp"

namespace nonreuse {

class FreebsdMemory {
 public:
  size_t page_size() const { return page_size_; }
  AddressClaim claim(size_t bytes);
  CommitResult commit(Address address, size_t bytes);
  bool uncommit(Address address, size_t bytes);
  bool discard(Address address, size_t bytes);
  void populate(Address, size_t) {}  // no such call
  bool trap(Address address, size_t bytes);
  bool untrap(Address address, size_t bytes);
  size_t movable(Address, size_t) { return 0; }
  MoveResult move(Address, Address, size_t) { return MoveResult::refused; }  // no such call
  void zero(Address address, size_t bytes);
  void zero_short(Address address, size_t bytes) { zero(address, bytes); }
  bool make_zero(Address address, size_t bytes);

#if defined(__CHERI_PURE_CAPABILITY__)
  using Pointers = CapabilityPointers<CheriOps>;
  static constexpr CheriOps capability_ops() {
    return {};
  }
  void* authority() const {
    return authority_;
  }
  void* pointer(Address address) const {
    return CheriOps().with_address(authority_, address);
  }
#else
  static void* pointer(Address address) {
    return reinterpret_cast<void*>(address);
  }
#endif

 private:
  void* authority_ = nullptr;  // what mmap returned
  size_t page_size_ = 4096;    // replaced by claim() with what the system says
};

static_assert(MemoryPlatform<FreebsdMemory>);

}  // namespace nonreuse
