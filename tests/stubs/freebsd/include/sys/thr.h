#pragma once
#ifdef __cplusplus
extern "C" {
#endif
int thr_self(long* id);
#ifdef __cplusplus
}
#endif
