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

// Shared and doubtful memory is copied here before it is read. Under the sweep lock, so one is enough.
constexpr size_t kBounceBytes = 64 * 1024;
alignas(64) uint64_t bounce[kBounceBytes / sizeof(uint64_t)];

}  // namespace

RevokeOutcome ConservativeRevoker::revoke(const RevokeRequest& request, RevokeFigures& figures) {
  request_ = &request;
  figures_ = &figures;
  const KernelChoice kernel = request.options->kernel;
  kernel_ = request.options->unaligned ? choose_unaligned_kernel(kernel) : choose_kernel(kernel);
  target_ = {request.base, request.top << kGranuleShift, request.shadow->painted(), request.shadow->hits()};
  self_thread_pointer_ = os::thread_identity();
  // Registers that calls preserve go to this stack, below the frames that hold the program's own.
  RevokeOutcome outcome = RevokeOutcome::retry;
  auto body = [&](uintptr_t stack_pointer) { outcome = sweep_spilled(stack_pointer); };
  with_registers_spilled(body);
  return outcome;
}

RevokeOutcome ConservativeRevoker::sweep_spilled(uintptr_t stack_pointer) {
  const Options& options = *request_->options;
  StopMethod method = StopMethod::automatic;
  if (options.stop == StopChoice::ptrace) method = StopMethod::ptrace_helper;
  if (options.stop == StopChoice::signal) method = StopMethod::signal;
  const uint64_t begin = os::now_ns();
  const StopResult stopped = stopper_.stop(method, options.stop_timeout * 1'000'000);
  if (stopped == StopResult::timed_out) return RevokeOutcome::retry;
  if (stopped == StopResult::refused) return RevokeOutcome::blind;
  const RevokeOutcome outcome = sweep_stopped(stack_pointer);
  if (stopped == StopResult::stopped) {
    const bool stayed = stopper_.resume();
    figures_->pause_ns = os::now_ns() - begin;
    if (!stayed) {  // they ran while they were read: what was not hit proves nothing
      request_->shadow->forget_hits(request_->top);
      return RevokeOutcome::retry;
    }
  }
  return outcome;
}

// Nothing moves from here on.
RevokeOutcome ConservativeRevoker::sweep_stopped(uintptr_t stack_pointer) {
  self_stack_pointer_ = stack_pointer;
  scanned_until_ = 0;
  const Range bounce_range{reinterpret_cast<uintptr_t>(bounce),
                           reinterpret_cast<uintptr_t>(bounce + kBounceBytes / 8)};
  const Range own[] = {request_->tables, request_->extra, stopper_.own_memory(), bounce_range};
  scan_registers();
  const RootStatus status = walker_.walk(own, sizeof own / sizeof own[0], *this);
  if (status != RootStatus::complete) {
    request_->shadow->forget_hits(request_->top);
    return status == RootStatus::try_again ? RevokeOutcome::retry : RevokeOutcome::blind;
  }
  figures_->held = request_->shadow->expand(
      request_->top, [&](Granule granule) { return request_->chunk_at(request_->context, granule); },
      [&](Run chunk) { return scan_content(chunk); });
  return RevokeOutcome::cleared;
}

void ConservativeRevoker::scan_registers() {
  for (size_t i = 0; i < stopper_.thread_count(); ++i) {
    const StoppedThread& thread = stopper_.thread(i);
    kernel_(target_, thread.registers, thread.register_count);
  }
}

uint64_t ConservativeRevoker::scan_words(uintptr_t begin, uintptr_t end) {
  return kernel_(target_, reinterpret_cast<const uint64_t*>(begin), (end - begin) / sizeof(uint64_t));
}

void ConservativeRevoker::visit(const RootRange& root) {
  Range range = root.range;
  const Range heap = request_->heap;
  if (range.begin < heap.end && range.end > heap.begin) {
    const Range below{range.begin, heap.begin}, above{heap.end, range.end};
    if (!below.empty()) scan_root(below, root.access);
    if (!above.empty()) scan_root(above, root.access);
    const Range inside{range.begin > heap.begin ? range.begin : heap.begin,
                       range.end < heap.end ? range.end : heap.end};
    // Memory inside the heap's range but above its top, or in a gap, is somebody else's mapping.
    const uintptr_t top = request_->base + (request_->top << kGranuleShift);
    if (root.access == RootAccess::copied) return scan_root(inside, root.access);
    if (inside.begin < top) scan_heap({inside.begin, inside.end < top ? inside.end : top});
    if (inside.end > top) scan_root({inside.begin > top ? inside.begin : top, inside.end}, root.access);
    return;
  }
  const uintptr_t live = live_stack_start(root);
  if (range.begin < live) range.begin = live;
  if (!range.empty()) scan_root(range, root.access);
}

// A stack is live from its thread's stack pointer up; what is below is dead and full of old pointers. This
// may be said only of a mapping that is a stack and nothing else: the kernel's [stack], or what the C library
// maps for a thread by default (as large as the stack limit says, with or without the guard below it, and the
// thread's descriptor at its upper end). Elsewhere, in stacks that programs make themselves too, everything
// counts.
uintptr_t ConservativeRevoker::live_stack_start(const RootRange& root) const {
  const Range mapping = root.mapping;
  const size_t whole = os::default_stack_bytes();
  const bool thread_stack =
      root.guard_below != 0 && (mapping.size() == whole || root.guard_below + mapping.size() == whole);
  if (!root.main_stack && !thread_stack) return 0;
  auto start_for = [&](uintptr_t stack_pointer, uintptr_t thread_pointer) -> uintptr_t {
    if (!mapping.contains(stack_pointer)) return 0;
    const bool whole_stack = root.main_stack || (thread_stack && mapping.contains(thread_pointer) &&
                                                 thread_pointer > stack_pointer &&
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
  figures_->root_bytes += range.size();
  if (request_->options->unaligned && range.begin == scanned_until_) scan_seam(range.begin);
  scanned_until_ = range.end;
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

void ConservativeRevoker::scan_copied(Range range) {
  const size_t page = os::page_size();
  // Where words at any offset count, each piece begins with the last word of the one before.
  const size_t overlap = request_->options->unaligned ? sizeof(uint64_t) : 0;
  for (uintptr_t at = range.begin; at < range.end;) {
    const size_t wanted = range.end - at < kBounceBytes ? range.end - at : kBounceBytes;
    const size_t got = copy_foreign(bounce, at, wanted);
    kernel_(target_, bounce, got / sizeof(uint64_t));
    at += got;
    if (got < wanted) {
      at = align_down(at, page) + page;  // an unreadable page holds nothing to load
    } else if (at < range.end) {
      at -= overlap;
    }
  }
}

// Skips what is free (it is zero) or painted (read later if it turns out to be held), a bitmap word at a
// time.
void ConservativeRevoker::scan_heap(Range range) {
  const uint64_t* free_bits = request_->free_bits;
  const uint64_t* painted = request_->shadow->painted();
  uintptr_t live_begin = 0;
  for (uintptr_t at = range.begin; at < range.end; at += kWordBytes) {
    const uint64_t word = (at - request_->base) / kWordBytes;
    if ((free_bits[word] | painted[word]) != bits::kAll) {
      if (live_begin == 0) live_begin = at;
      continue;
    }
    if (live_begin != 0) {
      figures_->heap_bytes += at - live_begin;
      scan_words(live_begin, at);
      live_begin = 0;
    }
  }
  if (live_begin != 0) {
    figures_->heap_bytes += range.end - live_begin;
    scan_words(live_begin, range.end);
  }
}

// Of a chunk found hit. What was given back and trapped has no content.
bool ConservativeRevoker::scan_content(Run chunk) {
  if (request_->is_trapped(request_->context, chunk)) return false;
  const uintptr_t at = request_->base + (chunk.start << kGranuleShift);
  return scan_words(at, at + (chunk.length << kGranuleShift)) != 0;
}

}  // namespace nonreuse
