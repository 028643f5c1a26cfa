// Reading a trace: the blocks of a file checked and put in order, then all records in order of time.
//
// What is damaged or cut off ends the trace: everything before it (in the file) is delivered, and problem()
// says what is wrong. Nothing here prints, and any bytes may be given to it.
#pragma once

#include <cstdint>
#include <queue>
#include <span>
#include <string>
#include <vector>

#include "trace/decode.hpp"

namespace nonreuse::launcher {

struct TracedProcess {
  uint64_t instance = 0;
  uint64_t parent = 0;  // instance that this one was forked from, or 0
  uint32_t process = 0;
  uint64_t forked_ns = 0;  // if it has a parent
  uint64_t begin_ns = 0;   // first record; CLOCK_MONOTONIC
  uint64_t wall_ns = 0;    // CLOCK_REALTIME of begin_ns
  std::string command;     // of its last block: fork's children exec, servers rename themselves
};

struct TracedThread {
  size_t process = 0;  // index
  uint32_t thread = 0;
  // Places in the file of its records, in order of time: [begin, end) and when each begins.
  struct Piece {
    size_t begin, end;
    uint64_t begin_ns, index;
    bool closed;
  };
  std::vector<Piece> pieces;
};

struct TraceEvent {
  bool birth = false;              // of a process; the record is empty but for its time
  size_t process = 0, thread = 0;  // indices; a birth has no thread
  trace::Record record;
};

class TraceReader {
 public:
  // The memory must outlive the reader. `cut`: the memory is not all there was.
  explicit TraceReader(std::span<const uint8_t> file, const std::string& cut = "");

  // "" or what is wrong with the file, and where.
  const std::string& problem() const { return problem_; }
  uint64_t dropped() const { return dropped_; }  // calls that the recorder could not write
  const std::vector<TracedProcess>& processes() const { return processes_; }
  const std::vector<TracedThread>& threads() const { return threads_; }
  uint64_t record_bytes() const { return record_bytes_; }

  // The next event in order of time; false at the end.
  bool next(TraceEvent& event);
  void rewind();

 private:
  struct Stream {
    size_t thread = 0, piece = 0;
    trace::Decoder decoder{nullptr, nullptr, 0};
    trace::Record record;
  };
  struct Found {
    trace::BlockHeader header;
    TracedThread::Piece piece;
  };
  // What is to come next: a birth (source = process), or a stream's record (behind the processes). Births
  // first.
  struct Head {
    uint64_t time;
    size_t source;
    bool operator>(const Head& other) const {
      return time != other.time ? time > other.time : source > other.source;
    }
  };

  void fail(size_t offset, const char* what);
  bool read_header();
  std::vector<Found> find_blocks();
  bool take_block(size_t at, std::vector<Found>& found, size_t& next, size_t& window_end);
  void sort_blocks(std::vector<Found> found);
  size_t process_of(const trace::BlockHeader& header);
  bool advance(Stream& stream);

  std::span<const uint8_t> file_;
  std::string problem_;
  uint64_t dropped_ = 0, record_bytes_ = 0, next_window_ = 0;
  std::vector<TracedProcess> processes_;
  std::vector<TracedThread> threads_;
  std::vector<Stream> streams_;
  std::priority_queue<Head, std::vector<Head>, std::greater<>> heads_;
};

}  // namespace nonreuse::launcher
