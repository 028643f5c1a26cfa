// Whether and how this process revokes, as CheriBSD's own heap decides it (mrs(3)).
//
// The kernel has combined the system's default, the program's ELF note (elfctl -e +cherirevoke,
// +nocherirevoke) and what the parent asked for (proccontrol -m cherirevoke, procctl(2)) into flags that it
// hands to the new program in AT_BSDFLAGS. The environment has the last word, unless the program runs with
// more authority than its user. Of each pair the switch that turns off wins; values do not matter, only
// presence. The quarantine may be as large a part of the whole heap as a numerator and a denominator say.
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

// A number from 1 to 256, as CheriBSD's heap takes it; 0: it is something else.
constexpr uint64_t quarantine_number(const char* text) {
  uint64_t value = 0;
  if (text == nullptr) return 0;
  for (; *text >= '0' && *text <= '9' && value <= 256; ++text)
    value = 10 * value + static_cast<uint64_t>(*text - '0');
  return *text == '\0' && value <= 256 ? value : 0;
}

// The option `percent`, which counts quarantine against what is live, for a quarantine of
// numerator/denominator of the whole heap, quarantine included. 0: neither is set, or they are no such
// numbers; a half that is not set is that of the system's own quarter. `value(name)` is the text of an
// environment variable, or nullptr.
template <class Value>
constexpr uint64_t decide_percent(bool privileged, Value&& value) {
  if (privileged) return 0;
  const char* const above = value("_RUNTIME_QUARANTINE_NUMERATOR");
  const char* const below = value("_RUNTIME_QUARANTINE_DENOMINATOR");
  if (above == nullptr && below == nullptr) return 0;
  const uint64_t part = above == nullptr ? 1 : quarantine_number(above);
  const uint64_t whole = below == nullptr ? 4 : quarantine_number(below);
  constexpr uint64_t kMost = 10'000;
  if (part == 0 || whole == 0) return 0;
  if (part >= whole) return kMost;  // all of it and more: as seldom as can be said
  const uint64_t percent = (100 * part + (whole - part) / 2) / (whole - part);
  return percent < 1 ? 1 : percent < kMost ? percent : kMost;
}

}  // namespace nonreuse
