// The statistics page that every process has in its own memory: static data, so it costs no mapping, is the
// child's own after fork, and is gone with exec. The note of kPlaceNoteType tells observers where it is.
#pragma once

#include "base/stats_page.hpp"

extern "C" nonreuse::StatsPage nonreuse_own_page;  // of this copy of the library

namespace nonreuse {

inline StatsPage& statistics_place() {
  return nonreuse_own_page;
}
inline Range statistics_range() {
  const Address at = address_of(&nonreuse_own_page);
  return {at, at + sizeof(StatsPage)};
}

}  // namespace nonreuse
