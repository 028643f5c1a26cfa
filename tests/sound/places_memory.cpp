// Places in memory that belongs to no thread: static data, the heap, mappings of every kind.
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#include <iterator>

#include "sound/hold.hpp"

namespace hold {
namespace {

constexpr size_t kBytes = kMaxWords * sizeof(uintptr_t);  // one page

// Most places are an array of words somewhere: prepare() says where, these two do the rest.
Word* words;
void plant_words(const Secret* secrets, size_t count) {
  reveal_into(words, secrets, count);
}
void clear_words() {
  wipe(words, kMaxWords);
}

Word* map(size_t size, int protection, int flags, int file = -1) {
  void* p = mmap(nullptr, size, protection, flags, file, 0);
  if (p == MAP_FAILED) give_up("no mapping");
  return static_cast<Word*>(p);
}
constexpr int kReadWrite = PROT_READ | PROT_WRITE;
constexpr int kPrivate = MAP_PRIVATE | MAP_ANONYMOUS;

// ---- static data

Word in_bss[kMaxWords];
Word in_data[kMaxWords] = {1};
void prepare_bss() {
  words = in_bss;
}
void prepare_data() {
  words = in_data;
}
void prepare_frame() {
  words = main_frame;
}
void prepare_plugin_data() {
  words = plugin().page_words;
}

// The page of a library's data becomes read-only after it was written, as with RELRO.
void plant_read_only(const Secret* secrets, size_t count) {
  plant_words(secrets, count);
  if (mprotect(const_cast<uintptr_t*>(words), kBytes, PROT_READ) != 0) give_up("mprotect");
}
void clear_read_only() {
  if (mprotect(const_cast<uintptr_t*>(words), kBytes, kReadWrite) != 0) give_up("mprotect");
  clear_words();
}

// The environment's array, above every frame of the main stack. Nobody reads the environment any more.
void plant_environment(const Secret* secrets, size_t count) {
  reveal_into(environment_words, secrets, count);
}
size_t environment_size;
void prepare_environment() {
  environment_size = environment_capacity();
}
void clear_environment() {
  wipe(environment_words, environment_size);
}
const char* environment_missing() {
  return environment_capacity() < 64 ? "fewer than 64 variables in the environment" : nullptr;
}

// ---- the heap

void prepare_malloc() {
  words = static_cast<Word*>(malloc(kBytes));
}
void prepare_calloc() {
  words = static_cast<Word*>(calloc(1, kBytes));
}
void prepare_large() {
  char* p = static_cast<char*>(malloc(5000000));
  memset(p, 0, 5000000);
  words = reinterpret_cast<Word*>(p + 2500000 / 8 * 8);
}
void prepare_aligned() {
  void* p = nullptr;
  if (posix_memalign(&p, 65536, kBytes) != 0) give_up("out of memory");
  words = static_cast<Word*>(p);
}

// A list of objects, each of which holds one of the pointers; only the first is in a global.
struct Link {
  Link* next;
  Word word;
};
Link* chain;
void prepare_chain() {
  for (size_t i = 0; i < kMaxWords; ++i) {
    Link* link = static_cast<Link*>(malloc(sizeof(Link)));
    link->next = chain;
    link->word = 0;
    chain = link;
  }
}
void plant_chain(const Secret* secrets, size_t count) {
  Link* link = chain;
  for (size_t i = 0; i < count; ++i, link = link->next) reveal_into(&link->word, secrets + i, 1);
}
void clear_chain() {
  for (Link* link = chain; link != nullptr; link = link->next) link->word = 0;
}

// Freed objects, still pointed to from a global, into which the pointers are written after the free.
constexpr size_t kDangling = 8;
constexpr size_t kWordsOfDangling = kMaxWords / kDangling;
Word* dangling[kDangling];
void prepare_dangling() {
  for (Word*& p : dangling) p = static_cast<Word*>(malloc(kWordsOfDangling * sizeof(Word)));
  for (Word* p : dangling) free(const_cast<uintptr_t*>(p));
}
__attribute__((noinline)) void write_through_dangling(const Secret* secrets, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    reveal_into(&dangling[i / kWordsOfDangling][i % kWordsOfDangling], secrets + i, 1);
  }
}
void plant_dangling(const Secret* secrets, size_t count) {
  write_through_dangling(secrets, count);
  scrub();  // of the dangling pointers, too
}
void clear_dangling() {
  for (Word*& p : dangling) p = nullptr;
}

// The same of chunks that were held for so long that their pages were given back.
constexpr size_t kResting = size_t{256} << 10;
void prepare_resting() {
  for (Word*& p : dangling) {
    p = static_cast<Word*>(malloc(kResting));
    memset(const_cast<uintptr_t*>(p), 1, kResting);
  }
  for (Word* p : dangling) free(const_cast<uintptr_t*>(p));
  if (malloc_revoke == nullptr) return;  // the control
  for (int i = 0; i < 4; ++i) malloc_revoke();
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t middle = (reinterpret_cast<uintptr_t>(dangling[0]) + kResting / 2) / page * page;
  unsigned char resident = 0;
  if (mincore(reinterpret_cast<void*>(middle), 1, &resident) != 0 || (resident & 1) != 0)
    give_up("the pages of what is held were not given back");
}
__attribute__((noinline)) void write_through_resting(const Secret* secrets, size_t count) {
  constexpr size_t kApart = kResting / sizeof(Word) / kWordsOfDangling;
  for (size_t i = 0; i < count; ++i) {
    reveal_into(&dangling[i / kWordsOfDangling][i % kWordsOfDangling * kApart], secrets + i, 1);
  }
}
void plant_resting(const Secret* secrets, size_t count) {
  write_through_resting(secrets, count);
  scrub();
}

// ---- mappings

void prepare_private() {
  words = map(kBytes, kReadWrite, kPrivate);
}
// Alone, neither joined to a neighbour nor small: a stop of some length reads it without its having been
// armed.
constexpr size_t kMedium = size_t{700} << 10;
void prepare_medium() {
  constexpr size_t kGuard = 64 << 10;
  words = map(kMedium + 2 * kGuard, PROT_NONE, kPrivate | MAP_NORESERVE) + kGuard / sizeof(Word);
  if (mprotect(const_cast<uintptr_t*>(words), kMedium, kReadWrite) != 0) give_up("no mapping");
  words += kMedium / 2 / sizeof(Word);
}

// Grows and shrinks all the time between what is read in the stop and what is armed, at changing addresses.
pthread_mutex_t resizing = PTHREAD_MUTEX_INITIALIZER;
void* resize_without_end(void*) {
  size_t size = kMedium;
  for (unsigned turn = 0;; ++turn) {
    constexpr size_t kSizes[] = {size_t{16} << 20, kMedium, size_t{300} << 10, size_t{3} << 20};
    const size_t wanted = kSizes[turn % std::size(kSizes)];
    pthread_mutex_lock(&resizing);
    void* at = mremap(const_cast<uintptr_t*>(words), size, wanted, MREMAP_MAYMOVE);
    if (at == MAP_FAILED) give_up("no larger mapping");
    words = static_cast<Word*>(at);
    size = wanted;
    pthread_mutex_unlock(&resizing);
    usleep(500);
  }
  return nullptr;
}
void prepare_resized() {
  words = map(kMedium, kReadWrite, kPrivate);
}
void plant_resized(const Secret* secrets, size_t count) {
  plant_words(secrets, count);
  pthread_t thread;
  if (pthread_create(&thread, nullptr, resize_without_end, nullptr) != 0) give_up("no thread");
}
void clear_resized() {
  pthread_mutex_lock(&resizing);
  clear_words();
  pthread_mutex_unlock(&resizing);
}

void prepare_shared() {
  words = map(kBytes, kReadWrite, MAP_SHARED | MAP_ANONYMOUS);
}
void prepare_executable() {
  words = map(kBytes, kReadWrite | PROT_EXEC, kPrivate);
}

// Far inside a mapping of which nothing else is present.
void prepare_sparse() {
  words = map(size_t{8} << 30, kReadWrite, kPrivate | MAP_NORESERVE) + (size_t{5} << 30) / sizeof(Word);
}

void prepare_memory_file(int flags) {
  const int file = memfd_create("hold", 0);
  if (file < 0 || ftruncate(file, kBytes) != 0) give_up("memfd_create");
  words = map(kBytes, kReadWrite, flags, file);
  close(file);
}
void prepare_memfd_shared() {
  prepare_memory_file(MAP_SHARED);
}
void prepare_memfd_private() {
  prepare_memory_file(MAP_PRIVATE);
}

void prepare_file_private() {
  char path[] = "holdXXXXXX";  // in the folder that the test runs in
  const int file = mkstemp(path);
  if (file < 0 || unlink(path) != 0 || ftruncate(file, kBytes) != 0) give_up("no temporary file");
  words = map(kBytes, kReadWrite, MAP_PRIVATE, file);
  close(file);
}

void prepare_sysv() {
  const int id = shmget(IPC_PRIVATE, kBytes, IPC_CREAT | 0600);
  if (id < 0) give_up("shmget");
  void* p = shmat(id, nullptr, 0);
  shmctl(id, IPC_RMID, nullptr);
  if (p == reinterpret_cast<void*>(-1)) give_up("shmat");
  words = static_cast<Word*>(p);
}

// Written, then moved to another address.
void plant_moved(const Secret* secrets, size_t count) {
  plant_words(secrets, count);
  void* target = const_cast<uintptr_t*>(map(kBytes, PROT_NONE, kPrivate));
  void* p = mremap(const_cast<uintptr_t*>(words), kBytes, kBytes, MREMAP_MAYMOVE | MREMAP_FIXED, target);
  if (p == MAP_FAILED) give_up("mremap");
  words = static_cast<Word*>(p);
}

// ---- thread-specific values of the main thread

constexpr size_t kKeys = 64;
pthread_key_t keys[kKeys];
void prepare_keys() {
  for (pthread_key_t& key : keys) {
    if (pthread_key_create(&key, nullptr) != 0) give_up("pthread_key_create");
    pthread_setspecific(key, &key);
  }
}
__attribute__((noinline)) void set_keys(const Secret* secrets, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    pthread_setspecific(keys[i], reinterpret_cast<void*>(reveal(secrets[i])));
  }
}
void plant_keys(const Secret* secrets, size_t count) {
  set_keys(secrets, count);
  scrub();
}
void clear_keys() {
  for (pthread_key_t key : keys) pthread_setspecific(key, nullptr);
}

// ---- thread-local storage of the main thread

thread_local Word in_tls[kMaxWords];
void prepare_tls() {
  words = in_tls;
}
void prepare_plugin_tls() {
  words = plugin().thread_words();
}

constexpr Place kPlaces[] = {
    {"bss", kMaxWords, kAll, plant_words, clear_words, prepare_bss},
    {"data", kMaxWords, kAll, plant_words, clear_words, prepare_data},
    {"main_stack", kMaxWords, kMost, plant_words, clear_words, prepare_frame},
    {"environment", 64, kMost, plant_environment, clear_environment, prepare_environment,
     environment_missing},
    {"library_data", kMaxWords, kAll, plant_words, clear_words, prepare_plugin_data},
    {"library_data_read_only", kMaxWords, kAll, plant_read_only, clear_read_only, prepare_plugin_data},
    {"tls", kMaxWords, kAll, plant_words, clear_words, prepare_tls},
    {"library_tls", kMaxWords, kAll, plant_words, clear_words, prepare_plugin_tls},
    {"thread_specific", kKeys, kAll, plant_keys, clear_keys, prepare_keys},
    {"heap_malloc", kMaxWords, kAll, plant_words, clear_words, prepare_malloc},
    {"heap_calloc", kMaxWords, kAll, plant_words, clear_words, prepare_calloc},
    {"heap_aligned", kMaxWords, kAll, plant_words, clear_words, prepare_aligned},
    {"heap_large_middle", kMaxWords, kAll, plant_words, clear_words, prepare_large},
    {"heap_chain", kMaxWords, kAll, plant_chain, clear_chain, prepare_chain},
    {"heap_dangling", kMaxWords, kAll, plant_dangling, clear_dangling, prepare_dangling},
    {"heap_resting", kMaxWords, kMost, plant_resting, clear_dangling, prepare_resting},
    {"mmap_private", kMaxWords, kAll, plant_words, clear_words, prepare_private},
    {"mmap_medium", kMaxWords, kAll, plant_words, clear_words, prepare_medium},
    {"mmap_resized", kMaxWords, kAll, plant_resized, clear_resized, prepare_resized},
    {"mmap_shared_anonymous", kMaxWords, kAll, plant_words, clear_words, prepare_shared},
    {"mmap_executable", kMaxWords, kAll, plant_words, clear_words, prepare_executable},
    {"mmap_sparse", kMaxWords, kAll, plant_words, clear_words, prepare_sparse},
    {"mmap_moved", kMaxWords, kAll, plant_moved, clear_words, prepare_private},
    {"mmap_read_only", kMaxWords, kAll, plant_read_only, clear_read_only, prepare_private},
    {"memfd_shared", kMaxWords, kAll, plant_words, clear_words, prepare_memfd_shared},
    {"memfd_private", kMaxWords, kAll, plant_words, clear_words, prepare_memfd_private},
    {"file_private", kMaxWords, kAll, plant_words, clear_words, prepare_file_private},
    {"shared_sysv", kMaxWords, kAll, plant_words, clear_words, prepare_sysv},
};

}  // namespace

PlaceTable memory_places() {
  return {kPlaces, std::size(kPlaces)};
}

}  // namespace hold
