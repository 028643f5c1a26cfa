// Programs with dangling pointers, each kept in another kind of place, and with misuse of the heap.
//   planted KIND [clear]     with `clear` the pointer is taken away again
// Functions are not inlined: the tests look for them by name.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__clang__)
#define KEEP __attribute__((noinline))
#else
#define KEEP __attribute__((noinline, noclone))
#endif

static int clear;
static size_t request = 200;  // bytes
char* planted_global[3];
static __thread char* planted_thread_local;
static volatile int ready, go_on;

// The pointer is passed on in this form, so that no copy of it stays behind in a dead frame.
#define HIDDEN 0x5a5a5a5a5a5a5a5aul

KEEP static uintptr_t make_chunk(void) {
  return (uintptr_t)malloc(request) ^ HIDDEN;
}
KEEP static void drop_chunk(uintptr_t hidden) {
  free((void*)(hidden ^ HIDDEN));
}
KEEP static void drop_again(uintptr_t hidden) {
  free((void*)(hidden ^ HIDDEN));
}
KEEP static void plant(char** place, uintptr_t hidden, size_t offset) {
  *(char* volatile*)place = (char*)(hidden ^ HIDDEN) + offset;
}
KEEP static void take_away(char** place) {
  if (clear) *(char* volatile*)place = NULL;
}
// Overwrites what calls have left on the stack.
KEEP static void wipe(void) {
  volatile char dead[8192];
  for (size_t i = 0; i < sizeof dead; ++i) dead[i] = 0;
}
KEEP static void done(void) {
  wipe();
  const char* live = getenv("PLANTED_LIVE");
  if (live != NULL) {
    printf("ready\n");
    fflush(stdout);
    while (getchar() != EOF) {
    }
  }
  exit(0);
}

KEEP static void in_global(void) {
  const uintptr_t hidden = make_chunk();
  plant(&planted_global[1], hidden, 0);
  drop_chunk(hidden);
  take_away(&planted_global[1]);
  done();
}

KEEP static void in_thread_local(void) {
  const uintptr_t hidden = make_chunk();
  plant(&planted_thread_local, hidden, 0);
  drop_chunk(hidden);
  take_away(&planted_thread_local);
  done();
}

KEEP static void interior(void) {
  const uintptr_t hidden = make_chunk();
  plant(&planted_global[2], hidden, 72);
  drop_chunk(hidden);
  take_away(&planted_global[2]);
  done();
}

KEEP static void holding_frame(uintptr_t hidden) {
  char* local[4] = {0};
  plant(&local[2], hidden, 0);
  drop_chunk(hidden);
  take_away(&local[2]);
  wipe();
  ready = 1;
  while (!go_on) usleep(1000);
  plant(local, (uintptr_t)local[2], 0);
}
static void* hold_on_stack(void* unused) {
  holding_frame(make_chunk());
  return unused;
}
KEEP static void on_stack(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, hold_on_stack, NULL);
  while (!ready) usleep(1000);
  done();
}

KEEP static void holding_register(uintptr_t hidden) {
  drop_chunk(hidden);
  wipe();
#if defined(__x86_64__)
  __asm__ volatile(
      "mov %0, %%rbx\n xor %1, %%rbx\n test %2, %2\n jz 1f\n xor %%ebx, %%ebx\n"
      // What clearing the chunk has left.
      "1: xor %%edi, %%edi\n xor %%esi, %%esi\n xor %%r8d, %%r8d\n xor %%r9d, %%r9d\n xor %%r10d, %%r10d\n"
      "xor %%r11d, %%r11d\n movl $1, %3\n"
      "2: pause\n cmpl $0, %4\n je 2b\n"
      :
      : "a"(hidden), "c"(HIDDEN), "d"(clear), "m"(ready), "m"(go_on)
      : "rbx", "rdi", "rsi", "r8", "r9", "r10", "r11", "memory");
#elif defined(__aarch64__)
  __asm__ volatile(
      "eor x19, %0, %1\n cbz %w2, 1f\n mov x19, #0\n1: mov w20, #1\n str w20, %3\n"
      "2: ldr w20, %4\n cbz w20, 2b\n"
      :
      : "r"(hidden), "r"(HIDDEN), "r"(clear), "m"(ready), "m"(go_on)
      : "x19", "x20", "memory");
#endif
}
static void* hold_in_register(void* unused) {
  holding_register(make_chunk());
  return unused;
}
KEEP static void in_register(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, hold_in_register, NULL);
  while (!ready) usleep(1000);
  done();
}

KEEP static char** make_owner(void) {
  return calloc(8, sizeof(char*));
}
KEEP static void in_heap(void) {
  static char** owner;
  owner = make_owner();
  const uintptr_t hidden = make_chunk();
  plant(&owner[3], hidden, 0);
  drop_chunk(hidden);
  take_away(&owner[3]);
  done();
}

KEEP static void in_mapping(void) {
  char** memory = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const uintptr_t hidden = make_chunk();
  plant(&memory[512], hidden, 0);
  drop_chunk(hidden);
  take_away(&memory[512]);
  done();
}

KEEP static void write_into(uintptr_t first, uintptr_t second) {
  plant((char**)(first ^ HIDDEN) + 5, second, 0);
}
// The chain: a global points to a freed chunk, into which a pointer to another freed one was written.
KEEP static void chain(void) {
  const uintptr_t second = make_chunk();
  drop_chunk(second);
  request = 1000;
  const uintptr_t first = make_chunk();
  drop_chunk(first);
  write_into(first, second);
  plant(&planted_global[0], first, 0);
  take_away(&planted_global[0]);
  done();
}

KEEP static void large(void) {
  request = 48 << 20;
  in_global();
}

KEEP static void child(void) {
  const uintptr_t hidden = make_chunk();
  plant(&planted_global[1], hidden, 0);
  const pid_t process = fork();
  if (process == 0) {
    drop_chunk(hidden);
    take_away(&planted_global[1]);
    done();
  }
  waitpid(process, NULL, 0);
  planted_global[1] = NULL;
  exit(0);
}

extern int malloc_revoke(void) __attribute__((weak));

// Three sweeps find the chunk pointed to.
KEEP static void aged(void) {
  const uintptr_t hidden = make_chunk();
  plant(&planted_global[1], hidden, 0);
  drop_chunk(hidden);
  wipe();
  for (int i = 0; i < 3; ++i) malloc_revoke();
  done();
}

// Many chunks from the same place: one group.
KEEP static void many(void) {
  static char* places[100];
  for (int i = 0; i < 100; ++i) {
    const uintptr_t hidden = make_chunk();
    plant(&places[i], hidden, 0);
    drop_chunk(hidden);
  }
  done();
}

// Only freed chunks that nothing points to point to the first.
KEEP static void unreferenced(void) {
  const uintptr_t second = make_chunk(), first = make_chunk();
  drop_chunk(second);
  drop_chunk(first);
  write_into(first, second);
  done();
}

static void* allocate_some(void* unused) {
  for (size_t i = 0; i < 20; ++i) free(malloc(i % 2000));
  return unused;
}
// A new thread's stacks are unwound slowly, with locks.
static void* stay_busy(void* unused) {
  while (!go_on) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, allocate_some, NULL) == 0) pthread_join(thread, NULL);
  }
  return unused;
}
// Children of a process whose threads are recording stacks at every moment.
KEEP static void busy_forks(void) {
  pthread_t threads[3];
  for (int i = 0; i < 3; ++i) pthread_create(&threads[i], NULL, stay_busy, NULL);
  for (int i = 0; i < 60; ++i) {
    const pid_t process = fork();
    if (process == 0) {
      pthread_t thread;
      pthread_create(&thread, NULL, allocate_some, NULL);
      pthread_join(thread, NULL);
      _exit(0);
    }
    int status = 0;
    waitpid(process, &status, 0);
    if (status != 0) exit(3);
  }
  go_on = 1;
  for (int i = 0; i < 3; ++i) pthread_join(threads[i], NULL);
  printf("60 children\n");
  exit(0);
}

// ---- misuse ---------------------------------------------------------------------------------------------

KEEP static void freed_twice(void) {
  const uintptr_t hidden = make_chunk();
  drop_chunk(hidden);
  drop_again(hidden);
}

static uintptr_t handed_over;
static void* drop_in_thread(void* unused) {
  drop_chunk(handed_over);
  return unused;
}
KEEP static void freed_by_thread(void) {
  handed_over = make_chunk();
  pthread_t thread;
  pthread_create(&thread, NULL, drop_in_thread, NULL);
  pthread_join(thread, NULL);
  drop_again(handed_over);
}

KEEP static void freed_inside(void) {
  const uintptr_t hidden = make_chunk();
  free((char*)(hidden ^ HIDDEN) + 32);
}

KEEP static void resized(void) {
  char* small = malloc(100);
  const uintptr_t old = (uintptr_t)small ^ HIDDEN;
  char* big = realloc(small, 5000);
  big[0] = 1;
  drop_again(old);
}

// Made larger, then smaller in place: the chunk is that of the first realloc.
KEEP static void grown(void) {
  char* small = malloc(100);
  const uintptr_t hidden = (uintptr_t)realloc(small, 50000) ^ HIDDEN;
  if (realloc((void*)(hidden ^ HIDDEN), 20000) != (void*)(hidden ^ HIDDEN)) return;
  drop_chunk(hidden);
  drop_again(hidden);
}

// ---- faults ---------------------------------------------------------------------------------------------

KEEP static int touch(uintptr_t hidden) {
  return ((volatile char*)(hidden ^ HIDDEN))[4096 + 16];
}
// Still pointed to, as where it matters: else a sweep may release it, and make it accessible again, at once.
KEEP static uintptr_t freed_large(void) {
  static char* kept;
  request = 48 << 20;
  const uintptr_t hidden = make_chunk();
  plant(&kept, hidden, 0);
  drop_chunk(hidden);
  return hidden;
}
static void say(const char* text) {
  if (write(1, text, strlen(text)) < 0) _exit(9);
}
static void* alternate;
static void on_signal(int number) {
  char here;
  say(number == SIGSEGV ? "handler\n" : "what?\n");
  if (alternate != NULL) {
    const int on_it = (uintptr_t)&here - (uintptr_t)alternate < 65536;
    say(on_it ? "alternate stack\n" : "ordinary stack\n");
  }
  _exit(7);
}
static void on_information(int number, siginfo_t* info, void* context) {
  (void)context;
  say(number == SIGSEGV && info->si_code == SEGV_ACCERR ? "information\n" : "what?\n");
  on_signal(number);
}
static void use_alternate_stack(void) {
  alternate = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const stack_t stack = {.ss_sp = alternate, .ss_size = 65536};
  sigaltstack(&stack, NULL);
}

KEEP static void fault_default(void) {
  touch(freed_large());
}
KEEP static void fault_signal(void) {
  if (signal(SIGSEGV, on_signal) != SIG_DFL) say("not the default before\n");
  if (signal(SIGSEGV, on_signal) != on_signal) say("not my handler\n");
  touch(freed_large());
}
KEEP static void fault_sigaction(int flags) {
  struct sigaction action, old;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = on_information;
  action.sa_flags = SA_SIGINFO | flags;
  sigaction(SIGSEGV, &action, NULL);
  memset(&old, 0, sizeof old);
  sigaction(SIGSEGV, NULL, &old);
  if (old.sa_sigaction != on_information || old.sa_flags != action.sa_flags) say("not my handler\n");
  touch(freed_large());
}
KEEP static void fault_onstack(void) {
  use_alternate_stack();
  fault_sigaction(SA_ONSTACK);
}
KEEP static void fault_offstack(void) {
  use_alternate_stack();
  fault_sigaction(0);
}
static uintptr_t second_fault;
static void faults_again(int number) {
  (void)number;
  say("first\n");
  touch(second_fault);
}
// The handler is gone after its first call, and does not block the signal: the second fault is the default's.
KEEP static void fault_once(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = faults_again;
  action.sa_flags = SA_RESETHAND | SA_NODEFER;
  sigaction(SIGSEGV, &action, NULL);
  second_fault = freed_large();
  touch(second_fault);
}
KEEP static void fault_elsewhere(void) {
  signal(SIGSEGV, on_signal);
  *(volatile int*)16 = 1;
}
KEEP static void sent(void) {
  kill(getpid(), SIGSEGV);
  pause();
}
KEEP static void sent_ignored(void) {
  signal(SIGSEGV, SIG_IGN);
  kill(getpid(), SIGSEGV);
  say("ignored\n");
  exit(0);
}
KEEP static void vfork_child(void) {
  signal(SIGSEGV, on_signal);
  const pid_t process = vfork();
  if (process == 0) {
    signal(SIGSEGV, SIG_DFL);
    _exit(0);
  }
  waitpid(process, NULL, 0);
  touch(freed_large());
}

int main(int count, char** words) {
  static const struct {
    const char* name;
    void (*run)(void);
  } kinds[] = {{"global", in_global},
               {"thread_local", in_thread_local},
               {"interior", interior},
               {"stack", on_stack},
               {"register", in_register},
               {"heap", in_heap},
               {"mapping", in_mapping},
               {"chain", chain},
               {"large", large},
               {"child", child},
               {"aged", aged},
               {"many", many},
               {"unreferenced", unreferenced},
               {"busy_forks", busy_forks},
               {"freed_twice", freed_twice},
               {"freed_by_thread", freed_by_thread},
               {"freed_inside", freed_inside},
               {"resized", resized},
               {"grown", grown},
               {"fault_default", fault_default},
               {"fault_signal", fault_signal},
               {"fault_onstack", fault_onstack},
               {"fault_offstack", fault_offstack},
               {"fault_once", fault_once},
               {"fault_elsewhere", fault_elsewhere},
               {"sent", sent},
               {"sent_ignored", sent_ignored},
               {"vfork_child", vfork_child}};
  if (count < 2) return 2;
  clear = count > 2;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; ++i) {
    if (strcmp(words[1], kinds[i].name) == 0) kinds[i].run();
  }
  return 2;
}
