// The unwinder, for the companion's own use.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nonreuse::companion {

// Program counters of the thread whose handler of a signal was given `context` (a ucontext_t), from the
// interrupted instruction outwards; their number.
size_t capture_from(void* context, uint64_t* out, size_t most);

}  // namespace nonreuse::companion
