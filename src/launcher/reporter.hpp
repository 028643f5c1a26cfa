// A process beside the program that makes reports on it: it listens at a socket, looks at each process that
// is about to end, and tells those that misuse the heap where that was. A process of its own, because who
// looks at the program's threads must not be who waits for them, and because it must outlive them.
#pragma once

#include <sys/types.h>

#include <string>

namespace nonreuse::launcher {

struct ReportRequest {
  bool dangling = false;  // report on each process that ends
  std::string file;       // "": standard error
};

class ReporterProcess {
 public:
  ReporterProcess() = default;
  ~ReporterProcess() { finish(); }
  ReporterProcess(const ReporterProcess&) = delete;
  ReporterProcess& operator=(const ReporterProcess&) = delete;

  // Starts listening at `socket`, a path. Throws Failure.
  void start(const std::string& socket, const ReportRequest& request);
  // The program has ended: reports are written, then this returns.
  void finish();

 private:
  pid_t process_ = 0;
  int control_ = -1;
};

}  // namespace nonreuse::launcher
