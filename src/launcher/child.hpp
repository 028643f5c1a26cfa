// Running one program as a child so that nobody notices the parent in between: signals go through, stopping
// and continuing go through, and the way it ended is repeated.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace nonreuse::launcher {

struct Ended {
  pid_t process = 0;
  int wait_status = 0;  // as waitpid(2) gives it
};

// Runs `path` with `arguments` (arguments[0] is what the program sees as its name) and the environment of
// this process, and waits for its end. Throws Failure where it cannot be started.
Ended run_child(const std::string& path, const std::vector<std::string>& arguments);

// Ends this process the way the child ended: same status, or death by the same signal without a core dump.
[[noreturn]] void end_like(const Ended& ended);

}  // namespace nonreuse::launcher
