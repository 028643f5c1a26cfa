#include "trace/stacks.hpp"

#include "base/report.hpp"
#include "platform/os.hpp"
#include "platform/report_channel.hpp"
#include "platform/saved_errno.hpp"

constinit nonreuse::HeapDescriptor nonreuse_heap_descriptor{};

namespace nonreuse::stacks {

namespace detail {
constinit std::atomic<bool> on{false};
}

namespace {

constexpr size_t kOwnFrames = 16;      // of the library itself and its companion, above the program's
constexpr size_t kBuckets = 1u << 19;  // of the index; twice as many as stacks that are likely
constexpr size_t kMostProbes = 64;
constexpr size_t kWordsWanted = 1u << 23;  // 64 MiB of addresses; what is not written to costs nothing
constexpr size_t kFewestWords = 1u << 17;

HeapDescriptor& book() {
  return nonreuse_heap_descriptor;
}

using More = void* (*)(size_t);
constinit More more_memory = nullptr;
constinit uint64_t* words = nullptr;
constinit std::atomic<uint32_t>* buckets = nullptr;
constinit std::atomic<ChunkRecord*>* blocks = nullptr;
constinit Range own_code{};

void count_dropped() {
  __atomic_fetch_add(&book().dropped, 1, __ATOMIC_RELAXED);
}

// Fork waits for those who are inside, and nobody enters meanwhile.
constinit std::atomic<uint32_t> inside{0};
constinit std::atomic<bool> closed{false};
__thread bool in_unwinder __attribute__((tls_model("initial-exec"))) = false;

bool enter() {
  if (in_unwinder) return false;
  inside.fetch_add(1);
  if (!closed.load()) {
    in_unwinder = true;
    return true;
  }
  inside.fetch_sub(1);
  return false;
}

void leave() {
  in_unwinder = false;
  inside.fetch_sub(1);
}

// Frames of the calling thread from the program's first on; their number.
size_t unwind(uint64_t (&out)[kMostFrames]) {
  if (nonreuse_capture_stack == nullptr) return 0;
  const SavedErrno saved;
  if (!enter()) return 0;
  uint64_t frames[kMostFrames + kOwnFrames];
  const size_t count = nonreuse_capture_stack(frames, kMostFrames + kOwnFrames);
  leave();
  size_t first = 0;
  while (first < count && own_code.contains(frames[first])) ++first;
  size_t kept = 0;
  while (first < count && kept < kMostFrames) out[kept++] = frames[first++];
  return kept;
}

uint64_t hash_of(const uint64_t* frames, size_t count) {
  uint64_t hash = count;
  for (size_t i = 0; i < count; ++i) {
    hash = (hash ^ frames[i]) * 0x9e3779b97f4a7c15ULL;
    hash ^= hash >> 29;
  }
  return hash;
}

bool is_same(StackId id, const uint64_t* frames, size_t count) {
  if (words[id] != count) return false;
  for (size_t i = 0; i < count; ++i) {
    if (words[id + 1 + i] != frames[i]) return false;
  }
  return true;
}

StackId write(const uint64_t* frames, size_t count) {
  HeapDescriptor& b = book();
  if (__atomic_load_n(&b.next_word, __ATOMIC_RELAXED) + count + 1 > b.stack_words) return kUnknownStack;
  const uint64_t at = __atomic_fetch_add(&b.next_word, count + 1, __ATOMIC_RELAXED);
  if (at + count + 1 > b.stack_words) return kUnknownStack;
  words[at] = count;
  for (size_t i = 0; i < count; ++i) words[at + 1 + i] = frames[i];
  return static_cast<StackId>(at);
}

StackId intern(const uint64_t* frames, size_t count) {
  const uint64_t hash = hash_of(frames, count);
  StackId written = kNoStack;
  for (size_t probe = 0; probe < kMostProbes; ++probe) {
    std::atomic<uint32_t>& bucket = buckets[(hash + probe) % kBuckets];
    uint32_t id = bucket.load(std::memory_order_acquire);
    if (id == kNoStack) {
      if (written == kNoStack) written = write(frames, count);
      if (written == kUnknownStack) break;
      if (bucket.compare_exchange_strong(id, written, std::memory_order_release, std::memory_order_acquire))
        return written;
    }
    if (is_same(id, frames, count)) return id;
  }
  count_dropped();
  return kUnknownStack;
}

ChunkRecord* find(Granule start) {
  const uint64_t index = start >> kBlockShift;
  if (index >= book().block_count) return nullptr;
  ChunkRecord* block = blocks[index].load(std::memory_order_acquire);
  return block == nullptr ? nullptr : block + (start & ((Granule{1} << kBlockShift) - 1));
}

ChunkRecord* find_or_make(Granule start) {
  if (ChunkRecord* record = find(start); record != nullptr) return record;
  const uint64_t index = start >> kBlockShift;
  if (index < book().block_count) {
    auto* fresh = static_cast<ChunkRecord*>(more_memory(sizeof(ChunkRecord) << kBlockShift));
    ChunkRecord* none = nullptr;  // who comes second leaves its addresses unused
    if (fresh != nullptr) blocks[index].compare_exchange_strong(none, fresh, std::memory_order_acq_rel);
  }
  ChunkRecord* record = find(start);
  if (record == nullptr) count_dropped();
  return record;
}

// Of the thread that forked, the child has another number.
constinit std::atomic<uint32_t> generation{1};

uint64_t word_of(StackId stack) {
  static __thread uint64_t thread __attribute__((tls_model("initial-exec"))) = 0;
  static __thread uint32_t asked __attribute__((tls_model("initial-exec"))) = 0;
  if (const uint32_t now = generation.load(std::memory_order_relaxed); asked != now) {
    asked = now;
    thread = static_cast<uint64_t>(os::thread_id()) & ((uint64_t{1} << kThreadBits) - 1);
  }
  return stack | thread << kStackBits;
}

uint64_t freed_word(StackId stack) {
  const uint64_t epoch = __atomic_load_n(&book().epoch, __ATOMIC_RELAXED);
  return word_of(stack) | epoch << (kStackBits + kThreadBits);
}

void store(uint64_t& word, uint64_t value) {
  __atomic_store_n(&word, value, __ATOMIC_RELAXED);
}

}  // namespace

bool start(void* (*more)(size_t bytes), Granules capacity) {
  HeapDescriptor& b = book();
  more_memory = more;
  own_code = os::own_code();
  const uint64_t count = (capacity >> kBlockShift) + 1;
  blocks = static_cast<std::atomic<ChunkRecord*>*>(more(count * sizeof *blocks));
  buckets = static_cast<std::atomic<uint32_t>*>(more(kBuckets * sizeof *buckets));
  size_t wanted = kWordsWanted;
  for (; words == nullptr && wanted >= kFewestWords; wanted /= 4) {
    words = static_cast<uint64_t*>(more(wanted * sizeof *words));
    b.stack_words = wanted;
  }
  if (blocks == nullptr || buckets == nullptr || words == nullptr) {
    constexpr char kLine[] =
        "nonreuse: stacks=1: there is no memory for a table of stacks; none are recorded\n";
    os::write_error(kLine, sizeof kLine - 1);
    return false;
  }
  b.block_count = count;
  b.blocks = address_of(blocks);
  b.stacks = address_of(words);
  b.next_word = kUnknownStack + 1;  // no frames at kNoStack and kUnknownStack
  b.unwinder = nonreuse_capture_stack != nullptr ? 1 : 0;
  if (b.unwinder == 0) {
    constexpr char kLine[] =
        "nonreuse: stacks=1: libnonreuse_stacks.so is not loaded (nonreuse run preloads it); threads and "
        "ages of "
        "frees are recorded, stacks are not\n";
    os::write_error(kLine, sizeof kLine - 1);
  }
  detail::on.store(true, std::memory_order_relaxed);
  return true;
}

StackId capture() {
  uint64_t frames[kMostFrames];
  const size_t count = unwind(frames);
  return count == 0 ? kUnknownStack : intern(frames, count);
}

void capture(RecordedStack& out) {
  out.thread = static_cast<uint64_t>(os::thread_id());
  out.count = unwind(out.frames);
}

void copy(StackId id, RecordedStack& out) {
  out.count = id <= kUnknownStack ? 0 : words[id];
  for (size_t i = 0; i < out.count; ++i) out.frames[i] = words[id + 1 + i];
}

void note_made(Granule start, StackId stack) {
  ChunkRecord* record = find_or_make(start);
  if (record == nullptr) return;
  store(record->freed, 0);
  store(record->made, word_of(stack));
}

void note_freed(Granule start, StackId stack) {
  ChunkRecord* record = find_or_make(start);
  if (record == nullptr) return;
  uint64_t none = 0;
  __atomic_compare_exchange_n(&record->freed, &none, freed_word(stack), false, __ATOMIC_RELAXED,
                              __ATOMIC_RELAXED);
}

void take_back(Granule start) {
  if (ChunkRecord* record = find(start); record != nullptr) store(record->freed, 0);
}

void note_cut(Granule start, Granule of, StackId stack) {
  const ChunkRecord whole = record(of);
  ChunkRecord* cut = find_or_make(start);
  if (cut == nullptr) return;
  store(cut->made, whole.made);
  store(cut->freed, freed_word(stack));
}

ChunkRecord record(Granule start) {
  const ChunkRecord* record = find(start);
  if (record == nullptr) return {};
  return {__atomic_load_n(&record->made, __ATOMIC_RELAXED),
          __atomic_load_n(&record->freed, __ATOMIC_RELAXED)};
}

void before_fork() {
  if (!recording()) return;
  closed.store(true);
  const uint32_t self = in_unwinder ? 1 : 0;
  // Nobody stays inside for long; who does was stopped there.
  const uint64_t until = os::now_ns() + 1'000'000'000;
  while (inside.load() > self && os::now_ns() < until) os::yield();
}

void after_fork_in_parent() {
  closed.store(false);
}

void after_fork_in_child() {
  generation.fetch_add(1, std::memory_order_relaxed);
  inside.store(in_unwinder ? 1 : 0);
  closed.store(false);
}

}  // namespace nonreuse::stacks
