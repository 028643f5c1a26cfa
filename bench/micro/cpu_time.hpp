// CPU time of the calling thread, for parts of an iteration: on a machine that does other work as well, the
// time on the clock says little.
#pragma once

#include <time.h>

#include <algorithm>

namespace bench {

inline double cpu_s() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

// Seconds between two calls of cpu_s(), less what a call itself takes.
inline double took(double begin, double end) {
  static const double clock = [] {
    double least = 1;
    for (int i = 0; i < 1000; ++i) {
      const double from = cpu_s();
      least = std::min(least, cpu_s() - from);
    }
    return least;
  }();
  return std::max(end - begin - clock, 1e-12);
}

}  // namespace bench
