// The backend for ordinary machines: a conservative sweep.
//
// All memory that the program could load a pointer from is read, and each aligned word that holds an address
// inside a painted chunk marks it as hit. Conservative: a number that looks like an address holds a chunk
// back, it never frees one.
//
// All of it is read with every other thread stopped. Where that would take longer than the option `pause`
// allows, if it is given, a process that shares the memory reads most of it first, beside the running program
// (docs/concurrency.md): each mapping is armed, then read; then revoke(), called again, stops the threads,
// and registers, stacks, what could not be armed, and every page written since it was armed are read. A word
// that moved meanwhile was written somewhere: to a register, a stack, or a page that is read again.
//
// What is read: registers, stacks from the stack pointer up, thread-local and static data, private and shared
// anonymous mappings, and the heap except what is free or painted; chunks found hit are read as well, since a
// program may have stored pointers through a dangling one.
#pragma once

#include <atomic>
#include <span>

#include "platform/roots.hpp"
#include "platform/thread_stop.hpp"
#include "revoke/beside_choice.hpp"
#include "revoke/memory_scanner.hpp"
#include "revoke/reading_team.hpp"

namespace nonreuse {

class alignas(64) ConservativeRevoker : private RootVisitor {
 public:
  static constexpr bool kHolds = true;

  // Answers `pending` while the program's memory is read beside it, unless the request says to wait, and even
  // then where hurry() says so. The painting must stay as it is until another answer.
  RevokeOutcome revoke(const RevokeRequest& request, RevokeFigures& figures);
  // From the first `pending` to the answer that ends the sweep.
  bool under_way() const { return open_.load(std::memory_order_acquire); }
  // A sweep is under way, and what is left is a short stop. Any thread.
  bool ready() const { return under_way() && !reader_.running(); }
  // A reader has ended after its sweep: tidy() clears up, under the sweep lock.
  bool leftover() const { return !under_way() && reader_.leftover(); }
  void tidy();
  // Until ready(), or nanoseconds have passed. Any thread.
  void await(uint64_t at_most_ns) const { reader_.wait(at_most_ns); }
  void after_fork_in_child();
  // What the last sweep left out as the library's own.
  std::span<const Range> own_ranges() const { return own_; }

 private:
  using Kind = ReadingTask::Kind;

  void visit(const RootRange& root) override;
  bool takes(const RootRange& root) override;
  void take(const RootRange& root) override;
  // What cannot be armed is read in the stop.
  bool only_takes() override { return state_.in_reader(); }

  void begin(const RevokeRequest& request);
  void choose_armed();
  void note_size(size_t size);
  void note_cost();
  enum class Left : uint8_t { yes, not_yet, stuck };
  Left take_over(const RevokeRequest& request);
  Left reader_left(const RevokeRequest& request);
  bool start_reader(SweepPhase phase);
  RevokeOutcome sweep_spilled(uintptr_t stack_pointer);
  void read_beside();
  void read_rounds();
  void stop_tracking();
  void start_team(bool armed);
  void dismiss_team(bool armed);
  RevokeOutcome stop_and_sweep(uintptr_t stack_pointer);
  RevokeOutcome sweep_stopped(uintptr_t stack_pointer);
  RootStatus walk();
  void expand(bool beside);
  bool content(Run chunk);
  bool may_be_worth(const RevokeRequest& request);
  void ask_later(Range range);
  void ask_all();
  void give(ReadingTask::Kind kind, Range range, RootAccess access = RootAccess::direct);
  void scan_registers();
  static bool may_be_stack(const RootRange& root);
  uintptr_t live_stack_start(const RootRange& root) const;

  RootWalker walker_;
  ThreadStopper stopper_;
  ReaderProcess reader_;
  SweepState state_;
  MemoryScanner scanner_{state_, &reader_};
  ReadingTeam team_{state_};
  BesideChoice choice_;
  // Of the last sweeps: the roots, and CPU time of the reading in the stop.
  uint64_t root_bytes_ = 0;
  uint64_t reading_ns_ = 0;
  uint64_t disarming_ns_ = 0;  // CPU time of the reader after the last sweep
  // Mappings that were found when memory was last read beside the program: bytes, by the logarithm of their
  // size.
  static constexpr size_t kUnarmedMost = size_t{64} << 20;
  static constexpr size_t kSizes = 26;  // up to that
  uint64_t sizes_[kSizes]{};
  size_t least_armed_ = 0;  // bytes; smaller mappings are read in the stop
  static constexpr size_t kAsked = 128;
  Range asked_[kAsked]{};  // of the walk under way in a stop
  size_t asked_count_ = 0;
  struct Help {
    uint32_t sweeps_alone = 0, after_failure = 0;  // so many sweeps go without
  };
  Help helps_[2];  // in stops that read everything, and in those that ask what was written
  // Of the sweep under way; the reading process writes here while it runs, nobody else then:
  std::atomic<bool> open_{false};
  RevokeFigures figures_{};
  Range own_[6 + ReadingTeam::kMost];  // the library's own memory, no roots
  int restarts_ = 0;                   // so many times more rounds may be added
  uint64_t read_until_ns_ = 0;
  uintptr_t self_stack_pointer_ = 0;
  uintptr_t self_thread_pointer_ = 0;
};

static_assert(Revoker<ConservativeRevoker>);

}  // namespace nonreuse
