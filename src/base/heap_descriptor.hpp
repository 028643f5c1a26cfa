// What a heap tells an observer: where its tables are, and what is recorded of each chunk. The library
// publishes it under the symbol nonreuse_heap_descriptor; `nonreuse report` finds it in the process's modules
// and reads the rest out of the process's memory. Numbers only: addresses are those of the observed process.
#pragma once

#include "base/types.hpp"

namespace nonreuse {

inline constexpr uint64_t kDescriptorMagic = 0x317061654865524eULL;
inline constexpr uint64_t kDescriptorVersion = 1;
inline constexpr size_t kMostFrames = 32;  // of one recorded stack

// A recorded stack is named by the index of its first word in the table of stacks: that word is its count of
// frames, and the frames follow, innermost first, as return addresses.
using StackId = uint32_t;
inline constexpr StackId kNoStack = 0;       // nothing was recorded
inline constexpr StackId kUnknownStack = 1;  // something was, but not where

// Two words for each granule at which a chunk starts.
struct ChunkRecord {
  uint64_t made;   // stack 24 bits, thread 22 bits
  uint64_t freed;  // the same, and above them the sweeps completed by then, modulo 2^18; 0: not freed
};
inline constexpr unsigned kStackBits = 24, kThreadBits = 22, kAgeBits = 18;
constexpr StackId stack_of(uint64_t word) {
  return static_cast<StackId>(word & ((uint64_t{1} << kStackBits) - 1));
}
constexpr uint32_t thread_of(uint64_t word) {
  return static_cast<uint32_t>(word >> kStackBits & ((uint64_t{1} << kThreadBits) - 1));
}
// Completed sweeps between the free and `epoch`, of which 2^18 count as none.
constexpr uint64_t age_of(uint64_t freed, uint64_t epoch) {
  return (epoch - (freed >> (kStackBits + kThreadBits))) & ((uint64_t{1} << kAgeBits) - 1);
}

// The records are in blocks of 2^kBlockShift granules, which come into being when they are needed.
inline constexpr unsigned kBlockShift = 18;  // 4 MiB of heap

struct HeapDescriptor {
  uint64_t magic, version;
  uint64_t base;       // of the heap: granule 0. 0: the heap is not ready
  uint64_t top_at;     // where the count of granules below which all chunks lie is
  uint64_t tags;       // the boundary tags (src/heap/tag_map.hpp)
  Range heap, tables;  // all addresses that chunks may ever have; the library's tables
  uint64_t own_at;     // more Ranges that are the library's own, as of the last sweep
  uint64_t own_count;  //
  uint64_t epoch;      // sweeps completed since recording began
  // Below: 0 where the option stacks is off.
  uint64_t stacks, stack_words;  // the table of stacks
  uint64_t blocks, block_count;  // addresses of blocks of records, 0 for those that are not there
  uint64_t next_word;
  uint64_t dropped;   // stacks and records for which there was no memory
  uint64_t unwinder;  // 1: stacks are recorded; 0: there is no unwinder, so all are unknown
};

// ---- what a process says to a reporter that listens for it
// --------------------------------------------------

inline constexpr uint64_t kReportMagic = 0x3174726f70655252ULL;
enum class ReportKind : uint32_t { at_exit, misuse, fault };

struct RecordedStack {
  uint64_t thread;  // 0: unknown
  uint64_t count;
  uint64_t frames[kMostFrames];
};

// Sent once by the process, which then copies what comes back to its standard error until the other side
// closes.
struct ReportMessage {
  uint64_t magic;
  ReportKind kind;
  uint32_t process, thread;
  uint32_t chunk_is_freed;
  uint64_t descriptor;                  // address of the HeapDescriptor
  uint64_t address, chunk, bytes, age;  // age in completed sweeps since the chunk was freed
  RecordedStack made, freed, now;
};

}  // namespace nonreuse
