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

#include "platform/reader_process.hpp"
#include "platform/roots.hpp"
#include "platform/thread_stop.hpp"
#include "platform/write_tracker.hpp"
#include "revoke/revoker.hpp"
#include "revoke/scan.hpp"

namespace nonreuse {

class ConservativeRevoker : private RootVisitor, private PageSink {
 public:
  static constexpr bool kHolds = true;

  // Answers `pending` while the program's memory is read beside it, unless the request says to wait, and even
  // then where hurry() says so. The painting must stay as it is until another answer.
  RevokeOutcome revoke(const RevokeRequest& request, RevokeFigures& figures);
  // From the first `pending` to the answer that ends the sweep.
  bool under_way() const { return open_.load(std::memory_order_acquire); }
  // A sweep is under way, and what is left is a short stop. Any thread.
  bool ready() const { return under_way() && !reader_.running(); }
  // Until ready(), or nanoseconds have passed. Any thread.
  void await(uint64_t at_most_ns) const { reader_.wait(at_most_ns); }
  void after_fork_in_child();

 private:
  enum class Phase : uint8_t {
    whole,   // everything, with the threads stopped
    beside,  // what can be armed, beside running threads
    round,   // what was written to since, still beside them
    disarm,  // nothing: pages are armed no more
    again,   // the same and all the rest, with the threads stopped
  };
  bool beside() const { return phase_ == Phase::beside || phase_ == Phase::round; }
  bool in_reader() const { return beside() || phase_ == Phase::disarm; }

  void visit(const RootRange& root) override;
  bool takes(const RootRange& root) override;
  void take(const RootRange& root) override;
  void pages(Range pages, RootAccess access) override;

  void begin(const RevokeRequest& request);
  bool worth_reading_beside(const RevokeRequest& request) const;
  bool take_over(const RevokeRequest& request);
  bool reader_left(const RevokeRequest& request);
  void end_reader();
  bool start_reader(Phase phase);
  RevokeOutcome sweep_spilled(uintptr_t stack_pointer);
  void note_speed();
  void read_beside();
  void read_rounds();
  void stop_tracking();
  void arm(Range range);
  RevokeOutcome stop_and_sweep(uintptr_t stack_pointer);
  RevokeOutcome sweep_stopped(uintptr_t stack_pointer);
  RootStatus walk();
  void expand(bool beside);
  void scan(Range range, RootAccess access);
  void scan_root(Range range, RootAccess access);
  uint64_t scan_copied(Range range);
  uint64_t scan_guarded(Range range);
  void scan_seam(uintptr_t at);
  void scan_heap(Range range);
  bool is_empty(uint64_t word) const;
  void scan_registers();
  bool scan_content(Run chunk);
  static bool may_be_stack(const RootRange& root);
  uintptr_t live_stack_start(const RootRange& root) const;
  uint64_t scan_words(uintptr_t begin, uintptr_t end);

  RootWalker walker_;
  ThreadStopper stopper_;
  WriteTracker tracker_, disarming_;
  ReaderProcess reader_;
  ScanKernel kernel_ = nullptr;
  // Of the last sweeps: CPU time for each MiB read, the roots, and CPU time of the reading in the stop.
  uint64_t ns_per_mib_ = 125'000;
  uint64_t root_bytes_ = 0;
  uint64_t reading_ns_ = 0;
  // Of the sweep under way; the reading process writes here while it runs, nobody else then:
  std::atomic<bool> open_{false};
  std::atomic<uint64_t> progress_{0};  // of the reading process: grows while it gets on
  RevokeRequest request_{};
  RevokeFigures figures_{};
  ScanTarget target_{};
  Phase phase_ = Phase::whole;
  Range own_[6];      // the library's own memory, no roots
  Range unread_[16];  // armed, but could not be read beside the program
  size_t unread_count_ = 0;
  int restarts_ = 0;  // so many times more rounds may be added
  uint64_t read_until_ns_ = 0;
  uint64_t again_bytes_ = 0;     // read again in this round, or in the stop
  uintptr_t scanned_until_ = 0;  // where the root range scanned last ended
  uintptr_t self_stack_pointer_ = 0;
  uintptr_t self_thread_pointer_ = 0;
};

static_assert(Revoker<ConservativeRevoker>);

}  // namespace nonreuse
