// Counts the locked instructions of malloc and free in the common case: none in malloc, and one in free,
// which is the claim of the chunk (none while the process has one thread). So threads share no lock and fight
// for no line.
//
// A child is executed instruction by instruction (ptrace(2), PTRACE_SINGLESTEP); what counts is every
// instruction with a lock prefix and every exchange with memory, between the entry of the function and its
// return. Calls that refill a thread's memory or seal its batch of freed chunks do take locks: they must be
// few.
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <thread>

#if defined(__x86_64__)

namespace {

constexpr int kSkip = 77;
constexpr int kBatch = 12, kBatches = 3;  // each step takes tens of microseconds under some hypervisors
constexpr int kCalls = kBatch * kBatches;

struct Case {
  const char* name;
  size_t size;
  bool other_thread;
  bool at_once;  // each block is freed before the next is allocated
};
constexpr Case kCases[] = {
    {"one thread, 24 bytes, freed at once", 24, false, true},
    {"two threads, 24 bytes, freed at once", 24, true, true},
    {"two threads, 100 bytes, in batches", 100, true, false},
    {"two threads, 400 bytes, in batches", 400, true, false},
};

volatile bool ended = false;
extern "C" __attribute__((noinline)) void counted_calls_end() {
  ended = true;
}

void churn(const Case& what, int batches) {
  void* volatile blocks[kBatch];
  for (int batch = 0; batch < batches; ++batch) {
    for (int i = 0; i < kBatch; ++i) {
      blocks[i] = malloc(what.size);
      *static_cast<volatile char*>(blocks[i]) = 1;
      if (what.at_once) free(blocks[i]);
    }
    for (int i = 0; i < kBatch && !what.at_once; ++i) free(blocks[i]);
  }
}

// The child: warm, then stopped, then counted.
[[noreturn]] void counted(const Case& what) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(kSkip);
  std::atomic<bool> at_work{false};
  std::thread other;
  if (what.other_thread) {
    other = std::thread([&] {
      for (;;) {
        churn(what, 1);
        at_work = true;
        usleep(1000);
      }
    });
    while (!at_work) usleep(1000);
  }
  churn(what, 200);
  raise(SIGSTOP);
  churn(what, kBatches);
  counted_calls_end();
  _exit(1);  // never reached: the parent ends it
}

// Whether the instruction at `at` locks the bus: our own memory holds the same code.
bool is_locked(const uint8_t* at) {
  bool lock = false;
  for (;; ++at) {
    if (*at == 0xf0) lock = true;
    const bool prefix = *at == 0xf0 || *at == 0x66 || *at == 0x67 || *at == 0xf2 || *at == 0xf3 ||
                        (*at & 0xe7) == 0x26 || *at == 0x64 || *at == 0x65 || (*at & 0xf0) == 0x40;
    if (!prefix) break;
  }
  const bool exchange = (*at & 0xfe) == 0x86 && (at[1] & 0xc0) != 0xc0;  // xchg with memory needs no prefix
  return lock || exchange;
}

struct Counts {
  uint64_t calls = 0, usual = 0, locked = 0, instructions = 0;
};

class Counter {
 public:
  explicit Counter(pid_t child) : child_(child) {}

  // `usual`: locked instructions that a common call has. False: the child did not do what it should.
  bool run(uint64_t usual_malloc, uint64_t usual_free) {
    usual_[0] = usual_malloc;
    usual_[1] = usual_free;
    for (;;) {
      user_regs_struct at{};
      if (ptrace(PTRACE_GETREGS, child_, nullptr, &at) != 0) return false;
      if (at.rip == reinterpret_cast<uintptr_t>(&counted_calls_end)) return true;
      look(at);
      int status = 0;
      if (ptrace(PTRACE_SINGLESTEP, child_, nullptr, nullptr) != 0 || waitpid(child_, &status, 0) != child_ ||
          !WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
        return false;
    }
  }
  const Counts& of_malloc() const { return counts_[0]; }
  const Counts& of_free() const { return counts_[1]; }

 private:
  void look(const user_regs_struct& at) {
    if (inside_ < 0) {
      for (int function = 0; function < 2; ++function) {
        if (at.rip == entries_[function]) inside_ = function;
      }
      if (inside_ < 0) return;
      back_ = static_cast<uintptr_t>(ptrace(PTRACE_PEEKDATA, child_, at.rsp, nullptr));
      locked_ = 0;
    } else if (at.rip == back_) {
      Counts& counts = counts_[inside_];
      ++counts.calls;
      counts.locked += locked_;
      if (locked_ == usual_[inside_]) ++counts.usual;
      inside_ = -1;
      return;
    }
    ++counts_[inside_].instructions;
    if (is_locked(reinterpret_cast<const uint8_t*>(at.rip))) ++locked_;
  }

  pid_t child_;
  const uintptr_t entries_[2] = {reinterpret_cast<uintptr_t>(dlsym(RTLD_DEFAULT, "malloc")),
                                 reinterpret_cast<uintptr_t>(dlsym(RTLD_DEFAULT, "free"))};
  int inside_ = -1;
  uintptr_t back_ = 0;
  uint64_t locked_ = 0;
  uint64_t usual_[2] = {};
  Counts counts_[2];
};

// Nine of ten calls must be common ones, and the rest must not make up for it.
bool holds(const char* function, const Counts& counts, uint64_t usual) {
  const double calls = static_cast<double>(counts.calls);
  const double mean = static_cast<double>(counts.locked) / calls;
  printf("  %-6s %llu of %llu calls with %llu locked instructions, %.3f on average; %.0f instructions\n",
         function, (unsigned long long)counts.usual, (unsigned long long)counts.calls,
         (unsigned long long)usual, mean, static_cast<double>(counts.instructions) / calls);
  return counts.calls == kCalls && counts.usual * 10 >= counts.calls * 9 &&
         mean <= static_cast<double>(usual) + 0.5;
}

// 0: as it must be, 1: not, kSkip: cannot be asked here.
int check(const Case& what) {
  const pid_t child = fork();
  if (child == 0) counted(what);
  int status = 0;
  if (waitpid(child, &status, 0) != child) return 1;
  if (WIFEXITED(status) && WEXITSTATUS(status) == kSkip) return kSkip;
  if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGSTOP) {
    printf("%s: the child did not get ready: status %#x\n", what.name, status);
    return 1;
  }
  const uint64_t in_free = what.other_thread ? 1 : 0;
  Counter counter(child);
  const bool complete = counter.run(0, in_free);
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  if (!complete) {
    printf("%s: stepping failed\n", what.name);
    return 1;
  }
  printf("%s:\n", what.name);
  const bool malloc_holds = holds("malloc", counter.of_malloc(), 0);
  return holds("free", counter.of_free(), in_free) && malloc_holds ? 0 : 1;
}

}  // namespace

int main() {
  setvbuf(stdout, nullptr, _IONBF, 0);
  if (dlsym(RTLD_DEFAULT, "nonreuse_get_statistics") == nullptr) {
    printf("the library is not preloaded\n");
    return 1;
  }
  int result = 0;
  for (const Case& what : kCases) {
    const int found = check(what);
    if (found == kSkip) {
      printf("skipped: this process may not be traced (ptrace)\n");
      return kSkip;
    }
    result |= found;
  }
  return result;
}

#else

int main() {
  printf("skipped: instructions are known for x86-64 alone\n");
  return 77;
}

#endif
