#pragma once
#include <sys/types.h>
#define STDERR_FILENO 2
#ifdef __cplusplus
extern "C" {
#endif
int close(int fd);
int getpagesize(void);
pid_t getpid(void);
int issetugid(void);
ssize_t write(int fd, const void* from, size_t size);
#ifdef __cplusplus
}
#endif
