#pragma once
#include <sys/types.h>
#define O_RDWR 0x0002
#define O_NOFOLLOW 0x0100
#define O_CREAT 0x0200
#define O_TRUNC 0x0400
#define O_CLOEXEC 0x00100000
#ifdef __cplusplus
extern "C" {
#endif
int open(const char* path, int flags, ...);
int posix_fallocate(int fd, off_t offset, off_t length);
#ifdef __cplusplus
}
#endif
