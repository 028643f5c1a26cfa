// What memory is read with in a sweep: one scanner for each thread or process that reads.
#pragma once

#include <atomic>

#include "platform/reader_process.hpp"
#include "platform/roots.hpp"
#include "platform/write_tracker.hpp"
#include "revoke/revoker.hpp"
#include "revoke/scan.hpp"

namespace nonreuse {

enum class SweepPhase : uint8_t {
  whole,   // everything, with the threads stopped
  beside,  // what can be armed, beside running threads
  round,   // what was written to since, still beside them
  disarm,  // nothing: pages are armed no more
  again,   // the same and all the rest, with the threads stopped
};

// What all who read for one sweep go by. The phase changes only while one of them is at work.
struct SweepState {
  RevokeRequest request{};
  ScanTarget target{};
  ScanKernel kernel = nullptr;
  LiveKernel live_kernel = nullptr;
  SweepPhase phase = SweepPhase::whole;
  WriteTracker tracker, disarming;
  std::atomic<uint64_t> progress{0};       // grows while memory is read beside the threads
  std::atomic<uint64_t> armed_bytes{0};    // of mappings that were armed before they were read
  std::atomic<uint64_t> again_bytes{0};    // read because they were written to: in this round, or in the stop
  std::atomic<uint64_t> written_bytes{0};  // the same of all rounds

  bool beside() const { return phase == SweepPhase::beside || phase == SweepPhase::round; }
  bool in_reader() const { return beside() || phase == SweepPhase::disarm; }

  // Armed, but could not be read beside the program: to be read in the stop.
  void note_unread(Range range);
  static constexpr size_t kUnread = 16;
  Range unread[kUnread];
  std::atomic<size_t> unread_count{0};
};

// A piece of memory to read.
struct ReadingTask {
  enum class Kind : uint8_t {
    root,     // outside the heap
    heap,     // in the heap, below its top: only what may hold pointers
    arm,      // beside the threads: arm, then read
    written,  // in the stop: what was written to since
    disarm,
  };
  Kind kind;
  RootAccess access;  // of roots
  Range range;
};

class MemoryScanner final : private PageSink {
 public:
  // `process`: what reads in place beside the threads; not needed in a stop.
  constexpr MemoryScanner(SweepState& state, ReaderProcess* process) : state_(state), process_(process) {}

  void run(const ReadingTask& task);
  // Of a chunk found hit. True if it made others hit.
  bool content(Run chunk) { return words(bytes_of(chunk)) != 0; }
  void registers(const uint64_t* words, size_t count) { state_.kernel(state_.target, words, count); }
  // The number of chunks, or parts of them, that were hit for the first time.
  uint64_t read(Range range, RootAccess access);
  Range bytes_of(Run chunk) const {
    const Address at = state_.request.base + (chunk.start << kGranuleShift);
    return {at, at + (chunk.length << kGranuleShift)};
  }

  struct Figures {
    uint64_t root_bytes = 0, heap_bytes = 0;
  };
  Figures figures;

 private:
  void pages(Range pages, RootAccess access) override;
  void arm(Range range);
  void written(Range range);
  void root(Range range, RootAccess access);
  void heap(Range range);
  uint64_t words(Range range);
  uint64_t guarded(Range range);
  uint64_t copied(Range range);
  void seam(uintptr_t at);
  void heap_words(const LivePart& part);

  SweepState& state_;
  ReaderProcess* process_;
  uintptr_t read_until_ = 0;  // where the root read last ended
  WriteTracker::Answers answers_{};
  // Shared and doubtful memory is copied here to be read.
  static constexpr size_t kBounceBytes = 64 * 1024;
  alignas(64) uint64_t bounce_[kBounceBytes / sizeof(uint64_t)]{};
};

}  // namespace nonreuse
