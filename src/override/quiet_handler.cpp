// Calling a new-handler for the forms of new that must not throw. The only file compiled with exceptions;
// what it needs of the C++ runtime is weak, so the library still loads into programs that have none (they
// have no new-handler either, and nothing here is called).
#include "override/quiet_handler.hpp"

__asm__(
    ".weak __gxx_personality_v0\n\t"
    ".weak __cxa_begin_catch\n\t"
    ".weak __cxa_end_catch\n\t"
    ".weak __cxa_call_terminate\n\t"
    ".weak _ZSt9terminatev\n\t"
    ".weak _Unwind_Resume");

namespace nonreuse {

bool call_quietly(std::new_handler handler) {
  try {
    handler();
    return true;
  } catch (...) {
    return false;
  }
}

}  // namespace nonreuse
