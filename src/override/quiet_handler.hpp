#pragma once

#include <new>

namespace nonreuse {

// Calls the handler; false where it threw.
bool call_quietly(std::new_handler handler);

}  // namespace nonreuse
