#pragma once
#include <sys/types.h>
#define PROT_NONE 0x00
#define PROT_READ 0x01
#define PROT_WRITE 0x02
#define PROT_MAX(protection) ((protection) << 16)
#define MAP_SHARED 0x0001
#define MAP_PRIVATE 0x0002
#define MAP_FIXED 0x0010
#define MAP_ANON 0x1000
#define MAP_GUARD 0x00002000
#define MAP_FAILED ((void*)-1)
#ifdef __cplusplus
extern "C" {
#endif
void* mmap(void* at, size_t size, int protection, int flags, int fd, off_t offset);
int munmap(void* at, size_t size);
#ifdef __cplusplus
}
#endif
