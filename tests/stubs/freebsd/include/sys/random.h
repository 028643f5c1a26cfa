#pragma once
#include <sys/types.h>
#define GRND_NONBLOCK 0x1
#ifdef __cplusplus
extern "C" {
#endif
ssize_t getrandom(void* to, size_t size, unsigned int flags);
#ifdef __cplusplus
}
#endif
