#pragma once
#ifdef __cplusplus
extern "C" {
#endif
int* __error(void);
#ifdef __cplusplus
}
#endif
#define errno (*__error())
#define EPERM 1
#define EINTR 4
#define ENOMEM 12
#define EINVAL 22
#define EFBIG 27
#define EAGAIN 35
#define ENAMETOOLONG 63
