// What the library is built on here: the memory platform, and where revocation comes from.
#pragma once

#include "base/types.hpp"

#if defined(__linux__)
#include "platform/linux_memory.hpp"
#elif defined(__FreeBSD__)
#include "platform/freebsd_memory.hpp"
#else
#error "src/platform has no files for this system: docs/porting.md says what it must provide"
#endif

namespace nonreuse {

enum class RevocationBy : uint8_t {
  sweep,   // the library looks through roots and heap for pointers
  kernel,  // the kernel takes capabilities
  nobody,  // no roots can be found: what was freed is never reused, its pages are given back
};

#if defined(__linux__)
using SystemMemory = LinuxMemory;
inline constexpr RevocationBy kRevocation = RevocationBy::sweep;
#elif defined(__CHERI_PURE_CAPABILITY__)
using SystemMemory = FreebsdMemory;
inline constexpr RevocationBy kRevocation = RevocationBy::kernel;
#else
using SystemMemory = FreebsdMemory;
inline constexpr RevocationBy kRevocation = RevocationBy::nobody;
#endif

}  // namespace nonreuse
