/* Sandboxes: threads churn and sweep, then a filter forbids one system call to all of them, and they go on.
 * Each filter in a child of its own: with an error, with a SIGSYS whose handler makes it one (as browsers
 * do), and, for what only the helper calls, deadly. */
#include "func.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "dlmalloc_nonreuse.h"
#pragma weak nonreuse_get_statistics

struct filter {
  const char* name;
  int numbers[4];
  uint32_t action;
};
enum { kError = SECCOMP_RET_ERRNO | EPERM };
static const struct filter kFilters[] = {
    {"ptrace, error", {SYS_ptrace}, kError},
    {"ptrace, trap", {SYS_ptrace}, SECCOMP_RET_TRAP},
    {"ptrace, kill thread", {SYS_ptrace}, SECCOMP_RET_KILL_THREAD},
    {"ptrace, kill process", {SYS_ptrace}, SECCOMP_RET_KILL_PROCESS},
    {"clone, error", {SYS_clone, SYS_clone3}, kError},
    {"clone, trap", {SYS_clone, SYS_clone3}, SECCOMP_RET_TRAP},
    {"userfaultfd, error", {SYS_userfaultfd}, kError},
    {"userfaultfd, trap", {SYS_userfaultfd}, SECCOMP_RET_TRAP},
    {"ioctl, error", {SYS_ioctl}, kError},
    {"ioctl, trap", {SYS_ioctl}, SECCOMP_RET_TRAP},
    {"membarrier, trap", {SYS_membarrier}, SECCOMP_RET_TRAP},
    {"close_range and unshare, trap", {436, SYS_unshare}, SECCOMP_RET_TRAP},
    {"sched_getaffinity, kill process", {SYS_sched_getaffinity}, SECCOMP_RET_KILL_PROCESS},
};

static bool forbid(const struct filter* f) {
  struct sock_filter code[16];
  unsigned short length = 0;
  code[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (int i = 0; i < 4 && f->numbers[i] != 0; ++i) {
    code[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)f->numbers[i], 0, 1);
    code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, f->action);
  }
  code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  struct sock_fprog program = {length, code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return false;
  for (;;) {
    long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
    if (result == 0) return true;
    if (result < 0) return false;
  }
}

static void make_it_an_error(int number, siginfo_t* info, void* context) {
  (void)number, (void)info;
  ucontext_t* at = context;
#if defined(__x86_64__)
  at->uc_mcontext.gregs[REG_RAX] = -EPERM;
#elif defined(__aarch64__)
  at->uc_mcontext.regs[0] = (unsigned long long)-EPERM;
#else
  at->uc_mcontext.__gregs[REG_A0] = (unsigned long)-EPERM;
#endif
}

static uint64_t sweeps_done(void) {
  struct nonreuse_statistics now = {0};
  if (nonreuse_get_statistics) nonreuse_get_statistics(&now);
  return now.sweeps;
}

static void live_under(const struct filter* f) {
  alarm(60);
  struct sigaction action = {.sa_sigaction = make_it_an_error, .sa_flags = SA_SIGINFO};
  CHECK(sigaction(SIGSYS, &action, NULL) == 0);
  churners_start(3);
  for (int i = 0; i < 3; ++i) sweep();
  CHECK(sweeps_done() > 0);
  if (!forbid(f)) _exit(kSkip);
  uint64_t before = sweeps_done();
  for (int i = 0; i < 8; ++i) {
    churn_once(1 << 20, (uint64_t)i);
    sweep();
  }
  churners_end();
  churn_once(8 << 20, 3); /* alone */
  sweep();
  uint64_t after = sweeps_done();
  dprintf(1, "%-32s %lu sweeps\n", f->name, (unsigned long)(after - before));
  CHECK(after > before + 4);
  _exit(0);
}

int main(int argc, char** argv) {
  /* For trying it out: a system call's number, and an action as a number. */
  struct filter other = {
      "", {argc > 2 ? atoi(argv[1]) : 0}, argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 0) : 0};
  hold_some();
  /* "large": so that a stop that reads it takes milliseconds, and asks whether it might have help. */
  const size_t kLarge = (size_t)24 << 20;
  char* volatile large = argc == 2 ? malloc(kLarge) : NULL;
  if (argc == 2) memset(large, 1, kLarge);
  bool failed = false;
  for (size_t i = 0; i < (argc > 2 ? 1 : sizeof kFilters / sizeof *kFilters); ++i) {
    const struct filter* f = argc > 2 ? &other : &kFilters[i];
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) live_under(f);
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == kSkip) return skip("no seccomp filters here");
    if (status != 0) dprintf(1, "%s: the child ended with status %#x\n", f->name, (unsigned)status);
    failed = failed || status != 0;
  }
  return failed ? 1 : 0;
}
