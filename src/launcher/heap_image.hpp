// The heap of an observed process as its tables show it: chunks, live or in quarantine, and what is recorded
// of each.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/heap_descriptor.hpp"
#include "launcher/observed.hpp"

namespace nonreuse::launcher {

struct HeapChunk {
  Granule start = 0;
  Granules length = 0;
  bool freed = false;
  size_t bytes() const { return length << kGranuleShift; }
};

// Where the library's descriptor is in the process, or 0. `mappings` are the process's.
uint64_t find_descriptor(const ObservedProcess& process, const std::vector<ObservedMapping>& mappings);

class HeapImage {
 public:
  // Reads the tables; the process is stopped. Throws Failure where there is no heap at `descriptor`.
  HeapImage(const ObservedProcess& process, uint64_t descriptor);

  const HeapDescriptor& descriptor() const { return descriptor_; }
  bool has_stacks() const { return descriptor_.stacks != 0; }
  // All chunks, in address order.
  const std::vector<HeapChunk>& chunks() const { return chunks_; }
  Range range() const { return {descriptor_.base, descriptor_.base + (top_ << kGranuleShift)}; }
  uint64_t address(const HeapChunk& chunk) const { return descriptor_.base + (chunk.start << kGranuleShift); }
  // Index into chunks() of the one around `address`, if there is one.
  std::optional<size_t> around(uint64_t address) const;
  // What is the library's own, and no root.
  const std::vector<Range>& own() const { return own_; }
  ChunkRecord record(const HeapChunk& chunk) const;
  std::vector<uint64_t> stack(StackId id) const;

 private:
  void decode(const std::vector<uint8_t>& tags);

  const ObservedProcess& process_;
  HeapDescriptor descriptor_{};
  Granule top_ = 0;
  std::vector<HeapChunk> chunks_;
  std::vector<bool> covered_;  // granules of chunks: most words that look like addresses are told apart here
  std::vector<Range> own_;
  std::vector<uint64_t> blocks_;
};

}  // namespace nonreuse::launcher
