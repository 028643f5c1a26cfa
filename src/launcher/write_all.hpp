#pragma once

#include <string_view>

namespace nonreuse::launcher {

// Writes all of it, in as many parts as it takes. False: it could not; errno.
bool write_all(int descriptor, std::string_view bytes);

}  // namespace nonreuse::launcher
