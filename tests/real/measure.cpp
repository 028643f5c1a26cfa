// Runs one program to its end and writes what it cost: processor time of the program and of every child it
// waited for, wall time, and the highest resident set of any one process among them.
//
//   measure RESULT SECONDS -- PROGRAM [ARGUMENT...]
//
// RESULT becomes one line of JSON. After SECONDS the program's process group is killed. The exit status is 0
// whatever the program's was, and 2 if it could not be started or RESULT could not be written.
//
// This is a program of its own, linked statically, for two reasons. A preloaded library must reach the
// measured program alone. And the kernel counts the resident set of the process that called exec towards the
// new program's maximum (getrusage(2), ru_maxrss), so the caller must be a small one.
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace {

double now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

double seconds(const timeval& value) {
  return static_cast<double>(value.tv_sec) + static_cast<double>(value.tv_usec) * 1e-6;
}

// Waits until `child` has ended, `deadline` has passed, or this process is asked to stop. True: it has ended.
bool wait_for_end(pid_t child, const sigset_t& awaited, double deadline) {
  for (;;) {
    siginfo_t ended{};
    if (waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
        ended.si_pid == child) {
      return true;
    }
    const double left = deadline - now();
    if (left <= 0) return false;
    timespec limit{static_cast<time_t>(left), 0};
    limit.tv_nsec = static_cast<long>((left - static_cast<double>(limit.tv_sec)) * 1e9);
    const int signal = sigtimedwait(&awaited, nullptr, &limit);
    if (signal > 0 && signal != SIGCHLD) return false;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5 || std::strcmp(argv[3], "--") != 0) {
    std::fprintf(stderr, "usage: measure RESULT SECONDS -- PROGRAM [ARGUMENT...]\n");
    return 2;
  }
  sigset_t awaited, before;
  sigemptyset(&awaited);
  for (int signal : {SIGCHLD, SIGINT, SIGTERM, SIGHUP}) sigaddset(&awaited, signal);
  sigprocmask(SIG_BLOCK, &awaited, &before);
  prctl(PR_SET_PDEATHSIG, SIGTERM);  // whoever started this was killed: so is the program

  const double begin = now();
  const pid_t child = fork();
  if (child < 0) {
    std::perror("measure: fork");
    return 2;
  }
  if (child == 0) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigprocmask(SIG_SETMASK, &before, nullptr);
    execvp(argv[4], argv + 4);
    std::fprintf(stderr, "measure: %s: %s\n", argv[4], std::strerror(errno));
    _exit(127);
  }
  const bool ended = wait_for_end(child, awaited, begin + std::atof(argv[2]));
  if (!ended) kill(-child, SIGKILL);
  int status = 0;
  rusage used{};
  while (wait4(child, &status, 0, &used) < 0 && errno == EINTR) {
  }
  const double wall = now() - begin;
  kill(-child, SIGKILL);  // whatever the program left behind in its group

  FILE* result = std::fopen(argv[1], "w");
  if (result == nullptr) {
    std::perror("measure: cannot write the result");
    return 2;
  }
  std::fprintf(result,
               "{\"timed_out\": %s, \"exit\": %d, \"signal\": %d, \"user\": %.6f, \"system\": %.6f, "
               "\"wall\": %.6f, \"max_rss_kib\": %ld, \"minor_faults\": %ld}\n",
               ended ? "false" : "true", WIFEXITED(status) ? WEXITSTATUS(status) : -1,
               WIFSIGNALED(status) ? WTERMSIG(status) : 0, seconds(used.ru_utime), seconds(used.ru_stime),
               wall, used.ru_maxrss, used.ru_minflt);
  return std::fclose(result) == 0 ? 0 : 2;
}
