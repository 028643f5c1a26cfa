#include "revoke/conservative.hpp"

#include <bit>

#include "platform/attributes.hpp"
#include "platform/live_stack.hpp"
#include "platform/os.hpp"
#include "platform/probes.hpp"
#include "platform/spill.hpp"
#include "revoke/batch.hpp"

namespace nonreuse {
namespace {

// Smaller mappings are read in the stop: to arm one costs as much. Those up to the other size are as well, as
// far as the pause allows.
constexpr size_t kArmedMin = 256 * 1024;
constexpr int kRounds = 12;
constexpr uint64_t kStale = 20'000'000;  // nanoseconds from the end of reading
constexpr int kRestarts = 3;
constexpr uint64_t kStuck = 5'000'000'000;                              // nanoseconds without progress
constexpr uint64_t kWorthHelp = 1'000'000, kWorthHelpAsking = 400'000;  // nanoseconds
constexpr uint64_t kAskingPerMib = 800;  // nanoseconds; to be told of a MiB that none of it was written

// Whether the heap's locks may be given back in the stop. ThreadSanitizer's runtime has a lock for each word
// that acquires or releases, and a stopped thread may hold the one of a word of the heap's locks, which it
// was trying. Other words that stopped threads acquire or release are left alone in the stop, or read relaxed
// (TagMap::covering), which takes no such lock.
constexpr bool kLocksBackInStop = !NONREUSE_THREAD_SANITIZED;

StackMapping stack_of(const RootRange& root) {
  return {root.mapping, root.guard_below, root.main_stack};
}

}  // namespace

RevokeOutcome ConservativeRevoker::revoke(const RevokeRequest& request, RevokeFigures& figures) {
  if (!under_way() && choice_.worth(*request.options, request.live + root_bytes_)) {
    restarts_ = kRestarts;
    open_.store(true, std::memory_order_release);
  }
  // One that is over may have pages to disarm still.
  Left left = Left::yes;
  if (under_way())
    left = take_over(request);
  else if ((left = reader_left(request)) == Left::yes)
    tidy();
  if (left != Left::yes) return left == Left::stuck ? RevokeOutcome::retry : RevokeOutcome::pending;
  if (under_way())
    state_.request = request;  // as things are now
  else
    begin(request);
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
  state_.request = request;
  figures_ = {};
  const KernelChoice kernel = request.options->kernel;
  state_.kernel = request.options->unaligned ? choose_unaligned_kernel(kernel) : choose_kernel(kernel);
  state_.live_kernel = choose_live_kernel(kernel);
  state_.target = {request.base, request.top << kGranuleShift, request.shadow->painted(),
                   request.shadow->hits(), request.shadow->news()};
  state_.phase = SweepPhase::whole;
  state_.armed_bytes = 0;
  state_.again_bytes = 0;
  state_.written_bytes = 0;
  state_.unread_count = 0;
  scanner_.figures = {};
}

// What a stop can read within a part of its pause need not be armed: arming, a fault for each page written,
// and disarming cost more. Small mappings first, which cost most for each byte, by what the last sweep found.
void ConservativeRevoker::choose_armed() {
  const uint64_t room = choice_.bytes_read_in(state_.request.options->pause * 375);
  least_armed_ = kArmedMin;
  uint64_t sum = 0;
  for (size_t i = 0; i < kSizes && (size_t{2} << i) <= kUnarmedMost; ++i) {
    sum += sizes_[i];
    if (sum > room) break;
    if (sizes_[i] != 0 && (size_t{2} << i) > least_armed_) least_armed_ = size_t{2} << i;
  }
  for (uint64_t& size : sizes_) size = 0;
}

// Goes on with the sweep as far as it gets without the threads. `yes` where their stop is all that is left.
ConservativeRevoker::Left ConservativeRevoker::take_over(const RevokeRequest& request) {
  for (;;) {
    if (const Left left = reader_left(request); left != Left::yes) return left;
    switch (state_.phase) {
      case SweepPhase::whole:
      case SweepPhase::disarm:  // of the sweep before
        state_.tracker.end();
        begin(request);
        choose_armed();
        if (state_.tracker.begin() && may_be_worth(request) && start_reader(SweepPhase::beside)) break;
        state_.tracker.end();
        return Left::yes;
      case SweepPhase::beside:
      case SweepPhase::round:  // it did not come to its end: something killed it
        state_.tracker.end();
        request.shadow->forget_all_hits(request.top);
        begin(request);
        return Left::yes;
      case SweepPhase::again:
        // Nobody came for a while, and more was written.
        if (restarts_ == 0 || os::now_ns() - read_until_ns_ < kStale) return Left::yes;
        --restarts_;
        if (!start_reader(SweepPhase::round)) return Left::yes;
        break;
    }
  }
}

// The tracker has just found out, perhaps, what it costs.
bool ConservativeRevoker::may_be_worth(const RevokeRequest& request) {
  const WriteTracker& tracker = state_.tracker;
  choice_.note_tracking(tracker.fault_ns(), tracker.arming_ns(), os::page_size());
  return choice_.worth(*request.options, request.live + root_bytes_);
}

// Waits for the end of the reader, as far as the request allows that.
ConservativeRevoker::Left ConservativeRevoker::reader_left(const RevokeRequest& request) {
  const auto progress = [&] { return state_.progress.load(std::memory_order_relaxed); };
  uint64_t since = os::now_ns(), seen = progress();
  while (reader_.running()) {
    if (!request.wait || request.hurry(request.context)) return Left::not_yet;
    reader_.wait(kReaderLook);
    const uint64_t waited = os::now_ns() - since;
    if (seen != progress()) {
      seen = progress();
      since = os::now_ns();
    } else if (waited > kStuck && (!reader_.kill() || waited > 2 * kStuck)) {
      return Left::stuck;  // it was stopped, perhaps
    }
  }
  reader_.reap();
  return Left::yes;
}

// Whatever it has left behind once it has ended. Of a sweep that is over.
void ConservativeRevoker::tidy() {
  if (under_way() || reader_.running()) return;
  reader_.reap();
  if (state_.phase == SweepPhase::disarm) state_.tracker.end();
  state_.phase = SweepPhase::whole;
}

bool ConservativeRevoker::start_reader(SweepPhase phase) {
  const SweepPhase before = state_.phase;
  state_.phase = phase;
  if (reader_.start([](void* self) { static_cast<ConservativeRevoker*>(self)->read_beside(); }, this,
                    state_.tracker.descriptors().pair))
    return true;
  state_.phase = before;
  return false;
}

RevokeOutcome ConservativeRevoker::sweep_spilled(uintptr_t stack_pointer) {
  const bool beside = state_.phase == SweepPhase::again;
  start_team(beside);
  const RevokeOutcome outcome = stop_and_sweep(stack_pointer);
  dismiss_team(beside);
  figures_.beside = beside && !state_.tracker.lost() && state_.armed_bytes != 0;
  figures_.again_bytes = beside ? state_.again_bytes.load(std::memory_order_relaxed) : 0;
  if (outcome == RevokeOutcome::cleared) {
    root_bytes_ = figures_.root_bytes;
    if (state_.phase == SweepPhase::whole)
      choice_.note_whole(figures_.root_bytes + figures_.heap_bytes, reading_ns_ + figures_.reader_cpu_ns);
    note_cost();
  } else {
    state_.request.shadow->forget_hits(state_.request.top);
  }
  if (beside) stop_tracking();
  return outcome;
}

// The reader has the descriptors, too: the last to close them disarms what it has left armed.
void ConservativeRevoker::stop_tracking() {
  state_.disarming = state_.tracker;
  if (!start_reader(SweepPhase::disarm))
    state_.phase = SweepPhase::whole;
  else if (!reader_.has_own_descriptors(kReaderLook))
    return;  // closed by the next sweep
  state_.tracker.end();
}

// What reading beside the threads cost, and reading all in the stop would not have.
void ConservativeRevoker::note_cost() {
  if (!figures_.beside) return;
  const uint64_t bytes = figures_.root_bytes + figures_.heap_bytes;
  const uint64_t whole_ns = choice_.whole_ns(bytes);
  figures_.faults_ns = state_.written_bytes / os::page_size() * state_.tracker.fault_ns();
  const uint64_t took_ns = reading_ns_ + figures_.reader_cpu_ns + figures_.faults_ns;
  figures_.extra_ns = took_ns > whole_ns ? took_ns - whole_ns : 0;
  choice_.note_beside(bytes, took_ns);
}

// In the reader. Reads everything that can be armed, then rounds.
void ConservativeRevoker::read_beside() {
  if (state_.phase == SweepPhase::disarm) {
    walk();
    disarming_ns_ = os::thread_cpu_ns();
    return;
  }
  if (state_.phase == SweepPhase::beside) {
    walk();
    expand(true);
    choice_.note_reader(scanner_.figures.root_bytes + scanner_.figures.heap_bytes, ReaderProcess::user_ns());
  }
  state_.phase = SweepPhase::round;
  read_rounds();
  figures_.reader_cpu_ns += os::thread_cpu_ns() + disarming_ns_;
  disarming_ns_ = 0;
  read_until_ns_ = os::now_ns();
  state_.again_bytes = 0;
  state_.phase = SweepPhase::again;
}

// Reads what was written in the meantime, again and again, until that is little enough for the stop, or does
// not get less even with the heap's busiest users waiting. What is missed here (mappings that come, go or
// change meanwhile) counts as written, and is read in the stop.
void ConservativeRevoker::read_rounds() {
  const uint64_t little = choice_.bytes_read_in(state_.request.options->pause * 250);
  uint64_t before = ~uint64_t{0};
  bool calm = false;
  for (int round = 0; round < kRounds && !state_.tracker.lost(); ++round) {
    state_.again_bytes = 0;
    state_.armed_bytes = 0;
    walk();
    state_.progress.fetch_add(1, std::memory_order_relaxed);
    const uint64_t again = state_.again_bytes.load(std::memory_order_relaxed);
    if (again <= little) break;
    const bool stuck = again > before / 4 * 3;
    if (stuck && calm) break;
    if (stuck) state_.request.calm(state_.request.context);
    calm = calm || stuck;
    before = stuck ? ~uint64_t{0} : again;
  }
}

// The heap's locks are taken when only the asking is left of the stop, if may be, and given back before the
// threads are let go, if may be: who waits for one would wait for the sweeping thread, and that one perhaps
// for a processor.
RevokeOutcome ConservativeRevoker::stop_and_sweep(uintptr_t stack_pointer) {
  const Options& options = *state_.request.options;
  StopMethod method = StopMethod::automatic;
  if (options.stop == StopChoice::ptrace) method = StopMethod::ptrace_helper;
  if (options.stop == StopChoice::signal) method = StopMethod::signal;
  const uint64_t timeout = options.stop_timeout * 1'000'000;
  if (state_.phase == SweepPhase::again) team_.await();
  if (kLocksBeforePrepare) state_.request.freeze(state_.request.context, true);
  stopper_.prepare(method, timeout);
  if (!kLocksBeforePrepare) state_.request.freeze(state_.request.context, true);
  const uint64_t begin = os::now_ns();
  probes::note_stop_begin();
  const StopResult stopped = stopper_.stop(method, timeout);
  RevokeOutcome outcome = stopped == StopResult::refused ? RevokeOutcome::blind : RevokeOutcome::retry;
  if (stopped == StopResult::stopped || stopped == StopResult::alone) {
    const uint64_t reading_begin = os::thread_cpu_ns();
    outcome = sweep_stopped(stack_pointer);
    reading_ns_ = os::thread_cpu_ns() - reading_begin;
  }
  if (kLocksBackInStop) state_.request.freeze(state_.request.context, false);
  if (stopped == StopResult::stopped) {
    // If they have not stayed stopped, they ran while they were read: what was not hit proves nothing.
    if (!stopper_.resume()) outcome = RevokeOutcome::retry;
    figures_.stop_begin_ns = stopper_.began_ns();
    figures_.pause_ns = stopper_.resumed_ns() - stopper_.began_ns();
  }
  if (!kLocksBackInStop) state_.request.freeze(state_.request.context, false);
  figures_.stood_ns = figures_.pause_ns != 0 ? figures_.pause_ns : os::now_ns() - begin;
  probes::note_stop_end(figures_.stood_ns);
  return outcome;
}

// Nothing moves from here on.
RevokeOutcome ConservativeRevoker::sweep_stopped(uintptr_t stack_pointer) {
  self_stack_pointer_ = stack_pointer;
  scan_registers();
  const RootStatus status = walk();
  if (status != RootStatus::complete)
    return status == RootStatus::try_again ? RevokeOutcome::retry : RevokeOutcome::blind;
  expand(false);
  return RevokeOutcome::cleared;
}

RootStatus ConservativeRevoker::walk() {
  const auto self = reinterpret_cast<uintptr_t>(this);
  Range* own = own_;
  *own++ = state_.request.tables;
  *own++ = state_.request.extra;
  *own++ = stopper_.own_memory();
  *own++ = reader_.own_memory();
  *own++ = {self, self + sizeof *this};
  for (size_t i = 0; i < ReadingTeam::kMost; ++i) *own++ = team_.own_memory(i);
  const uint32_t refusals = copy_foreign_refusals();
  for (size_t i = 0; !state_.in_reader() && i < SweepState::kUnread && i < state_.unread_count; ++i) {
    scanner_.read(state_.unread[i], RootAccess::copied);
  }
  const RootStatus status = walker_.walk(own_, static_cast<size_t>(own - own_), *this);
  if (status == RootStatus::complete) ask_all();
  asked_count_ = 0;
  if (!team_.finish(scanner_)) return RootStatus::try_again;
  // What the walker itself has not seen: helpers could not copy.
  const bool unread = status == RootStatus::complete && copy_foreign_refusals() != refusals;
  return unread ? RootStatus::try_again : status;
}

// Where memory is read, or the system asked about it, by more than one, the time that it takes is divided;
// starting them takes some, too. In a stop the processors of the other threads are free.
void ConservativeRevoker::start_team(bool armed) {
  const Options& options = *state_.request.options;
  const uint64_t wanted = options.readers_set ? options.readers : options.pause != 0 ? 1 : 0;
  const uint64_t expected = armed ? (state_.armed_bytes >> 20) * kAskingPerMib
                                  : choice_.whole_ns(state_.request.live + root_bytes_);
  if (wanted == 0 || options.unaligned || expected < (armed ? kWorthHelpAsking : kWorthHelp)) return;
  if (uint32_t& alone = helps_[armed].sweeps_alone; alone != 0) {
    --alone;
    return;
  }
  const size_t processors = ReaderProcess::processors();
  const size_t helpers = wanted < processors - 1 ? wanted : processors - 1;
  WriteTracker::Descriptors keep{{-1, -1}};
  if (armed) keep = state_.tracker.descriptors();
  team_.start(helpers, keep.pair);
}

// Where the processors are wanted by others, help is waited for longer than it saves: it is tried less and
// less often, from the second time in a row on.
void ConservativeRevoker::dismiss_team(bool armed) {
  constexpr uint32_t kMostAlone = 256;
  Help& help = helps_[armed];
  if (!team_.empty() && !team_.paid()) {
    help.sweeps_alone = help.after_failure;
    help.after_failure = help.after_failure < kMostAlone ? 2 * help.after_failure + 2 : kMostAlone;
  } else if (!team_.empty()) {
    help.after_failure = 0;
  }
  uint64_t cpu = 0;
  team_.leave(scanner_.figures, cpu);
  figures_.reader_cpu_ns += cpu;
  figures_.root_bytes = scanner_.figures.root_bytes;
  figures_.heap_bytes = scanner_.figures.heap_bytes;
}

void ConservativeRevoker::give(ReadingTask::Kind kind, Range range, RootAccess access) {
  team_.give({kind, access, range}, scanner_);
}

// Which pages were written is asked when the mappings are claimed, all of them unless they are too many:
// claiming and asking keep each other waiting.
void ConservativeRevoker::ask_later(Range range) {
  if (asked_count_ == kAsked) ask_all();
  asked_[asked_count_++] = range;
}

void ConservativeRevoker::ask_all() {
  for (size_t i = 0; i < asked_count_; ++i) give(Kind::written, asked_[i]);
  asked_count_ = 0;
}

// Beside the threads large chunks wait for the stop: what is known of them is under a lock.
void ConservativeRevoker::expand(bool beside) {
  const auto chunk_at = beside ? state_.request.chunk_at_unlocked : state_.request.chunk_at;
  figures_.held = state_.request.shadow->expand(
      state_.request.top, [&](Granule granule) { return chunk_at(state_.request.context, granule); },
      [&](Run chunk) { return content(chunk); },
      [&](Run chunk) { return beside && chunk.length >= kLargeChunk; });
}

// Of a chunk found hit. True if it made others hit.
bool ConservativeRevoker::content(Run chunk) {
  switch (state_.request.pages_of(state_.request.context, chunk)) {
    case LargePages::trapped:
      return false;
    case LargePages::present:
      return scanner_.content(chunk);
    case LargePages::given_back:
      break;
  }
  // To touch what is absent would bring it back, a page at a time. Its ends, less than a page each, were
  // never given back.
  struct Reader final : PageSink {
    Reader(MemoryScanner& reads, Range within) : scanner(reads), chunk(within) {}
    // In place whatever it says: this is memory of our own, and reading it cannot be refused.
    void pages(Range pages, RootAccess) override {
      if (pages.begin < chunk.begin) pages.begin = chunk.begin;
      if (pages.end > chunk.end) pages.end = chunk.end;
      news += scanner.read(pages, RootAccess::direct);
    }
    MemoryScanner& scanner;
    const Range chunk;
    uint64_t news = 0;
  } reader{scanner_, scanner_.bytes_of(chunk)};
  const size_t page = os::page_size();
  walker_.present({align_down(reader.chunk.begin, page), align_up(reader.chunk.end, page)}, reader);
  return reader.news != 0;
}

void ConservativeRevoker::scan_registers() {
  for (size_t i = 0; i < stopper_.thread_count(); ++i) {
    const StoppedThread& thread = stopper_.thread(i);
    scanner_.registers(thread.registers, thread.register_count);
  }
}

void ConservativeRevoker::visit(const RootRange& root) {
  Range range = root.range;
  const Range heap = state_.request.heap;
  if (range.begin < heap.end && range.end > heap.begin) {
    const Range below{range.begin, heap.begin}, above{heap.end, range.end};
    if (!below.empty()) give(Kind::root, below, root.access);
    if (!above.empty()) give(Kind::root, above, root.access);
    const Range inside{range.begin > heap.begin ? range.begin : heap.begin,
                       range.end < heap.end ? range.end : heap.end};
    // Memory inside the heap's range but above its top, or in a gap, is somebody else's mapping.
    const uintptr_t top = state_.request.base + (state_.request.top << kGranuleShift);
    if (root.access == RootAccess::copied) return give(Kind::root, inside, root.access);
    if (inside.begin < top) give(Kind::heap, {inside.begin, inside.end < top ? inside.end : top});
    if (inside.end > top)
      give(Kind::root, {inside.begin > top ? inside.begin : top, inside.end}, root.access);
    return;
  }
  const uintptr_t live = live_stack_start(root);
  if (range.begin < live) range.begin = live;
  if (!range.empty()) give(Kind::root, range, root.access);
}

void ConservativeRevoker::after_fork_in_child() {
  stopper_.after_fork_in_child();
  state_.tracker.after_fork_in_child();
  reader_.after_fork_in_child();
  team_.after_fork_in_child();
  // The reader was writing while memory was copied.
  if (under_way()) state_.request.shadow->forget_all_hits(state_.request.top);
  open_.store(false, std::memory_order_relaxed);
  state_.phase = SweepPhase::whole;
}

// ---- beside running threads (docs/concurrency.md) --------------------------------------------------------

// For the choice of the next sweep.
void ConservativeRevoker::note_size(size_t size) {
  if (state_.phase == SweepPhase::beside && size >= kArmedMin && size < kUnarmedMost)
    sizes_[std::bit_width(size) - 1] += size;
}

// Large mappings, but no stacks, which are read from the stack pointer up and are always in use, nor what is
// left of pages that hold the library's own tables.
bool ConservativeRevoker::takes(const RootRange& root) {
  if (state_.phase == SweepPhase::whole) return false;
  const size_t page = os::page_size();
  const bool whole_pages = root.range.begin % page == 0 && root.range.end % page == 0;
  if (!whole_pages || may_be_stack(root)) return false;
  note_size(root.range.size());
  if (root.range.size() < least_armed_) return false;
  return state_.in_reader() || state_.tracker.knows(root.mapping);
}

void ConservativeRevoker::take(const RootRange& root) {
  if (state_.beside() && !state_.tracker.claim(root.mapping, root.following)) return;  // left to the stop
  if (state_.phase == SweepPhase::disarm)
    give(Kind::disarm, root.range);
  else if (state_.beside())
    give(Kind::arm, root.range);
  else
    ask_later(root.range);
}

bool ConservativeRevoker::may_be_stack(const RootRange& root) {
  return stack_of(root).may_be_stack(os::default_stack_bytes());
}

uintptr_t ConservativeRevoker::live_stack_start(const RootRange& root) const {
  if (!may_be_stack(root)) return 0;
  const StackMapping stack = stack_of(root);
  uintptr_t lowest = stack.live_from(self_stack_pointer_, self_thread_pointer_);
  // Frames that a signal interrupted may lie below an alternate stack in the same mapping.
  if (lowest != 0 && os::on_signal_stack_in(root.mapping)) return 0;
  for (size_t i = 0; i < stopper_.thread_count(); ++i) {
    const StoppedThread& thread = stopper_.thread(i);
    const uintptr_t start = stack.live_from(thread.stack_pointer, thread.thread_pointer);
    if (start != 0 && (lowest == 0 || start < lowest)) lowest = start;
  }
  return lowest;
}

}  // namespace nonreuse
