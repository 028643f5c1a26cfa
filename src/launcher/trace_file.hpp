// A trace file in memory, unpacked if it was packed with zstd.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace nonreuse::launcher {

class TraceContent {
 public:
  // Throws Failure where the file cannot be read at all. What zstd cannot unpack is left out: see problem().
  explicit TraceContent(const std::string& path);
  ~TraceContent();
  TraceContent(const TraceContent&) = delete;
  TraceContent& operator=(const TraceContent&) = delete;

  std::span<const uint8_t> bytes() const { return bytes_; }
  const std::string& problem() const { return problem_; }
  size_t size_on_disk() const { return mapped_size_; }

 private:
  void unpack(std::span<const uint8_t> packed);

  void* mapped_ = nullptr;
  size_t mapped_size_ = 0;
  std::vector<uint8_t> unpacked_;
  std::span<const uint8_t> bytes_;
  std::string problem_;
};

// Makes way for a new trace at `path`: removes an old one. Throws Failure where something else is there.
void remove_old_trace(const std::string& path);

// Replaces the trace by its zstd form, which every command reads as well. "" or why that was not done: a
// process that is in it still runs, it is not there, there is no room.
std::string pack_trace(const std::string& path);

}  // namespace nonreuse::launcher
