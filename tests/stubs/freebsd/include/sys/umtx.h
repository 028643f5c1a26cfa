#pragma once
#include <sys/types.h>
#define UMTX_OP_WAIT_UINT_PRIVATE 15
#define UMTX_OP_WAKE_PRIVATE 16
#ifdef __cplusplus
extern "C" {
#endif
int _umtx_op(void* object, int operation, unsigned long value, void* address, void* timeout);
#ifdef __cplusplus
}
#endif
