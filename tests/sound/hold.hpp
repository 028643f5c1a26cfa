// The soundness tests: one program keeps the only pointer to each of some freed chunks in one place, churns,
// and looks whether anything is allocated over them; then it clears the place and looks whether their memory
// comes back.
//
// A place is where the pointers are kept. The rest of the program knows the chunks by secrets only, the
// complement of an address, which no sweep can take for a pointer. Whoever handles a plain address does so in
// a function of its own and scrubs stack and registers afterwards.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

extern "C" int malloc_revoke(void) __attribute__((weak));

namespace hold {

using Word = volatile uintptr_t;

// An address that must not be found by a sweep.
struct Secret {
  uintptr_t complement = 0;
};
inline Secret conceal(const void* p) {
  return {~reinterpret_cast<uintptr_t>(p)};
}
inline uintptr_t reveal(Secret s) {
  return ~s.complement;
}

inline constexpr size_t kMaxWords = 512;

struct Place {
  const char* name;
  size_t capacity;          // pointers it can keep, at most kMaxWords
  unsigned reused_percent;  // of the chunks, at least so many must come back once the place is cleared
  void (*plant)(const Secret* secrets, size_t count);  // puts the plain pointers into the place
  void (*clear)();                                     // removes every trace of them
  void (*prepare)() = nullptr;                         // before the chunks are allocated
  const char* (*missing)() = nullptr;  // why the place cannot be had on this machine, or nullptr
};

// Places where only their owner ever puts the word give back everything; on stacks and in registers a stale
// copy may survive in a slot that is not written again.
inline constexpr unsigned kAll = 100;
inline constexpr unsigned kMost = 90;

// The tables of the other files.
struct PlaceTable {
  const Place* places;
  size_t count;
};
PlaceTable memory_places();
PlaceTable thread_places();
PlaceTable register_places();

// Ends the program: the test could not be made. Never a verdict on the library.
[[noreturn]] void give_up(const char* what);

// Overwrites the dead part of the stack and the caller-saved registers of the calling thread.
void scrub();

// Writes plain pointers into words, and scrubs.
void reveal_into(Word* words, const Secret* secrets, size_t count);
void wipe(Word* words, size_t count);

// The array in main's own frame, and the environment's array above it.
extern Word* main_frame;
extern Word* environment_words;
size_t environment_capacity();

// The library with its own data and thread-local storage; loaded on the first call.
struct Plugin {
  Word* (*thread_words)();  // kMaxWords of the calling thread
  Word* page_words;         // kMaxWords, alone on their page of initialised data
};
const Plugin& plugin();

// A thread that holds words: fills its storage, says so, stays parked until told to let go, wipes it, says
// so, and sleeps until the process ends.
class Keeper {
 public:
  enum class Parking { condition, read, poll, spin };
  using Body = void (*)(Keeper&);

  void start(Body body, const Secret* secrets, size_t count, Parking parking);
  void let_go();

  // For the body.
  const Secret* secrets() const { return secrets_; }
  size_t count() const { return count_; }
  void park();  // says that the words are in place; returns when told to let go
  void say_held() { held_.store(true); }
  void say_wiped() { wiped_.store(true); }
  std::atomic<uint32_t>& leave() { return leave_; }
  pthread_t thread() const { return thread_; }
  void wait_until_held();

 private:
  static void* run(void* self);
  [[noreturn]] void sleep_for_ever();

  Body body_ = nullptr;
  Secret secrets_[kMaxWords];
  size_t count_ = 0;
  Parking parking_ = Parking::condition;
  pthread_t thread_{};
  int pipe_[2] = {-1, -1};
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t condition_ = PTHREAD_COND_INITIALIZER;
  std::atomic<uint32_t> leave_{0};
  std::atomic<bool> held_{false};
  std::atomic<bool> wiped_{false};
};

}  // namespace hold
