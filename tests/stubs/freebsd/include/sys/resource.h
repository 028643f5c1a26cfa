#pragma once
#include <sys/types.h>
#define RLIMIT_FSIZE 1
struct rlimit {
  rlim_t rlim_cur, rlim_max;
};
#ifdef __cplusplus
extern "C" {
#endif
int getrlimit(int which, struct rlimit* out);
#ifdef __cplusplus
}
#endif
