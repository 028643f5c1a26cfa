// Whether this system could let a sweep read beside threads: asked without the library, whose word is tested.
#pragma once

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>

namespace support {

// Linux from 6.13 on, without a system call filter, and userfaultfd(2) is not refused.
inline bool writes_can_be_tracked() {
  utsname system{};
  int major = 0, minor = 0;
  if (uname(&system) != 0 || sscanf(system.release, "%d.%d", &major, &minor) != 2) return false;
  if (major < 6 || (major == 6 && minor < 13) || prctl(PR_GET_SECCOMP) != 0) return false;
  constexpr int kUserModeOnly = 1;
  const long fd = syscall(SYS_userfaultfd, O_CLOEXEC | kUserModeOnly);
  if (fd >= 0) close(static_cast<int>(fd));
  return fd >= 0;
}

}  // namespace support
