// The quarantine (freebuf): sealed batches and large chunks that wait to be painted, and the books about
// them. Chunks are never touched here; consolidation happens in the shadow, where neighbours' bits touch.
//
// Thread-safety: functions that say "locked" need the caller to hold lock(); the figures are atomic.
#pragma once

#include <atomic>
#include <new>

#include "base/types.hpp"
#include "platform/address_space.hpp"
#include "platform/lock.hpp"
#include "revoke/batch.hpp"
#include "revoke/shadow.hpp"

namespace nonreuse {

struct LargeChunk {
  enum class State : uint8_t { waiting, painted, held };
  Run chunk;
  LargePages pages;
  State state;
  uint8_t sweeps_held;

  bool trapped() const { return pages == LargePages::trapped; }
};

template <MemoryPlatform P>
class Quarantine {
 public:
  using Space = AddressSpace<P>;
  explicit constexpr Quarantine(Space& space) : space_(space) {}

  Lock& lock() { return lock_; }

  // An empty batch; nullptr where memory is out. Locked.
  Batch* take_batch_locked() {
    if (Batch* batch = spare_; batch != nullptr) {
      spare_ = batch->next;
      batch->next = nullptr;
      return batch;
    }
    void* memory = space_.arena_allocate(sizeof(Batch));
    return memory == nullptr ? nullptr : new (memory) Batch;
  }

  void give_batch_locked(Batch* batch) {
    batch->count.store(0, std::memory_order_relaxed);
    batch->taken = 0;
    batch->bytes = 0;
    batch->joined = 0;
    batch->next = spare_;
    spare_ = batch;
  }

  // Puts a batch that its owner has left behind into the queue. Locked.
  void seal_locked(Batch* batch, uint64_t bytes) {
    batch->bytes = bytes;
    batch->next = nullptr;
    if (last_ == nullptr)
      first_ = batch;
    else
      last_->next = batch;
    last_ = batch;
    add(waiting_bytes_, bytes);
    add(sealed_bytes_, bytes);
    add(sealed_chunks_, batch->count.load(std::memory_order_relaxed) - batch->taken + batch->joined);
  }

  // Room for the first large chunks: when memory is out it is too late, and with room a sweep can make more.
  void prepare_locked() {
    if (large_capacity_ == 0) grow_large();
  }

  // A large chunk enters. False: no memory for its entry; the chunk is then never released. Locked.
  bool add_large_locked(Run chunk, LargePages pages) {
    if (large_count_ == large_capacity_ && !grow_large()) return false;
    large_[large_count_++] = {chunk, pages, LargeChunk::State::waiting, 0};
    const uint64_t bytes = chunk.length << kGranuleShift;
    add(waiting_bytes_, weight(large_[large_count_ - 1]));
    if (pages == LargePages::trapped) add(trapped_bytes_, bytes);
    if (pages == LargePages::given_back) add(given_back_bytes_, bytes);
    add(sealed_bytes_, bytes);
    add(sealed_chunks_, 1);
    return true;
  }

  struct Painted {
    uint64_t chunks = 0;
    Granules granules = 0;
    Run twice;  // a chunk that was painted already: it was freed twice
  };

  // Paints sealed chunks, about `most` of them (0: all). Locked, and the sweep lock.
  Painted paint_locked(Shadow& shadow, uint64_t most) {
    Painted painted;
    for (size_t i = 0; i < large_count_ && painted.twice.empty(); ++i) {
      if (large_[i].state != LargeChunk::State::waiting || (most != 0 && painted.chunks >= most)) continue;
      large_[i].state = LargeChunk::State::painted;
      sub(waiting_bytes_, weight(large_[i]));
      add(painted_bytes_, weight(large_[i]));
      paint_chunk(shadow, large_[i].chunk, painted);
    }
    while (first_ != nullptr && painted.twice.empty() && (most == 0 || painted.chunks < most)) {
      Batch* batch = first_;
      paint_entries(shadow, *batch, batch->count.load(std::memory_order_relaxed), painted);
      first_ = batch->next;
      if (first_ == nullptr) last_ = nullptr;
      sub(waiting_bytes_, batch->bytes);
      add(painted_bytes_, batch->bytes);
      give_batch_locked(batch);
    }
    return painted;
  }

  // Paints what the owner of an open batch has appended so far. Locked, and the sweep lock.
  Painted paint_open_locked(Shadow& shadow, Batch& batch) {
    Painted painted;
    const uint32_t count = batch.count.load(std::memory_order_acquire);
    const uint32_t before = batch.taken;
    paint_entries(shadow, batch, count, painted);
    batch.taken = count;
    const uint64_t bytes = painted.granules << kGranuleShift;
    add(painted_bytes_, bytes);
    add(sealed_bytes_, bytes);
    add(sealed_chunks_, count - before + batch.joined);
    batch.joined = 0;
    return painted;
  }

  // The painted large chunk around `granule`, or an empty run. The sweep lock, and lock().
  Run large_around_locked(Granule granule) const {
    for (size_t i = 0; i < large_count_; ++i) {
      const Run chunk = large_[i].chunk;
      if (granule >= chunk.start && granule < chunk.end()) return chunk;
    }
    return {};
  }

  LargePages pages_of_locked(Run chunk) const {
    for (size_t i = 0; chunk.length >= kLargeChunk && i < large_count_; ++i) {
      if (large_[i].chunk == chunk) return large_[i].pages;
    }
    return LargePages::present;
  }

  // After a sweep: drops the large chunks that were painted and not hit. `leave(chunk)` is called for each
  // of them first; where it says false the chunk stays, as held, and the caller has marked it hit. Locked.
  template <class Leave>
  void settle_large_locked(const Shadow& shadow, Leave&& leave) {
    size_t kept = 0;
    uint64_t held_trapped = 0, given_back = 0;
    for (size_t i = 0; i < large_count_; ++i) {
      LargeChunk large = large_[i];
      const uint64_t bytes = large.chunk.length << kGranuleShift;
      if (large.state != LargeChunk::State::waiting) {
        if (!shadow.any_hit(large.chunk) && leave(large)) {
          if (large.trapped()) sub(trapped_bytes_, bytes);
          continue;
        }
        large.state = LargeChunk::State::held;
        if (large.trapped()) held_trapped += bytes;
        if (large.sweeps_held < kHeldLong) ++large.sweeps_held;
      }
      if (large.pages == LargePages::given_back) given_back += bytes;
      large_[kept++] = large;
    }
    large_count_ = kept;
    held_trapped_bytes_.store(held_trapped, std::memory_order_relaxed);
    given_back_bytes_.store(given_back, std::memory_order_relaxed);
  }

  // Chunks with pages that are held for long, each of them once: the next from number `at` on, which moves to
  // it, or an empty run. Numbers stay until the next settling. Locked, and the sweep lock.
  Run next_to_rest_locked(size_t& at) {
    for (; at < large_count_; ++at) {
      LargeChunk& large = large_[at];
      if (large.sweeps_held != kHeldLong) continue;
      ++large.sweeps_held;
      if (large.pages == LargePages::present) return large.chunk;
    }
    return {};
  }
  // The pages of the chunk with this number were given back. Locked, and the sweep lock.
  void note_given_back_locked(size_t at) {
    large_[at].pages = LargePages::given_back;
    add(given_back_bytes_, large_[at].chunk.length << kGranuleShift);
  }

  // What was painted has been swept: `held` bytes of it (and of earlier sweeps) are still referenced.
  void settle_books(uint64_t held_chunks, uint64_t held_bytes) {
    painted_bytes_.store(0, std::memory_order_relaxed);
    held_chunks_.store(held_chunks, std::memory_order_relaxed);
    held_bytes_.store(held_bytes, std::memory_order_relaxed);
  }

  // Bytes that a sweep could release: waiting or painted, not held; trapped chunks count little.
  uint64_t pending_bytes() const { return get(waiting_bytes_) + get(painted_bytes_); }
  // Of these, what was sealed after the last painting.
  uint64_t waiting_bytes() const { return get(waiting_bytes_); }
  uint64_t held_bytes() const { return get(held_bytes_); }
  uint64_t held_chunks() const { return get(held_chunks_); }
  uint64_t trapped_bytes() const { return get(trapped_bytes_); }
  // Of the trapped bytes, those that are held as well.
  uint64_t held_trapped_bytes() const { return get(held_trapped_bytes_); }
  // Of chunks without pages that can be touched all the same, and then have some again.
  uint64_t given_back_bytes() const { return get(given_back_bytes_); }
  uint64_t sealed_chunks() const { return get(sealed_chunks_); }
  uint64_t sealed_bytes() const { return get(sealed_bytes_); }
  bool anything_locked() const { return first_ != nullptr || large_count_ != 0; }

 private:
  using Figure = std::atomic<uint64_t>;
  static constexpr uint64_t kTrappedShare = 32;
  // Sweeps. What was held in two mostly stays so; what goes sooner would cost a fault a page.
  static constexpr uint8_t kHeldLong = 2;

  static uint64_t get(const Figure& figure) { return figure.load(std::memory_order_relaxed); }
  static void add(Figure& figure, uint64_t n) { figure.fetch_add(n, std::memory_order_relaxed); }
  static void sub(Figure& figure, uint64_t n) { figure.fetch_sub(n, std::memory_order_relaxed); }

  void paint_chunk(Shadow& shadow, Run chunk, Painted& painted) {
    if (!shadow.paint(chunk)) painted.twice = chunk;
    ++painted.chunks;
    painted.granules += chunk.length;
  }

  void paint_entries(Shadow& shadow, const Batch& batch, uint32_t count, Painted& painted) {
    Shadow::Brush brush(shadow);
    for (uint32_t i = batch.taken; i < count; ++i) {
      const Run chunk = batch.entries[i].chunk();
      if (!brush.paint(chunk)) {
        painted.twice = chunk;
        return;
      }
      ++painted.chunks;
      painted.granules += chunk.length;
    }
    painted.chunks += batch.joined;
  }

  // A trapped chunk holds no memory, only addresses and page tables.
  static uint64_t weight(const LargeChunk& large) {
    const uint64_t bytes = large.chunk.length << kGranuleShift;
    return large.trapped() ? bytes / kTrappedShare : bytes;
  }

  bool grow_large() {
    const size_t capacity = large_capacity_ == 0 ? 256 : large_capacity_ * 2;
    auto* bigger = static_cast<LargeChunk*>(space_.arena_allocate(capacity * sizeof(LargeChunk)));
    if (bigger == nullptr) return false;
    for (size_t i = 0; i < large_count_; ++i) bigger[i] = large_[i];
    large_ = bigger;  // the smaller table is left behind; together they are less than the new one
    large_capacity_ = capacity;
    return true;
  }

  Space& space_;
  Lock lock_;
  Batch* first_ = nullptr;  // sealed, oldest first
  Batch* last_ = nullptr;
  Batch* spare_ = nullptr;
  LargeChunk* large_ = nullptr;
  size_t large_count_ = 0, large_capacity_ = 0;
  Figure waiting_bytes_{0}, painted_bytes_{0}, held_bytes_{0}, held_chunks_{0}, trapped_bytes_{0};
  Figure held_trapped_bytes_{0}, given_back_bytes_{0}, sealed_bytes_{0}, sealed_chunks_{0};
};

}  // namespace nonreuse
