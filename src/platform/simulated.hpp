// MemoryPlatform for tests: a claim of chosen size over one mapping, with a book of the state of every page.
//
// It checks what its callers owe (whole pages inside the claim, nothing committed twice, nothing uncommitted
// touched, nothing trapped twice), and it can be told to refuse: the n-th call of a kind, every call of a
// kind, commits beyond an amount, commits that overlap foreign ranges. With protect(true) pages that may not
// be touched really are inaccessible, so that a heap that touches them stops at once. Thread-safety: every
// call; the reading functions and the dictation while no other call runs.
#pragma once

#include <sys/mman.h>

#include <cstring>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "platform/concept.hpp"

namespace nonreuse {

class SimulatedMemory {
 public:
  enum class Page : uint8_t { unclaimed, uncommitted, committed, discarded, trapped };
  enum class Call : uint8_t { commit, uncommit, discard, trap, untrap, move, populate, make_zero, count };

  static constexpr size_t kUsualPage = 4096;
  static constexpr uint64_t kAlways = 0;
  static constexpr uint64_t kNever = ~uint64_t{0};

  // `page`: a power of two, not less than a page of the machine that the tests run on.
  explicit SimulatedMemory(size_t claim_bytes, size_t page = kUsualPage)
      : page_size_(page), bytes_(claim_bytes / page * page) {}
  ~SimulatedMemory() {
    if (base_ != 0) munmap(mapping_, bytes_ + page_size_);
  }
  SimulatedMemory(const SimulatedMemory&) = delete;
  SimulatedMemory& operator=(const SimulatedMemory&) = delete;

  // ---- what a test dictates -------------------------------------------------------------------------
  // The `nth` call of this kind from now on (1: the next) is refused once; kAlways: all are; kNever: none.
  void refuse(Call call, uint64_t nth) {
    const std::lock_guard guard(mutex_);
    refuse_at_[index(call)] = nth == kAlways || nth == kNever ? nth : calls_[index(call)] + nth;
  }
  // Commits that would bring the committed bytes above `most` meet no_memory.
  void limit_commits(size_t most) { limit_ = most; }
  // Commits that overlap [offset, offset + bytes) of the claim meet `occupied`.
  void occupy(size_t offset, size_t bytes) { occupied_.emplace_back(offset, offset + bytes); }
  void vacate_occupied() { occupied_.clear(); }
  void refuse_claim(bool refuse) { refuse_claim_ = refuse; }
  void protect(bool on) { protect_ = on; }

  // ---- what a test reads ----------------------------------------------------------------------------
  uint64_t calls(Call call) const { return calls_[index(call)]; }
  Page page(uintptr_t address) const {
    if (address - base_ >= bytes_) return Page::unclaimed;
    return pages_[(address - base_) / page_size_];
  }
  size_t count(Page state, uintptr_t begin, uintptr_t end) const {
    size_t found = 0;
    for (uintptr_t at = begin; at < end; at += page_size_) found += page(at) == state;
    return found;
  }
  size_t committed_bytes() const { return committed_; }
  uintptr_t base() const { return base_; }
  // What callers did that the concept forbids, one sentence each; empty when all is well.
  const std::vector<std::string>& breaches() const { return breaches_; }

  // ---- MemoryPlatform -------------------------------------------------------------------------------
  size_t page_size() const { return page_size_; }

  AddressClaim claim(size_t wanted) {
    const std::lock_guard guard(mutex_);
    if (base_ != 0) breach("claimed twice", 0, wanted);
    if (refuse_claim_ || base_ != 0) return {};
    if (wanted < bytes_) bytes_ = wanted / page_size_ * page_size_;
    // One page more than claimed, to begin at a multiple of a page.
    void* memory = mmap(nullptr, bytes_ + page_size_, protect_ ? PROT_NONE : PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return {};
    mapping_ = memory;
    base_ = align_up(reinterpret_cast<uintptr_t>(memory), page_size_);
    pages_.assign(bytes_ / page_size_, Page::uncommitted);
    return {base_, bytes_};
  }

  void* pointer(Address address) { return reinterpret_cast<void*>(address); }

  CommitResult commit(uintptr_t address, size_t bytes) {
    const std::lock_guard guard(mutex_);
    if (!begin(Call::commit, "commit", address, bytes)) return CommitResult::no_memory;
    expect("commit", address, bytes, {Page::uncommitted});
    for (const auto& [from, to] : occupied_) {
      if (address - base_ < to && address - base_ + bytes > from) return CommitResult::occupied;
    }
    if (committed_ + bytes > limit_) return CommitResult::no_memory;
    committed_ += bytes;
    access(address, bytes, true);
    mark(address, bytes, Page::committed);
    return CommitResult::done;
  }

  bool uncommit(uintptr_t address, size_t bytes) {
    const std::lock_guard guard(mutex_);
    if (!begin(Call::uncommit, "uncommit", address, bytes)) return false;
    expect("uncommit", address, bytes, {Page::committed, Page::discarded});
    committed_ -= bytes;
    drop(address, bytes);
    access(address, bytes, false);
    mark(address, bytes, Page::uncommitted);
    return true;
  }

  bool discard(uintptr_t address, size_t bytes) {
    const std::lock_guard guard(mutex_);
    if (!begin(Call::discard, "discard", address, bytes)) return false;
    expect("discard", address, bytes, {Page::committed, Page::discarded, Page::trapped});
    drop(address, bytes);
    for (uintptr_t at = address; at < address + bytes; at += page_size_) {
      if (page(at) == Page::committed) mark(at, page_size_, Page::discarded);
    }
    return true;
  }

  // Pages that were discarded count as committed afterwards; of trapped ones nothing comes.
  void populate(uintptr_t address, size_t bytes) {
    const std::lock_guard guard(mutex_);
    if (!begin(Call::populate, "populate", address, bytes)) return;
    expect("populate", address, bytes, {Page::committed, Page::discarded, Page::trapped});
    for (uintptr_t at = address; at < address + bytes; at += page_size_) {
      if (page(at) == Page::discarded) mark(at, page_size_, Page::committed);
    }
  }

  bool trap(uintptr_t address, size_t bytes) {
    const std::lock_guard guard(mutex_);
    if (!begin(Call::trap, "trap", address, bytes)) return false;
    expect("trap", address, bytes, {Page::committed, Page::discarded});
    drop(address, bytes);
    access(address, bytes, false);
    mark(address, bytes, Page::trapped);
    return true;
  }

  bool untrap(uintptr_t address, size_t bytes) {
    const std::lock_guard guard(mutex_);
    if (!begin(Call::untrap, "untrap", address, bytes)) return false;
    expect("untrap", address, bytes, {Page::trapped});
    access(address, bytes, true);
    mark(address, bytes, Page::discarded);
    return true;
  }

  // Of what a test has told to be lost nothing is left at `to`, as if it had never been committed.
  void lose_move(uint64_t nth) { lose_move_at_ = calls_[index(Call::move)] + nth; }
  // No more than so many bytes at once may be moved.
  void limit_moves(size_t most) { most_moved_ = most; }
  size_t movable(uintptr_t, size_t bytes) { return bytes < most_moved_ ? bytes : most_moved_; }
  MoveResult move(uintptr_t from, uintptr_t to, size_t bytes) {
    const std::lock_guard guard(mutex_);
    if (!begin(Call::move, "move", from, bytes)) return MoveResult::refused;
    expect("move from", from, bytes, {Page::committed, Page::discarded});
    expect("move to", to, bytes, {Page::committed, Page::discarded});
    if (calls_[index(Call::move)] == lose_move_at_) {
      committed_ -= bytes;
      drop(to, bytes);
      access(to, bytes, false);
      mark(to, bytes, Page::uncommitted);
      return MoveResult::lost;
    }
    if (from < to + bytes && to < from + bytes) breach("move onto itself", from, bytes);
    memcpy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
    drop(from, bytes);
    mark(from, bytes, Page::discarded);
    mark(to, bytes, Page::committed);
    return MoveResult::moved;
  }

  void zero(uintptr_t address, size_t bytes) {
    touch("zero", address, bytes);
    memset(reinterpret_cast<void*>(address), 0, bytes);
  }

  void zero_short(uintptr_t address, size_t bytes) {
    if (address % 16 != 0 || bytes % 16 != 0)
      breach_locked("zero_short of no 16-byte multiple", address, bytes);
    zero(address, bytes);
  }

  bool make_zero(uintptr_t address, size_t bytes) {
    touch("make_zero", address, bytes);
    {
      const std::lock_guard guard(mutex_);
      ++calls_[index(Call::make_zero)];
    }
    if (address % 16 != 0 || bytes % 16 != 0)
      breach_locked("make_zero of no 16-byte multiple", address, bytes);
    bool dirty = false;
    auto* at = reinterpret_cast<unsigned char*>(address);
    for (size_t i = 0; i < bytes; ++i) {
      dirty |= at[i] != 0;
      at[i] = 0;
    }
    return dirty;
  }

 private:
  static constexpr size_t index(Call call) { return static_cast<size_t>(call); }

  // Counts the call and checks its range; false where it is to be refused.
  bool begin(Call call, const char* name, uintptr_t address, size_t bytes) {
    const uint64_t number = ++calls_[index(call)];
    if (address % page_size_ != 0 || bytes % page_size_ != 0 || bytes == 0) {
      breach((std::string(name) + " of no whole pages").c_str(), address, bytes);
    }
    if (address - base_ >= bytes_ || bytes > bytes_ - (address - base_)) {
      breach((std::string(name) + " outside the claim").c_str(), address, bytes);
      return false;
    }
    return refuse_at_[index(call)] != kAlways && refuse_at_[index(call)] != number;
  }

  void expect(const char* name, uintptr_t address, size_t bytes, std::initializer_list<Page> allowed) {
    for (uintptr_t at = address; at < address + bytes; at += page_size_) {
      bool good = false;
      for (const Page state : allowed) good |= page(at) == state;
      if (good) continue;
      breach(
          (std::string(name) + " of a page in state " + std::to_string(static_cast<int>(page(at)))).c_str(),
          at, page_size_);
      return;
    }
  }

  void touch(const char* name, uintptr_t address, size_t bytes) {
    const std::lock_guard guard(mutex_);
    const uintptr_t first = address / page_size_ * page_size_;
    const uintptr_t end = (address + bytes + page_size_ - 1) / page_size_ * page_size_;
    expect(name, first, end - first, {Page::committed, Page::discarded});
    for (uintptr_t at = first; at < end; at += page_size_) {
      if (page(at) == Page::discarded) mark(at, page_size_, Page::committed);
    }
  }

  void breach(const char* what, uintptr_t address, size_t bytes) {
    breaches_.push_back(std::string(what) + ": " + std::to_string(bytes) + " bytes at offset " +
                        std::to_string(address - base_));
  }
  void breach_locked(const char* what, uintptr_t address, size_t bytes) {
    const std::lock_guard guard(mutex_);
    breach(what, address, bytes);
  }

  void mark(uintptr_t address, size_t bytes, Page state) {
    for (size_t i = 0; i < bytes / page_size_; ++i) pages_[(address - base_) / page_size_ + i] = state;
  }
  void drop(uintptr_t address, size_t bytes) {
    madvise(reinterpret_cast<void*>(address), bytes, MADV_DONTNEED);
  }
  void access(uintptr_t address, size_t bytes, bool allowed) {
    if (protect_)
      mprotect(reinterpret_cast<void*>(address), bytes, allowed ? PROT_READ | PROT_WRITE : PROT_NONE);
  }

  mutable std::mutex mutex_;
  const size_t page_size_;
  void* mapping_ = nullptr;
  uintptr_t base_ = 0;
  size_t bytes_;
  size_t committed_ = 0, limit_ = ~size_t{0};
  size_t most_moved_ = SIZE_MAX;
  bool refuse_claim_ = false, protect_ = true;
  uint64_t lose_move_at_ = kNever;
  std::vector<Page> pages_;
  std::vector<std::pair<size_t, size_t>> occupied_;
  std::vector<std::string> breaches_;
  uint64_t calls_[static_cast<size_t>(Call::count)] = {};
  uint64_t refuse_at_[static_cast<size_t>(Call::count)] = {kNever, kNever, kNever, kNever,
                                                           kNever, kNever, kNever, kNever};
};

static_assert(MemoryPlatform<SimulatedMemory>);

}  // namespace nonreuse
