/* Under a filter that forbids system calls that a sweep would like to make, the program goes on churning:
 * what is referenced is not reused, and what a sweep cannot do without is said in one line. argv[1]: one of
 * the groups below, or all; argv[2]: early, to set the filter before anything else. */
#include "func.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

struct rule {
  const char* group;
  int number;
};
static const struct rule kRules[] = {
    {"ptrace", SYS_ptrace},    {"readv", SYS_process_vm_readv},
    {"open", SYS_openat},
#ifdef SYS_open
    {"open", SYS_open},
#endif
    {"uffd", SYS_userfaultfd}, {"ioctl", SYS_ioctl},
    {"madvise", SYS_madvise},  {"membarrier", SYS_membarrier},
    {"kill", SYS_tgkill},
};

static void forbid(const char* group) {
  struct sock_filter filter[2 * sizeof kRules / sizeof *kRules + 2];
  unsigned short length = 0;
  filter[length++] =
      (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (size_t i = 0; i < sizeof kRules / sizeof *kRules; ++i) {
    if (strcmp(group, kRules[i].group) != 0 && strcmp(group, "all") != 0) continue;
    filter[length++] =
        (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)kRules[i].number, 0, 1);
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
  }
  CHECK(length > 1);
  filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  struct sock_fprog program = {length, filter};
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

int main(int argc, char** argv) {
  CHECK(argc >= 2);
  hold_some();
  if (argc < 3) {
    churn_in_threads(2, 16 << 20);
    sweep();
  }
  forbid(argv[1]);
  churn_once(64u << 20, 1);
  churn_in_threads(3, 32u << 20);
  sweep();
  churners_start(3);
  for (int i = 0; i < 5; ++i) {
    churn_once(8u << 20, 2);
    sweep();
  }
  churners_end();
  return 0;
}
