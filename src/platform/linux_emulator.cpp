#include "platform/linux_emulator.hpp"

#include <elf.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "platform/linux_syscall.hpp"
#include "platform/os.hpp"

namespace nonreuse::emulator {

constinit Known known{};

namespace {

#if defined(__x86_64__)
constexpr uint16_t kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr uint16_t kMachine = EM_AARCH64;
#else
constexpr uint16_t kMachine = EM_RISCV;
#endif

// Whether the kernel runs a file for another machine than this code is for. Emulators show the program's own
// file as /proc/self/exe, but not by this name.
bool runs_on_another_machine() {
  const long fd = sys::call(SYS_openat, AT_FDCWD, "/proc/thread-self/exe", O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (sys::failed(fd)) return false;
  struct {
    unsigned char identity[EI_NIDENT];
    uint16_t type, machine;
  } head{};
  const long got = sys::call(SYS_read, fd, &head, sizeof head);
  sys::call(SYS_close, fd);
  return got == sizeof head && memcmp(head.identity, ELFMAG, SELFMAG) == 0 && head.machine != kMachine;
}

// Every thread of the list but the calling one. False where there are more than expected.
bool note_others() {
  struct Entry {
    uint64_t inode;
    int64_t offset;
    uint16_t length;
    uint8_t type;
    char name[1];
  };
  alignas(Entry) char listing[512];
  const long fd = sys::call(SYS_openat, AT_FDCWD, "/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (sys::failed(fd)) return false;
  const int self = os::thread_id();
  size_t count = 0;
  long filled;
  while ((filled = sys::call(SYS_getdents64, fd, listing, sizeof listing)) > 0) {
    for (long at = 0; at < filled;) {
      const auto* entry = reinterpret_cast<const Entry*>(listing + at);
      at += entry->length;
      int tid = 0;
      for (const char* digit = entry->name; *digit >= '0' && *digit <= '9'; ++digit)
        tid = tid * 10 + (*digit - '0');
      if (tid == 0 || tid == self) continue;  // 0: "." and ".."
      if (count < kMostThreads) known.threads[count] = tid;
      ++count;
    }
  }
  sys::call(SYS_close, fd);
  if (filled != 0 || count > kMostThreads) return false;
  known.thread_count = count;
  return true;
}

// unshare(2) does nothing for a process of one thread when it is asked for this alone, and refuses otherwise.
// To look at the process's own directory in /proc takes as long as all else that the library does at a start.
// A filter may end a process for calls that it does not know.
bool has_one_thread() {
  if (!sys::filtered()) return !sys::failed(sys::call(SYS_unshare, CLONE_THREAD));
  struct stat status;
  constexpr nlink_t kOneThread = 3;
  return sys::failed(sys::call(SYS_newfstatat, AT_FDCWD, "/proc/self/task", &status, 0)) ||
         status.st_nlink == kOneThread;
}

// Before the program starts any thread, unless the library is loaded late. On a machine of its own a process
// has one thread now, and that is all that is asked.
__attribute__((constructor(101))) void at_start() {
  if (has_one_thread() || !runs_on_another_machine()) return;
  known.present = true;
  if (os::single_threaded()) note_others();
}

}  // namespace

void after_fork_in_child() {
  known.thread_count = 0;
  if (known.present) note_others();
}

}  // namespace nonreuse::emulator
