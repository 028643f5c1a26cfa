// What of os.hpp is the same on every system.
#include <time.h>

#include "platform/os.hpp"

namespace nonreuse::os {
namespace {

uint64_t clock_ns(clockid_t clock) {
  // clock_gettime(3) cannot fail for these clocks. It takes no lock; on Linux it uses the vDSO.
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(t.tv_nsec);
}

}  // namespace

void cpu_pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

uint64_t now_ns() {
  return clock_ns(CLOCK_MONOTONIC);
}
uint64_t wall_clock_ns() {
  return clock_ns(CLOCK_REALTIME);
}
uint64_t process_cpu_ns() {
  return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}
uint64_t thread_cpu_ns() {
  return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

}  // namespace nonreuse::os
