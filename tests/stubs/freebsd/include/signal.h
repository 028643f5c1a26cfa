#pragma once
#include <sys/types.h>
#define SIGILL 4
#define SIGTRAP 5
#define SIGABRT 6
#define SIGFPE 8
#define SIGBUS 10
#define SIGSEGV 11
#define SIGSYS 12
#if defined(__CHERI_PURE_CAPABILITY__)
#define SIGPROT 34
#endif
#define SIG_BLOCK 1
#define SIG_SETMASK 3
#define SS_ONSTACK 0x0001
typedef struct {
  uint32_t bits[4];
} sigset_t;
typedef struct {
  void* ss_sp;
  size_t ss_size;
  int ss_flags;
} stack_t;
#ifdef __cplusplus
extern "C" {
#endif
int sigfillset(sigset_t* set);
int sigdelset(sigset_t* set, int signal);
int sigaltstack(const stack_t* to, stack_t* from);
int pthread_sigmask(int how, const sigset_t* to, sigset_t* from);
#ifdef __cplusplus
}
#endif
