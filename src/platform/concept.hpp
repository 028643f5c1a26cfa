// What the heap and the revokers require of the memory below them. One implementation a system
// (linux_memory.hpp) and `simulated.hpp` for tests. The heap itself never touches chunk memory: all its
// knowledge is out of line, so what is asked here is only address space, backing, and zeroes.
#pragma once

#include <concepts>

#include "base/types.hpp"

namespace nonreuse {

enum class CommitResult : uint8_t {
  done,
  no_memory,  // the system refuses (limits, overcommit); a smaller request may succeed
  occupied,   // somebody else has mapped memory there
};

enum class MoveResult : uint8_t {
  moved,
  refused,  // nothing has changed
  lost,     // `from` has not changed; `to` is committed no more, and there is no memory to commit it again
};

// Address space that the heap may commit piece by piece.
struct AddressClaim {
  Address base = 0;  // page-aligned
  size_t size = 0;   // 0: the claim failed
};

template <class P>
concept MemoryPlatform = requires(P& platform, Address address, size_t bytes) {
  // Bytes of a page: the unit of every call below. A power of two.
  { platform.page_size() } -> std::same_as<size_t>;
  // Finds room for up to `bytes` of addresses. Nothing there may be touched before commit().
  { platform.claim(bytes) } -> std::same_as<AddressClaim>;
  // The heap's own pointer to an address of the claim, which need not be committed yet; good for all that
  // lies there. On capability machines the only way from an address to authority over it.
  { platform.pointer(address) } -> std::same_as<void*>;
  // Makes pages readable, writable and zero. All or nothing.
  { platform.commit(address, bytes) } -> std::same_as<CommitResult>;
  // Gives committed pages back for good; they must be committed again before use. False: not supported,
  // the pages stay committed.
  { platform.uncommit(address, bytes) } -> std::same_as<bool>;
  // Gives the memory back but keeps the pages usable: they read as zeroes from now on. False: not
  // supported, contents are unchanged.
  { platform.discard(address, bytes) } -> std::same_as<bool>;
  // As discard, and every later access stops the program, until untrap. False: nothing has changed.
  { platform.trap(address, bytes) } -> std::same_as<bool>;
  { platform.untrap(address, bytes) } -> std::same_as<bool>;
  // Committed pages will be written to soon: brings memory for all of them at once, which costs much less
  // than a fault each. Contents stay as they are. Where that is not to be had nothing happens.
  { platform.populate(address, bytes) } -> std::same_as<void>;
  // Of these pages, how many bytes from the first on may be moved at once, by all that can be told before;
  // nobody else changes their mappings. 0: the first may not.
  { platform.movable(address, bytes) } -> std::same_as<size_t>;
  // Of what movable() said. The pages at `from` are at the second address afterwards, in place of what was
  // there; `from` stays committed and reads as zeroes. Both are committed, and do not overlap. Much faster
  // than to copy many pages.
  { platform.move(address, address, bytes) } -> std::same_as<MoveResult>;
  // Writes zeroes to committed memory, any alignment.
  { platform.zero(address, bytes) } -> std::same_as<void>;
  // The same for a few 16-byte multiples, at such a multiple: inline where that is faster.
  { platform.zero_short(address, bytes) } -> std::same_as<void>;
  // Writes zeroes where committed memory is not zero. True where anything was not, though the first word of a
  // page may be cleared without having been looked at. 16-byte multiples.
  { platform.make_zero(address, bytes) } -> std::same_as<bool>;
};

}  // namespace nonreuse
