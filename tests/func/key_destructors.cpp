// Allocates and frees while a thread ends: in thread_local destructors, and in each of the four rounds in
// which a thread-specific value may come back.
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

extern "C" int malloc_revoke(void) __attribute__((weak));

namespace {

void check(bool condition, const char* what) {
  if (condition) return;
  dprintf(1, "%s does not hold\n", what);
  _exit(1);
}

pthread_key_t keys[3];
std::atomic<int> rounds;

struct Value {
  int round;
  char bytes[500];
};

// Frees what it is given and sets a new value, as often as POSIX lets it.
template <int key>
void destroy(void* argument) {
  auto* value = static_cast<Value*>(argument);
  for (char c : value->bytes) check(c == key + 1, "a thread-specific value keeps its contents");
  const int round = value->round + 1;
  rounds.fetch_add(1);
  free(value);
  for (int i = 0; i < 200; ++i) free(malloc(static_cast<size_t>(i) * 13));
  if (round == PTHREAD_DESTRUCTOR_ITERATIONS) return;
  auto* next = static_cast<Value*>(malloc(sizeof(Value)));
  next->round = round;
  memset(next->bytes, key + 1, sizeof next->bytes);
  pthread_setspecific(keys[key], next);
}

struct Local {
  std::vector<std::string> words;
  std::unique_ptr<char[]> large;
  ~Local() {
    for (const std::string& word : words)
      check(word == "a word longer than any short string", "a word is intact");
    words.resize(500, "allocated in a destructor, where the thread is about to end");
    large.reset();
  }
};
thread_local Local local;

void* body(void*) {
  local.words.assign(100, "a word longer than any short string");
  local.large = std::make_unique<char[]>(100000);
  for (int key = 0; key < 3; ++key) {
    auto* value = static_cast<Value*>(malloc(sizeof(Value)));
    value->round = 0;
    memset(value->bytes, key + 1, sizeof value->bytes);
    pthread_setspecific(keys[key], value);
  }
  return nullptr;
}

size_t resident_bytes() {
  char text[128] = {};
  FILE* file = fopen("/proc/self/statm", "r");
  check(file != nullptr && fgets(text, sizeof text, file) != nullptr, "statm can be read");
  fclose(file);
  char* at = text;
  strtoul(at, &at, 10);
  return strtoul(at, nullptr, 10) * 4096;
}

}  // namespace

int main() {
  pthread_key_create(&keys[0], destroy<0>);
  pthread_key_create(&keys[1], destroy<1>);
  pthread_key_create(&keys[2], destroy<2>);
  size_t early = 0;
  for (int i = 0; i < 800; i += 4) {
    pthread_t threads[4];
    for (pthread_t& thread : threads) check(pthread_create(&thread, nullptr, body, nullptr) == 0, "a thread");
    for (pthread_t thread : threads) pthread_join(thread, nullptr);
    if (i % 100 == 0 && malloc_revoke) malloc_revoke();
    if (i == 400) early = resident_bytes();
  }
  check(rounds == 800 * 3 * PTHREAD_DESTRUCTOR_ITERATIONS, "every destructor ran four times");
  check(resident_bytes() < early + (16u << 20), "nothing grows");
  return 0;
}
