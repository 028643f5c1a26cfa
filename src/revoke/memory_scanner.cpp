#include "revoke/memory_scanner.hpp"

#include "base/bits.hpp"
#include "platform/attributes.hpp"
#include "platform/os.hpp"

namespace nonreuse {
namespace {

constexpr size_t kGranulesPerWord = 64;
constexpr size_t kWordBytes = kGranulesPerWord << kGranuleShift;  // heap bytes under one bitmap word: 1 KiB
constexpr size_t kGuardedPart = size_t{256} << 10;
constexpr size_t kArmedPart = size_t{8} << 20;

}  // namespace

void SweepState::note_unread(Range range) {
  const size_t index = unread_count.fetch_add(1, std::memory_order_relaxed);
  if (index < kUnread)
    unread[index] = range;
  else
    tracker.lose();
}

void MemoryScanner::run(const ReadingTask& task) {
  switch (task.kind) {
    case ReadingTask::Kind::root:
      return root(task.range, task.access);
    case ReadingTask::Kind::heap:
      return heap(task.range);
    case ReadingTask::Kind::arm:
      return arm(task.range);
    case ReadingTask::Kind::written:
      return written(task.range);
    case ReadingTask::Kind::disarm:
      return state_.disarming.disarm(task.range);
  }
}

// A part at a time: what is armed must be read.
void MemoryScanner::arm(Range range) {
  // Only there the bitmaps decide what is read: what they say must not be older than the arming.
  const bool fenced = state_.phase == SweepPhase::beside && range.begin < state_.request.heap.end &&
                      range.end > state_.request.heap.begin;
  for (uintptr_t at = range.begin; at < range.end && !state_.tracker.lost();) {
    if (process_->abandoned()) return state_.tracker.lose();
    state_.progress.fetch_add(1, std::memory_order_relaxed);
    const uintptr_t next = align_down(at, kArmedPart) + kArmedPart;
    const uintptr_t end = next < range.end ? next : range.end;
    state_.tracker.arm({at, end}, fenced, *this, answers_);
    state_.armed_bytes.fetch_add(end - at, std::memory_order_relaxed);
    at = end;
  }
}

void MemoryScanner::written(Range range) {
  if (!state_.tracker.written(range, *this, answers_)) root(range, RootAccess::copied);
}

// Pages that were just armed, or, in the stop, those written since. What was read before is read again whole:
// a chunk that was free, or painted and not hit, may be neither any more.
void MemoryScanner::pages(Range pages, RootAccess access) {
  const Range heap_range = state_.request.heap;
  const uintptr_t top = state_.request.base + (state_.request.top << kGranuleShift);
  if (state_.beside()) access = RootAccess::direct;  // and guarded
  if (state_.phase != SweepPhase::beside) {
    state_.again_bytes.fetch_add(pages.size(), std::memory_order_relaxed);
    state_.written_bytes.fetch_add(pages.size(), std::memory_order_relaxed);
    read(pages, access);
  } else if (pages.begin >= heap_range.begin && pages.end <= top) {
    heap(pages);
  } else {
    root(pages, access);
  }
}

void MemoryScanner::root(Range range, RootAccess access) {
  figures.root_bytes += range.size();
  if (state_.request.options->unaligned && range.begin == read_until_) seam(range.begin);
  read_until_ = range.end;
  read(range, access);
}

uint64_t MemoryScanner::read(Range range, RootAccess access) {
  return access == RootAccess::copied ? copied(range) : words(range);
}

uint64_t MemoryScanner::words(Range range) {
  if (state_.beside()) return guarded(range);
  return state_.kernel(state_.target, reinterpret_cast<const uint64_t*>(range.begin),
                       range.size() / sizeof(uint64_t));
}

// Beside the running program memory may vanish while it is read. What could not be read may be readable again
// in the stop.
uint64_t MemoryScanner::guarded(Range range) {
  struct Piece {
    const SweepState& state;
    Range range;
    uint64_t news;
  } piece{state_, {}, 0};
  const auto read_piece = [](void* argument) {
    auto& [state, part, news] = *static_cast<Piece*>(argument);
    news += state.kernel(state.target, reinterpret_cast<const uint64_t*>(part.begin),
                         part.size() / sizeof(uint64_t));
  };
  for (uintptr_t at = range.begin; at < range.end; at = piece.range.end) {
    piece.range = {at, range.end - at < kGuardedPart ? range.end : at + kGuardedPart};
    if (!process_->guarded(read_piece, &piece)) state_.note_unread(piece.range);
  }
  return piece.news;
}

// The words across the end of one range and the beginning of the next, which may be read in different ways.
void MemoryScanner::seam(uintptr_t at) {
  constexpr size_t kHalf = sizeof(uint64_t);
  if (copy_foreign(bounce_, at - kHalf, 2 * kHalf) == 2 * kHalf) registers(bounce_, 2);
}

uint64_t MemoryScanner::copied(Range range) {
  uint64_t news = 0;
  const size_t page = os::page_size();
  // Where words at any offset count, each piece begins with the last word of the one before.
  const size_t overlap = state_.request.options->unaligned ? sizeof(uint64_t) : 0;
  for (uintptr_t at = range.begin; at < range.end;) {
    const size_t wanted = range.end - at < kBounceBytes ? range.end - at : kBounceBytes;
    const size_t got = copy_foreign(bounce_, at, wanted);
    news += state_.kernel(state_.target, bounce_, got / sizeof(uint64_t));
    at += got;
    if (got < wanted) {
      at = align_down(at, page) + page;  // an unreadable page holds nothing to load
    } else if (at < range.end) {
      at -= overlap;
    }
  }
  return news;
}

// What the bitmaps say holds nothing is passed over. What was read beside the threads was widened already, so
// all that is painted counts in the stop. Beside them the bits change, but a page that is handed out is
// written then.
void MemoryScanner::heap(Range range) {
  const uintptr_t base = state_.request.base;
  const uint64_t* const painted =
      state_.phase == SweepPhase::again ? nullptr : state_.request.shadow->painted();
  LivePart part{base, state_.request.free_bits, painted, (range.begin - base) >> kGranuleShift,
                (range.end - base) >> kGranuleShift};
  if (state_.request.options->unaligned) return heap_words(part);
  if (!state_.beside()) {
    state_.live_kernel(state_.target, part, figures.heap_bytes);
    return;
  }
  struct Piece {
    const SweepState& state;
    LivePart part;
    uint64_t bytes;
  } piece{state_, part, 0};
  const auto read_piece = [](void* argument) {
    auto& [state, live, bytes] = *static_cast<Piece*>(argument);
    state.live_kernel(state.target, live, bytes);
  };
  constexpr Granules kPart = kGuardedPart >> kGranuleShift;
  for (Granule at = part.begin; at < part.end; at = piece.part.end) {
    piece.part.begin = at;
    piece.part.end = part.end - at < kPart ? part.end : at + kPart;
    if (!process_->guarded(read_piece, &piece))
      state_.note_unread({base + (at << kGranuleShift), base + (piece.part.end << kGranuleShift)});
  }
  figures.heap_bytes += piece.bytes;
}

// Where words at any offset count, those across lines do as well: what is live is read in long pieces.
NONREUSE_READS_ANY_MEMORY void MemoryScanner::heap_words(const LivePart& part) {
  Range live{};
  const auto flush = [&] {
    figures.heap_bytes += live.size();
    words(live);
  };
  const uintptr_t end = part.base + (part.end << kGranuleShift);
  for (uint64_t word = part.begin / kGranulesPerWord; word * kGranulesPerWord < part.end; ++word) {
    const uint64_t dead = part.free[word] | (part.painted == nullptr ? 0 : part.painted[word]);
    if (dead == bits::kAll) continue;
    const uintptr_t at = part.base + word * kWordBytes;
    if (live.empty() || at - live.end >= kWordBytes) {
      if (!live.empty()) flush();
      live.begin = at;
    }
    live.end = at + kWordBytes < end ? at + kWordBytes : end;
  }
  if (!live.empty()) flush();
}

}  // namespace nonreuse
