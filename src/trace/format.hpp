// The trace file: what the recorder writes and the tools of the launcher read. docs/tracing.md describes it.
//
//   file   = FileHeader (a page of its own), then windows: pieces that belong to one thread at a time
//   window = blocks, each at a multiple of 64 bytes; the rest of a window is zero
//   block  = BlockHeader, then records of one thread in order of time, then a zero byte
//
// All numbers are little-endian. A record is appended with its first byte last, so that a process that is
// killed at any instant leaves whole records only. A block that its thread has left is closed: it has a
// length and a check. Blocks of killed processes stay open and end at the zero.
//
// A record's first byte: bits 0-1 the kind (1 malloc, 2 free, 3 realloc; 0: the rest is the number of one of
// the rarer records), bits 2-3 the bytes of the time that passed (0, 1, 2, 4), bits 4-5 those of the size and
// 6-7 those of the address (1, 2, 4, 8). Time, size, address follow. Addresses are in granules, as the
// difference from the address of the block's last record of that kind, zigzag. realloc has a byte and the
// difference of the new address from the old one behind it. Rarer records: the number's byte, the time, and
// their fields, all as LEB128.
#pragma once

#include <cstring>

#include "base/types.hpp"

namespace nonreuse::trace {

inline constexpr uint64_t kFileMagic = 0x31657362'7274726eULL;  // "nrtrbse1"
inline constexpr uint32_t kBlockMagic = 0x62'72'74'2eU;         // ".trb"
inline constexpr uint32_t kVersion = 2;                         // 2 has the record `stop`
inline constexpr uint32_t kOldestVersion = 1;                   // that can be read
inline constexpr size_t kFileHeaderBytes = 64 * 1024;           // whole pages everywhere
inline constexpr size_t kWindowUnit = 16 * 1024;                // a window is some of these, and whole pages
inline constexpr size_t kBlockAlign = 64;

struct FileHeader {
  uint64_t magic;
  uint32_t version;
  uint32_t header_bytes;
  // Counted up by every process that writes, atomically.
  uint64_t next;     // where the next window starts
  uint64_t dropped;  // calls that could not be recorded
};

struct BlockHeader {
  uint32_t magic;         // written last
  uint32_t header_check;  // of the bytes from `instance` to `length`, without the latter
  uint64_t instance;      // names the process: random, another one after fork and exec
  uint64_t parent;        // the instance that this one was forked from, or 0
  uint32_t process, thread;
  uint64_t forked_ns;   // when; CLOCK_MONOTONIC
  uint64_t begin_ns;    // CLOCK_MONOTONIC, where the first record's time counts from
  uint64_t wall_ns;     // CLOCK_REALTIME of the same moment
  uint64_t index;       // of this block among its thread's
  uint64_t window_end;  // offset in the file
  char command[16];
  // Written when the block is closed; 0 until then.
  uint64_t length;  // bytes of records
  uint64_t check;   // of them
};
static_assert(sizeof(BlockHeader) == 104);

enum class Kind : uint8_t { rare = 0, malloc = 1, free = 2, realloc = 3 };

// Numbers of the rarer records; the fields of each.
enum class Rare : uint8_t {
  none,
  start,           // chunks, bytes that were live in the heap already
  aligned,         // address difference as of malloc, size, log2 of the alignment
  failed,          // size, log2 of the alignment: malloc that returned nothing
  failed_realloc,  // address difference as of free, size
  free_raw,        // the address: free of what is no multiple of 16
  seal,            // chunks, bytes: a thread's freed chunks were put in quarantine
  sweep_begin,     // bytes quarantined, bytes live
  sweep_end,       // 1 done or 0 abandoned, held chunks, held bytes, pause in ns
  release,         // bytes that went back to the free pool
  gauges,          // bytes live, quarantined, held, footprint
  finish,          // chunks, bytes live in the heap, by its own count: after the program's exit handlers
  raw_realloc,     // the old address, size, the new address: realloc of what is no multiple of 16
  pause,           // nothing: time passed
  stop,            // ns (CLOCK_MONOTONIC) when threads began to stop for a sweep, ns until they ran again
  count
};
inline constexpr uint8_t kRareFields[] = {0, 2, 3, 2, 2, 1, 2, 2, 4, 1, 4, 2, 3, 0, 2};
static_assert(sizeof(kRareFields) == static_cast<size_t>(Rare::count));
inline constexpr size_t kMostFields = 4;
inline constexpr size_t kLongestRecord = 1 + 10 + 10 * kMostFields;

constexpr uint64_t zigzag(uint64_t difference) {
  return difference << 1 ^ (static_cast<int64_t>(difference) < 0 ? ~uint64_t{0} : 0);
}
constexpr uint64_t unzigzag(uint64_t value) {
  return value >> 1 ^ (0 - (value & 1));
}

// 0, 1, 2, 3 for values of 1, 2, 4, 8 bytes.
constexpr unsigned width_code(uint64_t value) {
  return (value > 0xff) + (value > 0xffff) + (value > 0xffff'ffff);
}

// A check of memory; finds any damage of few bits. Not cryptographic.
inline uint64_t checksum(const uint8_t* bytes, size_t size) {
  uint64_t sum = 0x9e3779b97f4a7c15ULL ^ size;
  const auto mix = [&sum](uint64_t word) {
    sum = (sum ^ word) * 0xd6e8feb86659fd93ULL;
    sum ^= sum >> 32;
  };
  for (; size >= 8; bytes += 8, size -= 8) {
    uint64_t word;
    memcpy(&word, bytes, 8);
    mix(word);
  }
  uint64_t rest = 0;
  memcpy(&rest, bytes, size);
  mix(rest);
  return sum;
}

inline uint32_t header_check(const BlockHeader& header) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(&header);
  constexpr size_t kFrom = offsetof(BlockHeader, instance);
  const uint64_t sum = checksum(bytes + kFrom, offsetof(BlockHeader, length) - kFrom);
  return static_cast<uint32_t>(sum ^ sum >> 32);
}

// What the differences in a block refer to.
struct Context {
  uint64_t time = 0;               // ns
  uint64_t made = 0, dropped = 0;  // granules: last address of malloc and realloc, of free and realloc
};

}  // namespace nonreuse::trace
