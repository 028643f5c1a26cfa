#include "revoke/conservative.hpp"

#include "base/bits.hpp"
#include "platform/attributes.hpp"
#include "platform/os.hpp"
#include "platform/spill.hpp"

namespace nonreuse {
namespace {

// Bytes below the stack pointer that a function may use without moving it (System V ABI for x86-64: 128).
constexpr uintptr_t kRedZone = 256;
constexpr size_t kGranulesPerWord = 64;
constexpr size_t kWordBytes = kGranulesPerWord << kGranuleShift;  // heap bytes under one bitmap word: 1 KiB
// glibc puts the thread descriptor at the upper end of the stack it maps for a thread.
constexpr uintptr_t kDescriptorRoom = 16384;
// Smaller mappings are read in the stop: to arm one costs as much.
constexpr size_t kArmedMin = 256 * 1024;
constexpr uint64_t kTelling = uint64_t{16} << 20;  // bytes; a sweep of so many tells how fast this machine is
constexpr int kRounds = 12;
constexpr size_t kArmedPart = size_t{8} << 20;
constexpr size_t kGuardedPart = size_t{256} << 10;
constexpr uint64_t kStale = 20'000'000;  // nanoseconds from the end of reading
constexpr int kRestarts = 3;
constexpr uint64_t kStuck = 5'000'000'000;  // nanoseconds without progress
constexpr uint64_t kLook = 1'000'000;  // nanoseconds until a waiting thread looks whether it should go on

// Shared and doubtful memory is copied here to be read. Under the sweep lock, so one is enough.
constexpr size_t kBounceBytes = 64 * 1024;
alignas(64) uint64_t bounce[kBounceBytes / sizeof(uint64_t)];

}  // namespace

RevokeOutcome ConservativeRevoker::revoke(const RevokeRequest& request, RevokeFigures& figures) {
  if (!under_way() && worth_reading_beside(request)) {
    restarts_ = kRestarts;
    open_.store(true, std::memory_order_release);
  }
  if (under_way()) {
    if (!take_over(request)) return RevokeOutcome::pending;
    request_ = request;  // as things are now
  } else {
    end_reader();
    begin(request);
  }
  self_thread_pointer_ = os::thread_identity();
  // Registers that calls preserve go to this stack, below the frames that hold the program's own.
  RevokeOutcome outcome = RevokeOutcome::retry;
  auto body = [&](uintptr_t stack_pointer) { outcome = sweep_spilled(stack_pointer); };
  with_registers_spilled(body);
  figures = figures_;
  open_.store(false, std::memory_order_release);
  return outcome;
}

// No reader runs.
void ConservativeRevoker::begin(const RevokeRequest& request) {
  request_ = request;
  figures_ = {};
  const KernelChoice kernel = request.options->kernel;
  kernel_ = request.options->unaligned ? choose_unaligned_kernel(kernel) : choose_kernel(kernel);
  target_ = {request.base, request.top << kGranuleShift, request.shadow->painted(), request.shadow->hits(),
             request.shadow->hit_summary()};
  phase_ = Phase::whole;
  again_bytes_ = 0;
  unread_count_ = 0;
}

// Arming pages and reading some of them twice costs more than reading them once with the threads stopped:
// only where these would stand still for too long.
bool ConservativeRevoker::worth_reading_beside(const RevokeRequest& request) const {
  const uint64_t pause = request.options->pause;
  if (pause == 0 || request.options->unaligned) return false;
  const uint64_t whole_pause = ((request.live + root_bytes_) >> 10) * ns_per_mib_ >> 10;
  return whole_pause > pause * 1000;
}

// Goes on with the sweep as far as it gets without the threads. True where their stop is all that is left;
// false where the reader is at work.
bool ConservativeRevoker::take_over(const RevokeRequest& request) {
  for (;;) {
    if (!reader_left(request)) return false;
    switch (phase_) {
      case Phase::whole:
      case Phase::disarm:  // of the sweep before
        tracker_.end();
        begin(request);
        if (tracker_.begin() && start_reader(Phase::beside)) break;
        tracker_.end();
        return true;
      case Phase::beside:
      case Phase::round:  // it did not come to its end: something killed it
        tracker_.end();
        request.shadow->forget_all_hits(request.top);
        begin(request);
        return true;
      case Phase::again:
        // Nobody came for a while, and more was written.
        if (restarts_ == 0 || os::now_ns() - read_until_ns_ < kStale) return true;
        --restarts_;
        if (!start_reader(Phase::round)) return true;
        break;
    }
  }
}

// False while there is a reader, and it cannot be waited for.
bool ConservativeRevoker::reader_left(const RevokeRequest& request) {
  const auto progress = [&] { return progress_.load(std::memory_order_relaxed); };
  uint64_t since = os::now_ns(), seen = progress();
  while (reader_.running()) {
    if (!request.wait || request.hurry(request.context)) return false;
    reader_.wait(kLook);
    if (seen != progress()) {
      seen = progress();
      since = os::now_ns();
    } else if (os::now_ns() - since > kStuck) {
      reader_.kill();  // it was stopped, perhaps
    }
  }
  reader_.reap();
  return true;
}

// Of a sweep that is over: it has pages to disarm still, which ends by itself.
void ConservativeRevoker::end_reader() {
  if (phase_ != Phase::disarm) return;
  const uint64_t begin = os::now_ns();
  while (reader_.running()) {
    reader_.wait(kLook);
    if (os::now_ns() - begin > kStuck) reader_.kill();
  }
  reader_.reap();
  tracker_.end();
}

bool ConservativeRevoker::start_reader(Phase phase) {
  const Phase before = phase_;
  phase_ = phase;
  if (reader_.start([](void* self) { static_cast<ConservativeRevoker*>(self)->read_beside(); }, this,
                    tracker_.descriptors().pair))
    return true;
  phase_ = before;
  return false;
}

RevokeOutcome ConservativeRevoker::sweep_spilled(uintptr_t stack_pointer) {
  const bool beside = phase_ == Phase::again;
  request_.freeze(request_.context, true);
  const uint64_t begin = os::now_ns();
  const RevokeOutcome outcome = stop_and_sweep(stack_pointer);
  figures_.stood_ns = os::now_ns() - begin;
  request_.freeze(request_.context, false);
  figures_.beside = beside && !tracker_.lost();
  figures_.again_bytes = beside ? again_bytes_ : 0;
  if (outcome == RevokeOutcome::cleared)
    note_speed();
  else
    request_.shadow->forget_hits(request_.top);
  if (beside) stop_tracking();
  return outcome;
}

// The reader has the descriptors, too: the last to close them disarms what it has left armed.
void ConservativeRevoker::stop_tracking() {
  disarming_ = tracker_;
  if (!start_reader(Phase::disarm))
    phase_ = Phase::whole;
  else if (!reader_.has_own_descriptors(kLook))
    return;  // closed by the next sweep
  tracker_.end();
}

// In CPU time, which other programs do not stretch; small sweeps cost much that has nothing to do with size.
void ConservativeRevoker::note_speed() {
  const uint64_t bytes = figures_.root_bytes + figures_.heap_bytes;
  root_bytes_ = figures_.root_bytes;
  if (phase_ == Phase::whole && bytes >= kTelling) ns_per_mib_ = (reading_ns_ << 20) / bytes;
}

// In the reader. Reads everything that can be armed, then rounds.
void ConservativeRevoker::read_beside() {
  if (phase_ == Phase::disarm) {
    walk();
    return;
  }
  if (phase_ == Phase::beside) {
    walk();
    expand(true);
  }
  phase_ = Phase::round;
  read_rounds();
  figures_.reader_cpu_ns += os::thread_cpu_ns();
  read_until_ns_ = os::now_ns();
  again_bytes_ = 0;
  phase_ = Phase::again;
}

// Reads what was written in the meantime, again and again, until that is little enough for the stop, or does
// not get less even with the heap's busiest users waiting. What is missed here (mappings that come, go or
// change meanwhile) counts as written, and is read in the stop.
void ConservativeRevoker::read_rounds() {
  const uint64_t little = (request_.options->pause * 500 << 20) / (ns_per_mib_ + 1);
  uint64_t before = ~uint64_t{0};
  bool calm = false;
  for (int round = 0; round < kRounds && !tracker_.lost(); ++round) {
    again_bytes_ = 0;
    walk();
    progress_.fetch_add(1, std::memory_order_relaxed);
    if (again_bytes_ <= little) break;
    const bool stuck = again_bytes_ > before / 4 * 3;
    if (stuck && calm) break;
    if (stuck) request_.calm(request_.context);
    calm = calm || stuck;
    before = stuck ? ~uint64_t{0} : again_bytes_;
  }
}

// A part at a time: what is armed must be read.
void ConservativeRevoker::arm(Range range) {
  for (uintptr_t at = range.begin; at < range.end && !tracker_.lost();) {
    if (reader_.abandoned()) return tracker_.lose();
    progress_.fetch_add(1, std::memory_order_relaxed);
    const uintptr_t next = align_down(at, kArmedPart) + kArmedPart;
    const uintptr_t end = next < range.end ? next : range.end;
    tracker_.arm({at, end}, *this);
    at = end;
  }
}

RevokeOutcome ConservativeRevoker::stop_and_sweep(uintptr_t stack_pointer) {
  const Options& options = *request_.options;
  StopMethod method = StopMethod::automatic;
  if (options.stop == StopChoice::ptrace) method = StopMethod::ptrace_helper;
  if (options.stop == StopChoice::signal) method = StopMethod::signal;
  const uint64_t begin = os::now_ns();
  const StopResult stopped = stopper_.stop(method, options.stop_timeout * 1'000'000);
  if (stopped == StopResult::timed_out) return RevokeOutcome::retry;
  if (stopped == StopResult::refused) return RevokeOutcome::blind;
  const uint64_t reading_begin = os::thread_cpu_ns();
  const RevokeOutcome outcome = sweep_stopped(stack_pointer);
  reading_ns_ = os::thread_cpu_ns() - reading_begin;
  if (stopped == StopResult::stopped) {
    const bool stayed = stopper_.resume();
    figures_.pause_ns = os::now_ns() - begin;
    // Else they ran while they were read: what was not hit proves nothing.
    if (!stayed) return RevokeOutcome::retry;
  }
  return outcome;
}

// Nothing moves from here on.
RevokeOutcome ConservativeRevoker::sweep_stopped(uintptr_t stack_pointer) {
  self_stack_pointer_ = stack_pointer;
  scanned_until_ = 0;
  scan_registers();
  for (size_t i = 0; i < unread_count_; ++i) scan(unread_[i], RootAccess::copied);
  const RootStatus status = walk();
  if (status != RootStatus::complete)
    return status == RootStatus::try_again ? RevokeOutcome::retry : RevokeOutcome::blind;
  expand(false);
  return RevokeOutcome::cleared;
}

RootStatus ConservativeRevoker::walk() {
  own_[0] = request_.tables;
  own_[1] = request_.extra;
  own_[2] = stopper_.own_memory();
  own_[3] = WriteTracker::own_memory();
  own_[4] = reader_.own_memory();
  own_[5] = {reinterpret_cast<uintptr_t>(bounce), reinterpret_cast<uintptr_t>(bounce + kBounceBytes / 8)};
  return walker_.walk(own_, sizeof own_ / sizeof own_[0], *this);
}

// Beside the program no lock is taken: large chunks are left to the stop.
void ConservativeRevoker::expand(bool beside) {
  const auto chunk_at = beside ? request_.small_chunk_at : request_.chunk_at;
  figures_.held = request_.shadow->expand(
      request_.top, [&](Granule granule) { return chunk_at(request_.context, granule); },
      [&](Run chunk) { return scan_content(chunk); });
}

void ConservativeRevoker::scan_registers() {
  for (size_t i = 0; i < stopper_.thread_count(); ++i) {
    const StoppedThread& thread = stopper_.thread(i);
    kernel_(target_, thread.registers, thread.register_count);
  }
}

uint64_t ConservativeRevoker::scan_words(uintptr_t begin, uintptr_t end) {
  if (beside()) return scan_guarded({begin, end});
  return kernel_(target_, reinterpret_cast<const uint64_t*>(begin), (end - begin) / sizeof(uint64_t));
}

// Beside the running program memory may vanish while it is read. What could not be read may be readable again
// in the stop.
uint64_t ConservativeRevoker::scan_guarded(Range range) {
  struct Piece {
    const ConservativeRevoker* self;
    Range range;
    uint64_t news;
  } piece{this, {}, 0};
  const auto read = [](void* argument) {
    auto& [self, part, news] = *static_cast<Piece*>(argument);
    news += self->kernel_(self->target_, reinterpret_cast<const uint64_t*>(part.begin),
                          part.size() / sizeof(uint64_t));
  };
  for (uintptr_t at = range.begin; at < range.end; at = piece.range.end) {
    piece.range = {at, range.end - at < kGuardedPart ? range.end : at + kGuardedPart};
    if (reader_.guarded(read, &piece)) continue;
    if (unread_count_ == sizeof unread_ / sizeof unread_[0])
      tracker_.lose();
    else
      unread_[unread_count_++] = piece.range;
  }
  return piece.news;
}

void ConservativeRevoker::visit(const RootRange& root) {
  if (in_reader()) return;  // cannot be armed: read in the stop
  Range range = root.range;
  const Range heap = request_.heap;
  if (range.begin < heap.end && range.end > heap.begin) {
    const Range below{range.begin, heap.begin}, above{heap.end, range.end};
    if (!below.empty()) scan_root(below, root.access);
    if (!above.empty()) scan_root(above, root.access);
    const Range inside{range.begin > heap.begin ? range.begin : heap.begin,
                       range.end < heap.end ? range.end : heap.end};
    // Memory inside the heap's range but above its top, or in a gap, is somebody else's mapping.
    const uintptr_t top = request_.base + (request_.top << kGranuleShift);
    if (root.access == RootAccess::copied) return scan_root(inside, root.access);
    if (inside.begin < top) scan_heap({inside.begin, inside.end < top ? inside.end : top});
    if (inside.end > top) scan_root({inside.begin > top ? inside.begin : top, inside.end}, root.access);
    return;
  }
  const uintptr_t live = live_stack_start(root);
  if (range.begin < live) range.begin = live;
  if (!range.empty()) scan_root(range, root.access);
}

void ConservativeRevoker::after_fork_in_child() {
  stopper_.after_fork_in_child();
  tracker_.after_fork_in_child();
  reader_.after_fork_in_child();
  // The reader was writing while memory was copied.
  if (under_way()) request_.shadow->forget_all_hits(request_.top);
  open_.store(false, std::memory_order_relaxed);
  phase_ = Phase::whole;
}

// ---- beside running threads (docs/concurrency.md) --------------------------------------------------------

// Large mappings, but no stacks, which are read from the stack pointer up and are always in use, nor what is
// left of pages that hold the library's own tables.
bool ConservativeRevoker::takes(const RootRange& root) {
  if (phase_ == Phase::whole) return false;
  const size_t page = os::page_size();
  const bool whole_pages = root.range.begin % page == 0 && root.range.end % page == 0;
  if (root.range.size() < kArmedMin || !whole_pages || may_be_stack(root)) return false;
  return in_reader() || tracker_.knows(root.range);
}

void ConservativeRevoker::take(const RootRange& root) {
  if (phase_ == Phase::disarm)
    disarming_.disarm(root.range);
  else if (beside())
    arm(root.range);
  else if (!tracker_.written(root.range, *this))
    scan_root(root.range, RootAccess::copied);
}

// Pages that were just armed, or, in the stop, those written since. What was read before is read again whole:
// a chunk that was free, or painted and not hit, may be neither any more.
void ConservativeRevoker::pages(Range pages, RootAccess access) {
  const Range heap = request_.heap;
  const uintptr_t top = request_.base + (request_.top << kGranuleShift);
  if (beside()) access = RootAccess::direct;  // and guarded
  if (phase_ != Phase::beside) {
    again_bytes_ += pages.size();
    scan(pages, access);
  } else if (pages.begin >= heap.begin && pages.end <= top) {
    scan_heap(pages);
  } else {
    scan_root(pages, access);
  }
}

// A stack is live from its thread's stack pointer up; what is below is dead and full of old pointers. This
// may be said only of a mapping that is a stack and nothing else: the kernel's [stack], or what the C library
// maps for a thread by default (as large as the stack limit says, with or without the guard below it, and the
// thread's descriptor at its upper end). Elsewhere, in stacks that programs make themselves too, everything
// counts.
bool ConservativeRevoker::may_be_stack(const RootRange& root) {
  const size_t size = root.mapping.size(), whole = os::default_stack_bytes();
  return root.main_stack || (root.guard_below != 0 && (size == whole || root.guard_below + size == whole));
}

uintptr_t ConservativeRevoker::live_stack_start(const RootRange& root) const {
  const Range mapping = root.mapping;
  if (!may_be_stack(root)) return 0;
  auto start_for = [&](uintptr_t stack_pointer, uintptr_t thread_pointer) -> uintptr_t {
    if (!mapping.contains(stack_pointer)) return 0;
    const bool whole_stack =
        root.main_stack || (mapping.contains(thread_pointer) && thread_pointer > stack_pointer &&
                            mapping.end - thread_pointer <= kDescriptorRoom);
    return whole_stack ? align_down(stack_pointer - kRedZone, sizeof(uint64_t)) : 0;
  };
  uintptr_t lowest = start_for(self_stack_pointer_, self_thread_pointer_);
  // Frames that a signal interrupted may lie below an alternate stack in the same mapping.
  if (lowest != 0 && os::on_signal_stack_in(mapping)) return 0;
  for (size_t i = 0; i < stopper_.thread_count(); ++i) {
    const StoppedThread& thread = stopper_.thread(i);
    const uintptr_t start = start_for(thread.stack_pointer, thread.thread_pointer);
    if (start != 0 && (lowest == 0 || start < lowest)) lowest = start;
  }
  return lowest;
}

void ConservativeRevoker::scan_root(Range range, RootAccess access) {
  figures_.root_bytes += range.size();
  if (request_.options->unaligned && range.begin == scanned_until_) scan_seam(range.begin);
  scanned_until_ = range.end;
  scan(range, access);
}

void ConservativeRevoker::scan(Range range, RootAccess access) {
  if (access == RootAccess::copied)
    scan_copied(range);
  else
    scan_words(range.begin, range.end);
}

// The words across the end of one range and the beginning of the next, which may be read in different ways.
void ConservativeRevoker::scan_seam(uintptr_t at) {
  constexpr size_t kHalf = sizeof(uint64_t);
  if (copy_foreign(bounce, at - kHalf, 2 * kHalf) == 2 * kHalf) kernel_(target_, bounce, 2);
}

uint64_t ConservativeRevoker::scan_copied(Range range) {
  uint64_t news = 0;
  const size_t page = os::page_size();
  // Where words at any offset count, each piece begins with the last word of the one before.
  const size_t overlap = request_.options->unaligned ? sizeof(uint64_t) : 0;
  for (uintptr_t at = range.begin; at < range.end;) {
    const size_t wanted = range.end - at < kBounceBytes ? range.end - at : kBounceBytes;
    const size_t got = copy_foreign(bounce, at, wanted);
    news += kernel_(target_, bounce, got / sizeof(uint64_t));
    at += got;
    if (got < wanted) {
      at = align_down(at, page) + page;  // an unreadable page holds nothing to load
    } else if (at < range.end) {
      at -= overlap;
    }
  }
  return news;
}

// Nothing in this word of the bitmaps can hold a pointer: free memory is zero, and what is painted is read
// later if it turns out to be held. What was read beside the threads was widened already, so all that is
// painted counts in the stop. Beside them the bits change, but a page that is handed out is written then.
NONREUSE_READS_ANY_MEMORY bool ConservativeRevoker::is_empty(uint64_t word) const {
  const uint64_t painted = phase_ == Phase::again ? 0 : request_.shadow->painted()[word];
  return (request_.free_bits[word] | painted) == bits::kAll;
}

void ConservativeRevoker::scan_heap(Range range) {
  Range live{};
  const auto flush = [&] {
    figures_.heap_bytes += live.size();
    scan_words(live.begin, live.end);
  };
  for (uintptr_t at = range.begin; at < range.end; at += kWordBytes) {
    if (is_empty((at - request_.base) / kWordBytes)) continue;
    const uintptr_t end = at + kWordBytes < range.end ? at + kWordBytes : range.end;
    if (live.empty() || at - live.end >= kWordBytes) {
      if (!live.empty()) flush();
      live.begin = at;
    }
    live.end = end;
  }
  if (!live.empty()) flush();
}

// Of a chunk found hit. What was given back and trapped has no content.
bool ConservativeRevoker::scan_content(Run chunk) {
  if (request_.is_trapped(request_.context, chunk)) return false;
  const uintptr_t at = request_.base + (chunk.start << kGranuleShift);
  return scan_words(at, at + (chunk.length << kGranuleShift)) != 0;
}

}  // namespace nonreuse
