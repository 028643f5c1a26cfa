// The backend for ordinary machines: a conservative sweep.
//
// With every other thread stopped, all memory that the program could load a pointer from is read, and each
// aligned word that holds an address inside a painted chunk marks it as hit. Conservative: a number that
// looks like an address holds a chunk back, it never frees one. What is read: registers, stacks from the
// stack pointer up, thread-local and static data, private and shared anonymous mappings, and the heap except
// what is free or painted; chunks found hit are read as well, since a program may have stored pointers
// through a dangling one.
#pragma once

#include "platform/roots.hpp"
#include "platform/thread_stop.hpp"
#include "revoke/revoker.hpp"
#include "revoke/scan.hpp"

namespace nonreuse {

class ConservativeRevoker : private RootVisitor {
 public:
  static constexpr bool kHolds = true;

  RevokeOutcome revoke(const RevokeRequest& request, RevokeFigures& figures);
  void after_fork_in_child() { stopper_.after_fork_in_child(); }

 private:
  void visit(const RootRange& root) override;
  RevokeOutcome sweep_spilled(uintptr_t stack_pointer);
  RevokeOutcome sweep_stopped(uintptr_t stack_pointer);
  void scan(uintptr_t begin, uintptr_t end);
  void scan_root(Range range, RootAccess access);
  void scan_copied(Range range);
  void scan_seam(uintptr_t at);
  void scan_heap(Range range);
  void scan_registers();
  bool scan_content(Run chunk);
  uintptr_t live_stack_start(const RootRange& root) const;
  uint64_t scan_words(uintptr_t begin, uintptr_t end);

  RootWalker walker_;
  ThreadStopper stopper_;
  ScanKernel kernel_ = nullptr;
  // Of the sweep under way:
  const RevokeRequest* request_ = nullptr;
  RevokeFigures* figures_ = nullptr;
  ScanTarget target_{};
  uintptr_t scanned_until_ = 0;  // where the root range scanned last ended
  uintptr_t self_stack_pointer_ = 0;
  uintptr_t self_thread_pointer_ = 0;
};

static_assert(Revoker<ConservativeRevoker>);

}  // namespace nonreuse
