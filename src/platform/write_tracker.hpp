// Which pages were written since a moment: what lets a sweep read memory beside running threads.
//
// A page that is read while the program runs may be written behind the reader's back. Armed before it is
// read, it is told afterwards if it was: whoever reads it again then, with everything at rest, has missed
// nothing. Where the system cannot tell, it says so and all of a range must be read again.
#pragma once

#include "base/types.hpp"
#include "platform/roots.hpp"

namespace nonreuse {

// Source: linux Documentation/admin-guide/mm/userfaultfd.rst (write protection, asynchronous), pagemap.rst
// (PAGEMAP_SCAN); membarrier(2). Holds two file descriptors between begin() and end(). arm(), written()
// and disarm() may be called by several at once, threads of the process or processes that share its memory
// and have the descriptors, too; the others while nobody does. Allocates nothing, leaves errno alone.
class WriteTracker {
 public:
  // What the system writes its answers into: one for each who asks. Full of addresses of pages, hence no
  // root.
  struct Answers {
    static constexpr size_t kCount = 64;
    struct Region {
      uint64_t words[3];
    };
    Region regions[kCount], rough[kCount];
  };

  // False where writes cannot be tracked: an older system, a system call filter, no descriptor to be had, or
  // a self-test that failed. The test is made once in a process; a child of fork makes its own.
  bool begin();
  // A mapping whose pages may be armed from now on; `following` is where the next one begins, 0 if that is
  // not known. All of it at once, and the hole above it, since the system divides mappings where tracking
  // ends, and mremap(2) of what it has divided fails: parts of a mapping are not tracked, and one that grows
  // meanwhile stays whole. False where somebody else tracks it.
  bool claim(Range mapping, uintptr_t following = 0);
  // From now on writes to the pages of `range`, of a claimed mapping, are noted, by whomever, the kernel
  // included. Tells the pages that hold something and were not armed, or were written since, each after it
  // was armed, with every store to it visible that was made before: reading them now, and what is told later,
  // is reading all. Memory elsewhere whose content says what need not be read is as it was at that moment or
  // later only if `fenced`. Where this fails, for some pages or for all, written() says so.
  void arm(Range range, bool fenced, PageSink& sink, Answers& answers);
  // Pages that were told could not be read: nothing is known of any.
  void lose() { __atomic_store_n(&lost_, true, __ATOMIC_RELAXED); }
  bool lost() const { return __atomic_load_n(&lost_, __ATOMIC_RELAXED); }
  // Whether written() can tell of parts of the mapping: claimed once more, since nothing else proves that it
  // is not somebody else who tracks it. Takes the lock on the map of memory for writing, for which who asks
  // about pages at the same time stands still. Call with every thread stopped.
  bool knows(Range mapping) { return !lost() && claim(mapping); }
  // Tells the pages of `range` that were written since they were armed, or have been mapped anew. Call with
  // every thread stopped. False: nothing is known of them (some may have been told): read all of `range`.
  bool written(Range range, PageSink& sink, Answers& answers);
  // Pages of `range` are armed no more. What end() does as well, but for all at once and with the process's
  // map of memory locked: pages that are touched for the first time would wait.
  void disarm(Range range);
  void end();
  struct Descriptors {
    int pair[2];
  };
  Descriptors descriptors() const { return {{faults_.fd(), pagemap_.fd()}}; }
  // What the first write to an armed page costs here, in nanoseconds, by the self-test.
  uint64_t fault_ns() const { return fault_ns_; }
  // And what a page costs that is armed and disarmed, among others.
  uint64_t arming_ns() const { return arming_ns_; }
  void after_fork_in_child();

 private:
  class Handle {
   public:
    bool take(long opened);  // a descriptor, or -errno
    void drop();
    int fd() const { return fd_; }

   private:
    bool identify(uint64_t* device, uint64_t* inode) const;
    int fd_ = -1;
    uint64_t device_ = 0, inode_ = 0;
  };
  enum class Verdict : uint8_t { unknown, good, bad };

  bool open();
  bool enlist(Range range);
  enum class Question : uint8_t { protect, protect_fenced, written };
  bool ask(Range range, Question question, PageSink& sink, Answers& answers);
  bool ask_roughly(Range range, PageSink& sink, Answers& answers);
  Verdict test();
  bool notes_writes(Range pages);
  bool notes_moves(Range from, uintptr_t to);
  uint64_t time_arming(Range pages, Answers& answers);

  Verdict verdict_ = Verdict::unknown;
  uint64_t fault_ns_ = 1'400, arming_ns_ = 200;
  bool lost_ = false;  // pages may have been armed without being told
  Handle faults_;      // userfaultfd
  Handle pagemap_;
};

}  // namespace nonreuse
