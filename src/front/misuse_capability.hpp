// The messages of capability machines: what was handed in points at a live chunk, but is not the capability
// that was handed out. Inline, so that a library for ordinary machines has none of it.
#pragma once

#include "base/capability_pointers.hpp"
#include "base/report.hpp"
#include "platform/os.hpp"

namespace nonreuse::misuse {

// `given` bytes are covered by the capability, `owned` by the one that was handed out.
[[noreturn]] inline void stop(const char* call, Address address, CapabilityFault fault, size_t bytes,
                              size_t given, size_t owned) {
  Line line;
  line.text("nonreuse: invalid free: ").text(call).text("(").hex(address).text("): ");
  switch (fault) {
    case CapabilityFault::none:
    case CapabilityFault::untagged:
      line.text("is no valid capability (its tag is clear) to");
      break;
    case CapabilityFault::revoked:
      line.text("is a revoked capability to");
      break;
    case CapabilityFault::sealed:
      line.text("is a sealed capability to");
      break;
    case CapabilityFault::offset:
      line.text("is not at the base of its bounds, but at the start of");
      break;
    case CapabilityFault::narrowed:
    case CapabilityFault::widened:
      line.text("has bounds of ").number(given).text(" bytes, not the ").number(owned);
      line.text(" that were given out for");
      break;
    case CapabilityFault::permissions:
      line.text("has other permissions than were given out for");
      break;
  }
  line.text(" the live chunk ").hex(address).text(" of ").number(bytes).text(" bytes\n");
  os::write_error(line.c_str(), line.size());
  os::die();
}

}  // namespace nonreuse::misuse
