// MemoryPlatform on Linux.
//
// The claim takes no address space from the program's limits: it picks a range far from where the kernel
// puts mappings, and commits pieces of it with MAP_FIXED_NOREPLACE (mmap(2)), which fails where somebody
// else already is. A PROT_NONE reservation would be counted by RLIMIT_AS, and a program that sets this limit
// for itself (or a shell, `ulimit -v`) could then map nothing any more. Where no such range is usable
// (sanitizers, odd address-space sizes) the range is reserved after all, smaller.
#pragma once

#include <atomic>

#include "base/settings.hpp"
#include "platform/attributes.hpp"
#include "platform/concept.hpp"

namespace nonreuse {

class LinuxMemory {
 public:
  size_t page_size() const { return page_size_; }
  AddressClaim claim(size_t bytes);
  static void* pointer(Address address) { return reinterpret_cast<void*>(address); }
  CommitResult commit(uintptr_t address, size_t bytes);
  bool uncommit(uintptr_t address, size_t bytes);
  bool discard(uintptr_t address, size_t bytes);
  void populate(uintptr_t address, size_t bytes);
  bool trap(uintptr_t address, size_t bytes);
  bool untrap(uintptr_t address, size_t bytes);
  size_t movable(uintptr_t from, size_t bytes);
  MoveResult move(uintptr_t from, uintptr_t to, size_t bytes);
  void zero(uintptr_t address, size_t bytes);
  NONREUSE_ALWAYS_INLINE void zero_short(uintptr_t address, size_t bytes) {
    auto* at = reinterpret_cast<char*>(address);
    for (char* const end = at + bytes; at != end; at += kGranule) {
      __asm__("" : "+r"(at));  // keeps the compiler from making it a call again
      __builtin_memset(at, 0, kGranule);
    }
  }
  bool make_zero(uintptr_t address, size_t bytes);

 private:
  static constexpr int kMovesBetweenCounts = 2000;
  static constexpr size_t kSparse = size_t{1} << 20;  // from here on not all of it need have been used

  bool may_ask_for_present();
  template <class F>
  void for_present(uintptr_t address, size_t bytes, F&& f);

  bool may_move();
  AddressClaim claim_unreserved(size_t bytes);
  AddressClaim claim_reserved(size_t bytes);

  size_t page_size_ = 4096;  // replaced by claim() with what the system says
  bool reserved_ = false;
  std::atomic<bool> populates_{kHaveMmap};  // until the kernel refuses
  // Each trapped range may split a mapping; the kernel allows 65530 of them (vm.max_map_count).
  std::atomic<int> traps_left_{24000};
  // As may each move, for as long as the process lives; what is left until the mappings are counted.
  std::atomic<int> moves_left_{kMovesBetweenCounts};
};

static_assert(MemoryPlatform<LinuxMemory>);

}  // namespace nonreuse
