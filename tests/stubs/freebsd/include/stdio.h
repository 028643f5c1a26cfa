#pragma once
#include <sys/types.h>
typedef struct stdio_file FILE;
#ifdef __cplusplus
extern "C" {
#endif
int fprintf(FILE* stream, const char* format, ...);
#ifdef __cplusplus
}
#endif
