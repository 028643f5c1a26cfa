// Under an emulator of a process (qemu-user) the kernel's lists describe the emulator's process: its own
// threads are among those listed, and the list of mappings that the program is shown is rewritten by it.
//
// Its threads run no code of the program's and hold no pointer of the program's in registers, so a sweep may
// leave them alone; and it has to, since they take no signal for the program. Which they are is known only
// where they could be looked at while the program had no other thread than the one that looks. Where that was
// missed they count as the program's, every stop fails, and nothing is released.
#pragma once

#include "base/types.hpp"
#include "platform/attributes.hpp"

namespace nonreuse::emulator {

inline constexpr size_t kMostThreads = 4;

struct Known {
  bool present;         // this process' instructions are carried out by a program for another machine
  size_t thread_count;  // of its own threads, as far as they are known
  int threads[kMostThreads];
};
extern Known known;  // changes while the process has one thread only

NONREUSE_READS_ANY_MEMORY NONREUSE_ALWAYS_INLINE bool present() {
  return known.present;
}
NONREUSE_READS_ANY_MEMORY NONREUSE_ALWAYS_INLINE size_t thread_count() {
  return known.thread_count;
}
NONREUSE_READS_ANY_MEMORY NONREUSE_ALWAYS_INLINE bool owns_thread(int tid) {
  for (size_t i = 0; i < known.thread_count; ++i) {
    if (known.threads[i] == tid) return true;
  }
  return false;
}

// In a fork's child, which has one thread of the program's, and new ones of the emulator's.
void after_fork_in_child();

}  // namespace nonreuse::emulator
