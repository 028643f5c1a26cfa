// Processes that help the thread that has stopped the others to read memory. (Not the one that reads beside
// them: if it was killed its helpers would go on for a while, and nobody could wait for them.)
//
// The leader gives pieces of memory into a ring, the helpers take them out, the leader takes, too, when it
// has none left to give. A helper that is killed with a piece in its hands is noticed: then what was to be
// read is not read, and finish() says so.
#pragma once

#include <atomic>

#include "platform/reader_process.hpp"
#include "revoke/memory_scanner.hpp"

namespace nonreuse {

class ReadingTeam {
 public:
  static constexpr size_t kMost = 15;

  constexpr explicit ReadingTeam(SweepState& state) : state_(state) {}
  // Starts so many helpers, as far as that can be had. leave() must follow.
  void start(size_t helpers, const int (&keep)[2]);
  bool empty() const { return size_ == 0; }
  // Until they are there, for a moment at most. One that has arrived and sleeps is given a free processor
  // when it is woken; one that has not may stand behind the leader, who does not sleep.
  void await();
  // `leader` reads what the ring has no room for.
  void give(const ReadingTask& task, MemoryScanner& leader);
  // Until all that was given is read. False: a helper was lost, and a piece with it.
  bool finish(MemoryScanner& leader);
  // Whether the helpers did their share, and nobody had to wait for them: else the processors are busy with
  // something else. After finish().
  bool paid() const;
  // Sends the helpers away, and adds what they counted. May wait for a moment.
  void leave(MemoryScanner::Figures& figures, uint64_t& cpu_ns);
  Range own_memory(size_t index) const { return helpers_[index].own_memory(); }
  void after_fork_in_child();

 private:
  static constexpr size_t kRing = 256;

  void work(ReaderProcess& process);
  bool take(ReadingTask& task);
  bool next(ReadingTask& task, const ReaderProcess& process);
  void ring(int how_many);
  bool all_alive() const;

  SweepState& state_;
  ReaderProcess helpers_[kMost];
  struct Place {
    ReadingTeam* team;
    ReaderProcess* process;
  } places_[kMost]{};
  size_t size_ = 0;
  uint32_t own_pieces_ = 0;  // read by the leader
  uint32_t own_taken_ = 0;   // of these, out of the ring
  uint64_t begin_ns_ = 0, end_ns_ = 0, waited_ns_ = 0;
  bool failed_ = false;
  ReadingTask ring_[kRing]{};
  std::atomic<uint32_t> given_{0}, taken_{0}, done_{0};
  std::atomic<uint32_t> arrived_{0};  // futex word of the leader, before the stop
  std::atomic<uint32_t> asleep_{0};
  std::atomic<uint32_t> bell_{0};  // futex word of those
  std::atomic<bool> over_{false};
  std::atomic<uint64_t> root_bytes_{0}, heap_bytes_{0}, cpu_ns_{0};
};

}  // namespace nonreuse
