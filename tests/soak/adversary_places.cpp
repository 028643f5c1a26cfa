// The places between which references hop.
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <iterator>

#include "soak/adversary.hpp"

namespace adversary {
namespace {

#define ADVERSARY_ALONE __attribute__((noinline))

thread_local Word thread_word{0};

// Mostly short; one in `seldom` long enough for a sweep to fall into.
unsigned some_spins(uint64_t& random, unsigned seldom) {
  const uint64_t r = next_random(random);
  return 1 + static_cast<unsigned>(r % seldom == 0 ? (r >> 8) % 100000 : (r >> 8) % 200);
}

// What came back must be what went: `code` is its complement.
void check_kept(uintptr_t code, const Word& hand) {
  if (~hand.load() != code) fail("a word that held a reference was changed");
}

// In a register that calls preserve, and nowhere else.
ADVERSARY_ALONE void hold_in_register(Hopper& hopper, Word& hand) {
  unsigned spins = some_spins(hopper.random, 16);
  uintptr_t v = hand.exchange(0);
#if defined(__x86_64__)
  asm volatile("1: dec %1\n jnz 1b" : "+b"(v), "+r"(spins) : : "cc");
#else
  while (spins-- != 0) asm volatile("" : "+r"(v));
#endif
  hand.exchange(v);
  forget(v);
  wipe_registers();
}

// In a preserved register across calls, which save it on the stack and restore it.
ADVERSARY_ALONE void hold_across_calls(Hopper& hopper, Word& hand) {
  uintptr_t v = hand.exchange(0);
  asm volatile("" : "+r"(v));
  work(hopper.random);
  asm volatile("" : "+r"(v));
  hand.exchange(v);
  forget(v);
  scrub();
}

ADVERSARY_ALONE void hold_in_vector_register(Hopper& hopper, Word& hand) {
#if defined(__x86_64__)
  unsigned spins = some_spins(hopper.random, 2);
  uintptr_t v = hand.exchange(0);
  asm volatile(
      "movq %0, %%xmm9\n xor %k0, %k0\n"
      "1: dec %1\n jnz 1b\n"
      "movq %%xmm9, %0\n pxor %%xmm9, %%xmm9"
      : "+r"(v), "+r"(spins)
      :
      : "xmm9", "cc");
  hand.exchange(v);
  forget(v);
  wipe_registers();
#else
  hold_in_register(hopper, hand);
#endif
}

// From the hand into a word, `between`, and back.
template <class Between>
inline __attribute__((always_inline)) void hold_in(PlainWord& place, Word& hand, Between between) {
  uintptr_t v = hand.exchange(0);
  const uintptr_t code = ~v;
  place = v;
  forget(v);
  wipe_registers();
  between();
  v = place;
  place = 0;
  hand.exchange(v);
  forget(v);
  wipe_registers();
  check_kept(code, hand);
  wipe_registers();
}

ADVERSARY_ALONE void hold_on_stack(Hopper& hopper, Word& hand) {
  PlainWord frame[16] = {};
  hold_in(frame[hopper.random % 16], hand, [&] { work(hopper.random); });
}

// At the near end of a deep stack.
ADVERSARY_ALONE void work_deep_down(Hopper& hopper) {
  [[maybe_unused]] volatile char frame[40000];
  frame[0] = 1;
  work(hopper.random);
  frame[0] = 0;
}
ADVERSARY_ALONE void hold_on_deep_stack(Hopper& hopper, Word& hand) {
  PlainWord frame[16] = {};
  hold_in(frame[hopper.random % 16], hand, [&] { work_deep_down(hopper); });
}

ADVERSARY_ALONE void hold_in_thread_local(Hopper& hopper, Word& hand) {
  hold_in(*reinterpret_cast<PlainWord*>(&thread_word), hand, [&] { work(hopper.random); });
}

ADVERSARY_ALONE void hold_in_global(Hopper& hopper, Word& hand) {
  hold_in(*reinterpret_cast<PlainWord*>(hopper.own_global), hand, [&] { work(hopper.random); });
}

size_t block_size(uint64_t& random, size_t most = 200000) {
  const uint64_t r = next_random(random);
  return 8 + (r >> 8) % (r % 32 == 0 ? most : 600);
}

PlainWord& word_of(void* block, size_t size, uint64_t random) {
  return static_cast<PlainWord*>(block)[random % (size / sizeof(uintptr_t))];
}

ADVERSARY_ALONE void hold_in_block(Hopper& hopper, Word& hand) {
  const size_t size = block_size(hopper.random);
  void* block = checked_malloc(size);
  hold_in(word_of(block, size, hopper.random >> 20), hand, [&] { work(hopper.random); });
  free(block);
}

// realloc copies it.
ADVERSARY_ALONE void hold_in_growing_block(Hopper& hopper, Word& hand) {
  const size_t size = block_size(hopper.random);
  void* block = checked_malloc(size);
  const size_t index = (hopper.random >> 20) % (size / sizeof(uintptr_t));
  const uintptr_t code = ~hand.load();
  static_cast<Word*>(block)[index].store(hand.load());
  hand.store(0);
  scrub();
  for (size_t factor = 2; factor <= 4; ++factor) {
    work(hopper.random);
    block = realloc(block, size * factor);
    if (block == nullptr) give_up("out of memory");
    check_fresh(block);
    scrub();
  }
  hand.store(static_cast<Word*>(block)[index].exchange(0));
  check_kept(code, hand);
  wipe_registers();
  free(block);
  scrub();
}

// ---- mode held: in chunks that are freed themselves, one held by the next, the last by the stack.

ADVERSARY_ALONE void hold_in_freed_chunks(Hopper& hopper, Word& hand) {
  constexpr size_t kDepth = 3;
  constexpr size_t kMost = 30000;  // writing into larger ones may trap: the option `unmap` is at least 32K
  size_t sizes[kDepth];
  PlainWord* blocks[kDepth] = {};
  for (size_t i = 0; i < kDepth; ++i) {
    sizes[i] = block_size(hopper.random, kMost);
    blocks[i] = static_cast<PlainWord*>(checked_malloc(sizes[i]));
  }
  // Only the first stays known; each of the others is known by the one before.
  size_t at[kDepth];
  for (size_t i = 0; i < kDepth; ++i) at[i] = next_random(hopper.random) % (sizes[i] / sizeof(uintptr_t));
  PlainWord* volatile first = blocks[0];
  for (PlainWord* block : blocks) free(const_cast<uintptr_t*>(block));
  for (size_t i = 0; i + 1 < kDepth; ++i) blocks[i][at[i]] = reinterpret_cast<uintptr_t>(blocks[i + 1]);
  const uintptr_t code = ~hand.load();
  blocks[kDepth - 1][at[kDepth - 1]] = hand.load();
  for (PlainWord*& block : blocks) *const_cast<PlainWord* volatile*>(&block) = nullptr;
  hand.store(0);
  scrub();

  work(hopper.random);
  work(hopper.random);

  PlainWord* block = first;
  for (size_t i = 0; i + 1 < kDepth; ++i) {
    auto* next = reinterpret_cast<PlainWord*>(block[at[i]]);
    if (next == nullptr) fail("a freed chunk that is referenced was changed");
    block[at[i]] = 0;
    block = next;
  }
  hand.store(block[at[kDepth - 1]]);
  block[at[kDepth - 1]] = 0;
  first = nullptr;
  check_kept(code, hand);
  scrub();
}

// ---- modes mremap and remap

char* map_pages(size_t bytes, int protection) {
  void* p = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) give_up("mmap");
  return static_cast<char*>(p);
}

size_t some_pages(uint64_t& random) {
  return size_t{4096} << (next_random(random) % 5);
}

// The pages that hold it move, three times: away, into more room, and away again, leaving empty pages.
ADVERSARY_ALONE void hold_in_moving_pages(Hopper& hopper, Word& hand) {
  size_t bytes = some_pages(hopper.random);
  char* pages = map_pages(bytes, PROT_READ | PROT_WRITE);
  const size_t index = (hopper.random >> 20) % (bytes / sizeof(uintptr_t));
  const uintptr_t code = ~hand.load();
  reinterpret_cast<Word*>(pages)[index].store(hand.load());
  hand.store(0);
  scrub();
  for (int move = 0; move < 3; ++move) {
    work(hopper.random);
    const size_t grown = move == 1 ? bytes * 2 : bytes;
    char* to = map_pages(grown, PROT_NONE);
    int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
#ifdef MREMAP_DONTUNMAP
    if (move == 2) flags |= MREMAP_DONTUNMAP;
#endif
    void* moved = mremap(pages, bytes, grown, flags, to);
    if (moved != to) {  // before Linux 5.7 nothing is left behind
      flags = MREMAP_MAYMOVE | MREMAP_FIXED;
      if (mremap(pages, bytes, grown, flags, to) != to) give_up("mremap");
    } else if (flags != (MREMAP_MAYMOVE | MREMAP_FIXED)) {
      munmap(pages, bytes);
    }
    pages = to;
    bytes = grown;
  }
  work(hopper.random);
  hand.store(reinterpret_cast<Word*>(pages)[index].exchange(0));
  check_kept(code, hand);
  munmap(pages, bytes);
  scrub();
}

// The pages that hold it are copied, and the old ones unmapped.
ADVERSARY_ALONE void hold_in_copied_pages(Hopper& hopper, Word& hand) {
  const size_t bytes = some_pages(hopper.random);
  char* pages = map_pages(bytes, PROT_READ | PROT_WRITE);
  const size_t index = (hopper.random >> 20) % (bytes / sizeof(uintptr_t));
  const uintptr_t code = ~hand.load();
  reinterpret_cast<Word*>(pages)[index].store(hand.load());
  hand.store(0);
  scrub();
  for (int move = 0; move < 3; ++move) {
    work(hopper.random);
    char* to = map_pages(bytes, PROT_READ | PROT_WRITE);
    memcpy(to, pages, bytes);
    munmap(pages, bytes);
    pages = to;
    scrub();
  }
  work(hopper.random);
  hand.store(reinterpret_cast<Word*>(pages)[index].exchange(0));
  check_kept(code, hand);
  munmap(pages, bytes);
  scrub();
}

}  // namespace

// ---- modes read and recv

// A thread that receives references. The sender's hand keeps its copy until the courier has the other one.
struct Courier {
  Mode mode;
  uint64_t random;
  int ends[2];  // to receive from, to send to
  std::atomic<Word*> sender{nullptr};
  pthread_t thread;
};

namespace {

// Receives one word into *to, by one of several calls. False at the end.
bool receive_word(Courier& courier, void* to, uint64_t way) {
  char* bytes = static_cast<char*>(to);
  iovec halves[2] = {{bytes, 4}, {bytes + 4, 4}};
  msghdr message{};
  message.msg_iov = halves;
  message.msg_iovlen = 2;
  for (;;) {
    ssize_t got;
    if (courier.mode == Mode::read) {
      got = way % 2 == 0 ? read(courier.ends[0], to, 8) : readv(courier.ends[0], halves, 2);
    } else {
      got = way % 2 == 0 ? recv(courier.ends[0], to, 8, 0) : recvmsg(courier.ends[0], &message, 0);
    }
    if (got == 8) return true;
    if (got == 0) return false;
    if (got > 0 || errno != EINTR) give_up("a reference did not arrive in one piece");
  }
}

// The reference is in *place: the sender's copy goes, and it is put into the pool.
ADVERSARY_ALONE void accept_into_pool(Courier& courier, PlainWord& place) {
  Word* sender = courier.sender.exchange(nullptr);
  const uintptr_t code = ~sender->load();
  Word& word = *reinterpret_cast<Word*>(const_cast<uintptr_t*>(&place));
  check_kept(code, word);
  sender->store(0);
  scrub();
  work(courier.random);
  put_down(word, courier.random);
}

ADVERSARY_ALONE bool receive_once(Courier& courier) {
  const uint64_t r = next_random(courier.random);
  const uint64_t way = r >> 8;
  PlainWord frame[16] = {};
  switch (r % 4) {
    case 0: {
      if (!receive_word(courier, const_cast<uintptr_t*>(&frame[3]), way)) return false;
      accept_into_pool(courier, frame[3]);
      return true;
    }
    case 1: {
      if (!receive_word(courier, &thread_word, way)) return false;
      accept_into_pool(courier, *reinterpret_cast<PlainWord*>(&thread_word));
      return true;
    }
    case 2: {
      const size_t size = block_size(courier.random);
      void* block = checked_malloc(size);
      PlainWord& word = word_of(block, size, way);
      const bool received = receive_word(courier, const_cast<uintptr_t*>(&word), way);
      if (received) accept_into_pool(courier, word);
      free(block);
      return received;
    }
    default: {
      // Into a page that nothing was ever written to.
      const size_t bytes = some_pages(courier.random);
      char* pages = map_pages(bytes, PROT_READ | PROT_WRITE);
      PlainWord& word = word_of(pages, bytes, way);
      const bool received = receive_word(courier, const_cast<uintptr_t*>(&word), way);
      if (received) accept_into_pool(courier, word);
      munmap(pages, bytes);
      return received;
    }
  }
}

void* run_courier(void* self) {
  while (receive_once(*static_cast<Courier*>(self))) {
  }
  return nullptr;
}

ADVERSARY_ALONE void send_by_courier(Hopper& hopper, Word& hand) {
  Courier& courier = *hopper.courier;
  courier.sender.store(&hand);
  for (;;) {
    const ssize_t sent = courier.mode == Mode::read ? write(courier.ends[1], &hand, sizeof hand)
                                                    : send(courier.ends[1], &hand, sizeof hand, 0);
    if (sent == sizeof hand) break;
    if (sent >= 0 || errno != EINTR) give_up("a reference was not sent in one piece");
  }
  while (hand.load() != 0) sched_yield();
  scrub();
}

}  // namespace

Courier* start_courier(Mode mode, uint64_t seed) {
  auto* courier = new Courier{};
  courier->mode = mode;
  courier->random = seed;
  const bool made =
      mode == Mode::read ? pipe(courier->ends) == 0 : socketpair(AF_UNIX, SOCK_STREAM, 0, courier->ends) == 0;
  if (!made || pthread_create(&courier->thread, nullptr, run_courier, courier) != 0) give_up("no courier");
  return courier;
}

void end_courier(Courier* courier) {
  if (courier->mode == Mode::read)
    close(courier->ends[1]);
  else
    shutdown(courier->ends[1], SHUT_WR);
  pthread_join(courier->thread, nullptr);
  close(courier->ends[0]);
  if (courier->mode != Mode::read) close(courier->ends[1]);
  delete courier;
}

void visit_some_place(Mode mode, Hopper& hopper, Word& hand) {
  const uint64_t r = next_random(hopper.random);
  if (r % 4 == 0) {
    switch (mode) {
      case Mode::mremap:
        return hold_in_moving_pages(hopper, hand);
      case Mode::remap:
        return hold_in_copied_pages(hopper, hand);
      case Mode::held:
        return hold_in_freed_chunks(hopper, hand);
      case Mode::read:
      case Mode::recv:
        return send_by_courier(hopper, hand);
      default:
        break;
    }
  }
  using Place = void (*)(Hopper&, Word&);
  constexpr Place kPlaces[] = {hold_in_register,  hold_in_register,   hold_in_register,
                               hold_across_calls, hold_across_calls,  hold_in_vector_register,
                               hold_on_stack,     hold_on_deep_stack, hold_in_thread_local,
                               hold_in_global,    hold_in_block,      hold_in_growing_block};
  kPlaces[(r >> 8) % std::size(kPlaces)](hopper, hand);
}

}  // namespace adversary
