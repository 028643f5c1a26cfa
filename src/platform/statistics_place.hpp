// The statistics page that every process has in its own memory: static data, so it costs no mapping, is the
// child's own after fork, and is gone with exec.
//
// How an observer finds it: the library (or the program that is linked with it) has an ELF note of the owner
// "nonreuse" and type 0x4e52, 8 bytes long, in one of its PT_NOTE segments. The number in it plus the number's own
// address is the address of the page. So nothing but the process' memory is needed: no symbol, no file, no
// kernel that names mappings. elf(5), process_vm_readv(2).
#pragma once

#include "base/stats_page.hpp"

extern "C" nonreuse::StatsPage nonreuse_own_page;  // of this copy of the library

namespace nonreuse {

inline constexpr uint32_t kPlaceNoteType = 0x4e52;
inline constexpr char kPlaceNoteOwner[] = "nonreuse";

inline StatsPage& statistics_place() {
  return nonreuse_own_page;
}
inline Range statistics_range() {
  const Address at = address_of(&nonreuse_own_page);
  return {at, at + sizeof(StatsPage)};
}

}  // namespace nonreuse
