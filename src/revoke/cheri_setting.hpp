// Whether and how this process revokes, as CheriBSD's own heap decides it (mrs(3)).
//
// The kernel has combined the system's default, the program's ELF note (elfctl -e +cherirevoke,
// +nocherirevoke) and what the parent asked for (proccontrol -m cherirevoke, procctl(2)) into flags that it
// hands to the new program in AT_BSDFLAGS. The environment has the last word, unless the program runs with
// more authority than its user. Of each pair the switch that turns off wins; values do not matter, only
// presence.
#pragma once

#include "base/types.hpp"

namespace nonreuse {

struct CheriSetting {
  bool enabled = true;
  bool every_free = false;    // for debugging: revoke, and wait, at each free
  bool asynchronous = false;  // two generations; else every revocation is waited for
};

// What the kernel says; `known` is false where it is too old to say.
struct CheriKernelFlags {
  bool known = false;
  bool revoke = false, every_free = false, asynchronous = false;
};

// `present(name)` tells whether an environment variable is set.
template <class Present>
constexpr CheriSetting decide_revocation(CheriKernelFlags kernel, bool privileged, Present&& present) {
  CheriSetting setting;
  if (kernel.known) setting = {kernel.revoke, kernel.every_free, kernel.asynchronous};
  if (privileged) return setting;
  const auto choose = [&](bool& value, const char* off, const char* on) {
    if (present(off))
      value = false;
    else if (present(on))
      value = true;
  };
  choose(setting.enabled, "_RUNTIME_REVOCATION_DISABLE", "_RUNTIME_REVOCATION_ENABLE");
  choose(setting.every_free, "_RUNTIME_REVOCATION_EVERY_FREE_DISABLE",
         "_RUNTIME_REVOCATION_EVERY_FREE_ENABLE");
  choose(setting.asynchronous, "_RUNTIME_REVOCATION_SYNC_REVOKE", "_RUNTIME_REVOCATION_ASYNC_REVOKE");
  return setting;
}

}  // namespace nonreuse
