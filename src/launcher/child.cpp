#include "launcher/child.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "launcher/program.hpp"

namespace nonreuse::launcher {
namespace {

// Every signal that someone may send to this process and mean the program.
sigset_t forwarded_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF,
                           SIGIO, SIGPWR, SIGURG, SIGWINCH, SIGCONT, SIGTSTP, SIGPIPE}) {
    sigaddset(&set, number);
  }
  for (int number = SIGRTMIN; number <= SIGRTMAX; ++number) sigaddset(&set, number);
  return set;
}

// What the terminal sends (SI_KERNEL) it sends to the whole foreground group: the program has it already, and
// must not get it twice.
void forward(pid_t child, const siginfo_t& info) {
  if (info.si_code == SI_KERNEL) return;
  if (info.si_code == SI_QUEUE) {
    sigqueue(child, info.si_signo, info.si_value);
  } else {
    kill(child, info.si_signo);
  }
}

// Collects what happened to the child. True once it has ended. While it is stopped, so are we: the shell
// that waits for us sees a stopped job.
bool collect(pid_t child, int& wait_status) {
  for (;;) {
    int status = 0;
    const pid_t got = waitpid(child, &status, WNOHANG | WUNTRACED);
    if (got <= 0) return false;
    if (WIFSTOPPED(status)) {
      raise(SIGSTOP);
      continue;
    }
    wait_status = status;
    return true;
  }
}

[[noreturn]] void become(const std::string& path, const std::vector<std::string>& arguments,
                         const sigset_t& mask, const struct sigaction& old_child_action, int report) {
  std::vector<char*> pointers;
  pointers.reserve(arguments.size() + 1);
  for (const std::string& argument : arguments) pointers.push_back(const_cast<char*>(argument.c_str()));
  pointers.push_back(nullptr);
  sigaction(SIGCHLD, &old_child_action, nullptr);
  sigprocmask(SIG_SETMASK, &mask, nullptr);
  execvp(path.c_str(), pointers.data());
  const int reason = errno;
  const ssize_t written = write(report, &reason, sizeof(reason));
  _exit(written == sizeof(reason) ? kCannotRunStatus : kNotFoundStatus);
}

// The errno of a failed exec, or 0.
int read_report(int descriptor) {
  int reason = 0;
  ssize_t got;
  do {
    got = read(descriptor, &reason, sizeof(reason));
  } while (got < 0 && errno == EINTR);
  return got == sizeof(reason) ? reason : 0;
}

}  // namespace

Ended run_child(const std::string& path, const std::vector<std::string>& arguments) {
  int report[2];
  if (pipe2(report, O_CLOEXEC) != 0) {
    throw Failure(kCannotRunStatus, fmt::format("no pipe: {}", strerror(errno)));
  }
  // Whoever started us may ignore SIGCHLD; the kernel would then keep no exit status for us.
  struct sigaction default_action = {};
  default_action.sa_handler = SIG_DFL;
  struct sigaction old_child_action;
  sigaction(SIGCHLD, &default_action, &old_child_action);

  sigset_t awaited = forwarded_signals();
  sigaddset(&awaited, SIGCHLD);
  sigset_t old_mask;
  sigprocmask(SIG_BLOCK, &awaited, &old_mask);

  Ended ended;
  ended.process = fork();
  if (ended.process < 0) throw Failure(kCannotRunStatus, fmt::format("no new process: {}", strerror(errno)));
  if (ended.process == 0) {
    close(report[0]);
    become(path, arguments, old_mask, old_child_action, report[1]);
  }
  close(report[1]);
  const int reason = read_report(report[0]);
  close(report[0]);
  if (reason != 0) {
    waitpid(ended.process, nullptr, 0);
    throw Failure(reason == ENOENT ? kNotFoundStatus : kCannotRunStatus,
                  fmt::format("{}: {}", path, strerror(reason)));
  }
  while (!collect(ended.process, ended.wait_status)) {
    siginfo_t info;
    const int number = sigwaitinfo(&awaited, &info);
    if (number > 0 && number != SIGCHLD) forward(ended.process, info);
  }
  return ended;
}

void end_like(const Ended& ended) {
  if (!WIFSIGNALED(ended.wait_status)) _exit(WEXITSTATUS(ended.wait_status));
  const int number = WTERMSIG(ended.wait_status);
  // The program's core is the one of interest; a second one, of the launcher, would only be in the way.
  const rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  sigaction(number, &action, nullptr);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, number);
  raise(number);
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
  _exit(128 + number);
}

}  // namespace nonreuse::launcher
