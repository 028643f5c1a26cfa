#pragma once
#include <sys/types.h>
#define PTHREAD_CANCEL_ENABLE 0
#define PTHREAD_CANCEL_DISABLE 1
#define PTHREAD_DESTRUCTOR_ITERATIONS 4
typedef int pthread_key_t;
#ifdef __cplusplus
extern "C" {
#endif
int pthread_atfork(void (*before)(void), void (*parent)(void), void (*child)(void));
int pthread_key_create(pthread_key_t* key, void (*destructor)(void*));
int pthread_setcancelstate(int to, int* from);
int pthread_setspecific(pthread_key_t key, const void* value);
#ifdef __cplusplus
}
#endif
