#include "launcher/reporter.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/heap_descriptor.hpp"
#include "launcher/dangling_report.hpp"
#include "launcher/program.hpp"
#include "launcher/write_all.hpp"

namespace nonreuse::launcher {
namespace {

bool read_message(int connection, ReportMessage& message) {
  auto* at = reinterpret_cast<char*>(&message);
  for (size_t done = 0; done < sizeof message;) {
    const ssize_t got = read(connection, at + done, sizeof message - done);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    done += static_cast<size_t>(got);
  }
  return message.magic == kReportMagic;
}

// Who is at the other end, in our eyes: in its own namespace the process may have another number.
pid_t peer_of(int connection) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? peer.pid : 0;
}

class Listener {
 public:
  Listener(int socket, int control, const ReportRequest& request)
      : socket_(socket), control_(control), request_(request) {}

  void run() {
    for (;;) {
      pollfd wait[] = {{socket_, POLLIN, 0}, {control_, POLLIN, 0}};
      if (poll(wait, 2, -1) < 0 && errno != EINTR) break;
      if ((wait[0].revents & POLLIN) != 0)
        serve();
      else if (wait[1].revents != 0)
        break;  // the launcher has closed its end, and nobody is waiting
    }
    conclude();
  }

 private:
  void serve() {
    const int connection = accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) return;
    // One that was stopped in the middle must not keep the others waiting.
    constexpr timeval kPatience{5, 0};
    for (const int direction : {SO_RCVTIMEO, SO_SNDTIMEO})
      setsockopt(connection, SOL_SOCKET, direction, &kPatience, sizeof kPatience);
    ReportMessage message;
    if (read_message(connection, message)) {
      message.process = static_cast<uint32_t>(peer_of(connection));
      answer(connection, message);
    }
    close(connection);
  }

  void answer(int connection, const ReportMessage& message) {
    if (message.kind != ReportKind::at_exit) {
      write_all(connection, history_text(message));
      return;
    }
    if (!request_.dangling) return;
    try {
      reports_.push_back(report_on(static_cast<pid_t>(message.process), message.descriptor,
                                   static_cast<pid_t>(message.thread)));
    } catch (const std::exception& problem) {
      problems_ += fmt::format("nonreuse: report: {}\n", problem.what());
    }
  }

  void conclude() {
    if (!request_.dangling) return;
    write_all(STDERR_FILENO, problems_);
    if (reports_.empty() && problems_.empty())
      write_all(STDERR_FILENO,
                "nonreuse: report: no process asked for one: none ran its exit handlers on this heap, or "
                "those that "
                "did cannot reach the reporter (another user, chroot)\n");
    if (!request_.file.empty()) {
      try {
        write_report(request_.file, reports_);
      } catch (const std::exception& problem) {
        write_all(STDERR_FILENO, fmt::format("nonreuse: {}; here it is:\n", problem.what()));
        print();
      }
    } else {
      print();
    }
  }

  void print() const {
    const std::string text = reports_text(reports_);
    std::string prefixed;
    for (size_t at = 0; at < text.size();) {
      const size_t end = text.find('\n', at);
      prefixed += "nonreuse: " + text.substr(at, end - at) + "\n";
      at = end + 1;
    }
    write_all(STDERR_FILENO, prefixed);
  }

  int socket_, control_;
  const ReportRequest& request_;
  std::vector<nlohmann::json> reports_;
  std::string problems_;
};

int listen_at(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    throw Failure(kCannotRunStatus, fmt::format("the path of the reporter's socket is too long: {}", path));
  memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0 || bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      listen(socket, 64) != 0) {
    throw Failure(kCannotRunStatus, fmt::format("no socket {}: {}", path, strerror(errno)));
  }
  return socket;
}

}  // namespace

void ReporterProcess::start(const std::string& path, const ReportRequest& request) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0)
    throw Failure(kCannotRunStatus, fmt::format("no pipe: {}", strerror(errno)));
  const int socket = listen_at(path);
  process_ = fork();
  if (process_ < 0) throw Failure(kCannotRunStatus, fmt::format("no new process: {}", strerror(errno)));
  if (process_ == 0) {
    close(ends[1]);
    // What ends the program by its terminal must not end the report on it.
    for (const int number : {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGTSTP, SIGPIPE}) signal(number, SIG_IGN);
    unsetenv("DEBUGINFOD_URLS");  // a report does not wait for a network
    Listener(socket, ends[0], request).run();
    _exit(0);
  }
  close(ends[0]);
  close(socket);
  control_ = ends[1];
}

void ReporterProcess::finish() {
  if (process_ <= 0) return;
  close(control_);
  while (waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
  }
  process_ = 0;
}

}  // namespace nonreuse::launcher
