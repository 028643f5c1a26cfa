// What the library asks of the operating system besides memory: waiting, identity, time, a way to speak.
// None of these allocates or changes errno. One implementation a system: linux_os.cpp,
// freebsd_os.cpp.
#pragma once

#include <atomic>

#include "base/types.hpp"

#if defined(__GLIBC__) && __has_include(<sys/single_threaded.h>)
#include <sys/single_threaded.h>
#define NONREUSE_KNOWS_SINGLE_THREADED 1
#else
#define NONREUSE_KNOWS_SINGLE_THREADED 0
#endif

namespace nonreuse::os {

void cpu_pause();
void yield();

// Sleeps while *word == expected; may return early. futex(2); _umtx_op(2).
void futex_wait(std::atomic<uint32_t>* word, uint32_t expected);
void futex_wait(std::atomic<uint32_t>* word, uint32_t expected, uint64_t at_most_ns);
void futex_wake(std::atomic<uint32_t>* word, int count);

// A value that differs between live threads and is never 0.
Address thread_identity();
int process_id();  // asked of the kernel each time: true in a fork's child at once
int thread_id();

uint64_t now_ns();          // CLOCK_MONOTONIC
uint64_t wall_clock_ns();   // CLOCK_REALTIME
uint64_t process_cpu_ns();  // CPU time of all threads
uint64_t thread_cpu_ns();   // of the calling one
uint64_t random_word();     // for address randomisation; falls back to the clock

// Writes all of it to standard error, as far as that goes.
void write_error(const char* text, size_t size);
[[noreturn]] void die();  // abort(3): SIGABRT

// True when the process was started with more authority than its user has (AT_SECURE).
bool runs_privileged();
// True while the C library knows that the process has one thread; false when in doubt.
inline bool single_threaded() {
#if NONREUSE_KNOWS_SINGLE_THREADED
  return __libc_single_threaded != 0;
#else
  return false;
#endif
}
size_t page_size();

// Keeps the program's signal handlers out of the calling thread while it lives; they run afterwards. Signals
// that report a fault of the thread itself stay open, and so does the one by which Linux C libraries change
// all threads' user: locks may be waited for. sigprocmask(2), nptl(7).
class SignalsBlocked {
 public:
  SignalsBlocked();
  ~SignalsBlocked();
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  uint64_t before_[2];  // a set of signals, as the system has it
};

// True while the calling thread runs on an alternate signal stack (sigaltstack(2)) that lies in `range`.
bool on_signal_stack_in(Range range);
// Bytes (with the guard) of the stacks that the C library maps for threads that ask for no size of their own;
// as the limits were at the first call.
size_t default_stack_bytes();

// Maps the file `directory`/<process id> of `size` bytes shared and writable, creating it; nullptr where
// that fails. Keeps no descriptor.
void* map_shared_file(const char* directory, size_t size);
void unmap(void* address, size_t size);
// The kernel's name for this process, at most 15 characters and a NUL.
void command_name(char out[16]);

}  // namespace nonreuse::os
