// The time from starting a program to its end, for several environments in turn.
//
//   spawn_time COUNT PROGRAM ENVIRONMENT...     ENVIRONMENT: NAME=VALUE,NAME=VALUE or - for none
//
// Prints one line a start: the environment's number, nanoseconds, and the highest resident set in KiB. Linked
// statically and small, so that starting a program costs as little as it can.
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

long long now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<long long>(time.tv_sec) * 1000000000 + time.tv_nsec;
}

std::vector<char*> split(char* text) {
  std::vector<char*> parts;
  if (std::strcmp(text, "-") != 0) {
    for (char* part = std::strtok(text, ","); part != nullptr; part = std::strtok(nullptr, ","))
      parts.push_back(part);
  }
  parts.push_back(nullptr);
  return parts;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: spawn_time COUNT PROGRAM ENVIRONMENT...\n");
    return 2;
  }
  const int count = std::atoi(argv[1]), environments = argc - 3;
  std::vector<std::vector<char*>> environment;
  for (int i = 0; i < environments; ++i) environment.push_back(split(argv[3 + i]));
  char* arguments[] = {argv[2], nullptr};
  for (int round = 0; round < count; ++round) {
    for (int i = 0; i < environments; ++i) {
      const int which = (i + round) % environments;
      const long long begin = now();
      pid_t child = 0;
      int status = 0;
      rusage used{};
      if (posix_spawn(&child, argv[2], nullptr, nullptr, arguments,
                      environment[static_cast<size_t>(which)].data()) != 0 ||
          wait4(child, &status, 0, &used) != child || status != 0) {
        std::fprintf(stderr, "spawn_time: %s failed in environment %d (status %d)\n", argv[2], which, status);
        return 1;
      }
      std::printf("%d %lld %ld\n", which, now() - begin, used.ru_maxrss);
    }
  }
}
