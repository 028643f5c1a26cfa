// Places that belong to a thread: stacks, parked or busy, other stacks than the thread's own, thread-local
// storage, and words on the move.
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <iterator>

#include "sound/hold.hpp"

namespace hold {

// ---- the keeper

void Keeper::start(Body body, const Secret* secrets, size_t count, Parking parking) {
  body_ = body;
  count_ = count;
  parking_ = parking;
  for (size_t i = 0; i < count; ++i) secrets_[i] = secrets[i];
  if (pipe(pipe_) != 0) give_up("pipe");
  if (pthread_create(&thread_, nullptr, run, this) != 0) give_up("no thread");
  wait_until_held();
}

void Keeper::wait_until_held() {
  while (!held_) sched_yield();
  usleep(20000);  // so that it is asleep by then
}

void Keeper::let_go() {
  pthread_mutex_lock(&mutex_);
  leave_ = 1;
  pthread_cond_broadcast(&condition_);
  pthread_mutex_unlock(&mutex_);
  if (write(pipe_[1], "x", 1) != 1) give_up("write");
  while (!wiped_) sched_yield();
}

// Only async-signal-safe calls where the parking is `read`: it is also used in a handler.
void Keeper::park() {
  held_ = true;
  switch (parking_) {
    case Parking::condition:
      pthread_mutex_lock(&mutex_);
      while (leave_ == 0) pthread_cond_wait(&condition_, &mutex_);
      pthread_mutex_unlock(&mutex_);
      break;
    case Parking::read: {
      char c;
      while (read(pipe_[0], &c, 1) < 0 && errno == EINTR) {
      }
      break;
    }
    case Parking::poll: {
      pollfd waiting = {pipe_[0], POLLIN, 0};
      while (poll(&waiting, 1, -1) < 0 && errno == EINTR) {
      }
      break;
    }
    case Parking::spin:
      while (leave_ == 0) {
      }
      break;
  }
}

void Keeper::sleep_for_ever() {
  for (;;) pause();
}

void* Keeper::run(void* self) {
  Keeper& keeper = *static_cast<Keeper*>(self);
  keeper.body_(keeper);
  scrub();
  keeper.say_wiped();
  keeper.sleep_for_ever();
}

namespace {

Keeper keeper;
void clear_keeper() {
  keeper.let_go();
}

template <Keeper::Body body, Keeper::Parking parking>
void plant_in_thread(const Secret* secrets, size_t count) {
  keeper.start(body, secrets, count, parking);
}

// ---- another thread's stack, thread-local storage, thread-specific values

void hold_on_stack(Keeper& k) {
  Word frame[kMaxWords];
  reveal_into(frame, k.secrets(), k.count());
  k.park();
  wipe(frame, kMaxWords);
}

// Deep in a stack, with a megabyte of dead and live frames on either side.
__attribute__((noinline)) void hold_deep(Keeper& k, unsigned depth) {
  char room[65536];
  asm volatile("" : : "r"(room) : "memory");  // the compiler must think it is used
  if (depth == 0) {
    hold_on_stack(k);
  } else {
    hold_deep(k, depth - 1);
  }
  asm volatile("" : : "r"(room) : "memory");
}
void hold_on_deep_stack(Keeper& k) {
  hold_deep(k, 16);
}

thread_local Word in_tls[kMaxWords];
void hold_in_tls(Keeper& k) {
  reveal_into(in_tls, k.secrets(), k.count());
  k.park();
  wipe(in_tls, kMaxWords);
}
void hold_in_plugin_tls(Keeper& k) {
  Word* words = plugin().thread_words();
  reveal_into(words, k.secrets(), k.count());
  k.park();
  wipe(words, kMaxWords);
}
void prepare_plugin() {
  plugin();
}

// ---- signal stacks

void* alternate_stack() {
  constexpr size_t kSize = 1 << 20;
  void* p = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) give_up("no mapping");
  stack_t stack = {};
  stack.ss_sp = p;
  stack.ss_size = kSize;
  if (sigaltstack(&stack, nullptr) != 0) give_up("sigaltstack");
  return p;
}
void on_signal(void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_ONSTACK;
  sigaction(SIGUSR2, &action, nullptr);
}

// The words are in the frame of a handler that runs on the alternate stack.
void handler_that_holds(int) {
  hold_on_stack(keeper);
}
void hold_on_signal_stack(Keeper&) {
  alternate_stack();
  on_signal(handler_that_holds);
  raise(SIGUSR2);
}

// The words are in the frame below, on the thread's own stack, while its stack pointer is in the alternate
// one.
void handler_that_parks(int) {
  keeper.park();
}
void hold_under_signal_stack(Keeper& k) {
  Word frame[kMaxWords];
  alternate_stack();
  on_signal(handler_that_parks);
  reveal_into(frame, k.secrets(), k.count());
  raise(SIGUSR2);
  wipe(frame, kMaxWords);
}

// ---- coroutines that are switched away

constexpr size_t kCoroutineStack = 256 << 10;
ucontext_t here, there;
const Secret* coroutine_secrets;
size_t coroutine_count;

void coroutine() {
  Word frame[kMaxWords];
  reveal_into(frame, coroutine_secrets, coroutine_count);
  swapcontext(&there, &here);
  wipe(frame, kMaxWords);
  scrub();
  swapcontext(&there, &here);
}
void plant_in_coroutine(const Secret* secrets, size_t count, void* stack) {
  coroutine_secrets = secrets;
  coroutine_count = count;
  getcontext(&there);
  there.uc_stack.ss_sp = stack;
  there.uc_stack.ss_size = kCoroutineStack;
  there.uc_link = nullptr;
  makecontext(&there, coroutine, 0);
  swapcontext(&here, &there);
  scrub();
}
void plant_in_malloced_coroutine(const Secret* secrets, size_t count) {
  plant_in_coroutine(secrets, count, malloc(kCoroutineStack));
}
void plant_in_mapped_coroutine(const Secret* secrets, size_t count) {
  plant_in_coroutine(
      secrets, count,
      mmap(nullptr, kCoroutineStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}
void clear_coroutine() {
  swapcontext(&here, &there);
  scrub();
}

// ---- words on the move: while the others churn, a thread carries every word from one array to another and
// back, so that at each moment it is in the one, in the other, or in a register only

Word low[kMaxWords];
Word* high;

__attribute__((noinline)) void carry(Word* from, Word* to, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const uintptr_t word = from[i];
    from[i] = 0;
    to[i] = word;
  }
}
void hold_on_the_move(Keeper& k) {
  void* p =
      mmap(nullptr, kMaxWords * sizeof(Word), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) give_up("no mapping");
  high = static_cast<Word*>(p);
  reveal_into(low, k.secrets(), k.count());
  k.say_held();
  while (k.leave() == 0) {
    carry(low, high, k.count());
    carry(high, low, k.count());
  }
  wipe(low, kMaxWords);
  wipe(high, kMaxWords);
}

// The same in an object that realloc moves all the time.
template <size_t small, size_t large>
void hold_in_realloc(Keeper& k) {
  static Word* object;
  object = static_cast<Word*>(malloc(small));
  memset(const_cast<uintptr_t*>(object), 0, small);
  reveal_into(object, k.secrets(), k.count());
  k.say_held();
  for (bool grow = true; k.leave() == 0; grow = !grow) {
    void* p = realloc(const_cast<uintptr_t*>(object), grow ? large : small);
    if (p == nullptr) give_up("out of memory");
    object = static_cast<Word*>(p);
    // Something in the way, so that it cannot grow and shrink at one address.
    free(malloc(small));
  }
  wipe(object, small / sizeof(Word));
  free(const_cast<uintptr_t*>(object));
  object = nullptr;
}

using Parking = Keeper::Parking;
constexpr Place kPlaces[] = {
    {"stack_condition", kMaxWords, kMost, plant_in_thread<hold_on_stack, Parking::condition>, clear_keeper},
    {"stack_read", kMaxWords, kMost, plant_in_thread<hold_on_stack, Parking::read>, clear_keeper},
    {"stack_poll", kMaxWords, kMost, plant_in_thread<hold_on_stack, Parking::poll>, clear_keeper},
    {"stack_busy", kMaxWords, kMost, plant_in_thread<hold_on_stack, Parking::spin>, clear_keeper},
    {"stack_deep", kMaxWords, kMost, plant_in_thread<hold_on_deep_stack, Parking::read>, clear_keeper},
    {"thread_tls", kMaxWords, kMost, plant_in_thread<hold_in_tls, Parking::read>, clear_keeper},
    {"thread_library_tls", kMaxWords, kMost, plant_in_thread<hold_in_plugin_tls, Parking::read>, clear_keeper,
     prepare_plugin},
    {"signal_stack", kMaxWords, kMost, plant_in_thread<hold_on_signal_stack, Parking::read>, clear_keeper},
    {"under_signal_stack", kMaxWords, kMost, plant_in_thread<hold_under_signal_stack, Parking::read>,
     clear_keeper},
    {"coroutine_malloced", kMaxWords, kMost, plant_in_malloced_coroutine, clear_coroutine},
    {"coroutine_mapped", kMaxWords, kMost, plant_in_mapped_coroutine, clear_coroutine},
    {"moving", kMaxWords, kMost, plant_in_thread<hold_on_the_move, Parking::spin>, clear_keeper},
    {"moving_realloc", 100, kMost, plant_in_thread<hold_in_realloc<1000, 60000>, Parking::spin>,
     clear_keeper},
    {"moving_realloc_large", kMaxWords, kMost,
     plant_in_thread<hold_in_realloc<2000000, 9000000>, Parking::spin>, clear_keeper},
};

}  // namespace

PlaceTable thread_places() {
  return {kPlaces, std::size(kPlaces)};
}

}  // namespace hold
