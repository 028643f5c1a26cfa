#include "platform/probes.hpp"

#if NONREUSE_HAS_PROBES
// Where tools expect them.
#define NONREUSE_SEMAPHORE(name) \
  __attribute__((section(".probes"))) constinit unsigned short nonreuse_##name##_semaphore = 0
extern "C" {
NONREUSE_SEMAPHORE(malloc);
NONREUSE_SEMAPHORE(free);
NONREUSE_SEMAPHORE(realloc);
NONREUSE_SEMAPHORE(sweep_begin);
NONREUSE_SEMAPHORE(sweep_end);
NONREUSE_SEMAPHORE(stop_begin);
NONREUSE_SEMAPHORE(stop_end);
NONREUSE_SEMAPHORE(release);
}
#endif
