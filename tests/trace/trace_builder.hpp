// Traces made in memory, for tests of their reader.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "trace/encode.hpp"

namespace nonreuse::trace {

class TraceBuilder {
 public:
  TraceBuilder() : bytes_(kFileHeaderBytes) {
    const FileHeader header{kFileMagic, kVersion, kFileHeaderBytes, kFileHeaderBytes, 0};
    memcpy(bytes_.data(), &header, sizeof header);
  }

  struct Block {
    uint64_t instance = 1, parent = 0;
    uint32_t process = 100, thread = 100;
    uint64_t begin_ns = 1000, index = 0, forked_ns = 0;
    bool closed = true;
  };

  // A window of its own with one block of `records`.
  void add(const Block& block, std::span<const uint8_t> records) {
    const size_t start = bytes_.size();
    const size_t size = align_up(sizeof(BlockHeader) + records.size() + 1, kWindowUnit);
    bytes_.resize(start + size);
    BlockHeader header{};
    header.magic = kBlockMagic;
    header.instance = block.instance;
    header.parent = block.parent;
    header.forked_ns = block.forked_ns;
    header.process = block.process;
    header.thread = block.thread;
    header.begin_ns = block.begin_ns;
    header.index = block.index;
    header.window_end = start + size;
    memcpy(header.command, "tested", 7);
    header.header_check = header_check(header);
    if (block.closed) {
      header.length = records.size();
      header.check = checksum(records.data(), records.size());
    }
    memcpy(bytes_.data() + start, &header, sizeof header);
    if (!records.empty()) memcpy(bytes_.data() + start + sizeof header, records.data(), records.size());
    auto* file = reinterpret_cast<FileHeader*>(bytes_.data());
    file->next = bytes_.size();
  }

  std::vector<uint8_t>& bytes() { return bytes_; }

 private:
  std::vector<uint8_t> bytes_;
};

// Records of one block, encoded as the recorder does.
class RecordsBuilder {
 public:
  void make(uint32_t passed, uint64_t size, uint64_t address) {
    add([&](Encoder& e) {
      e.start(Kind::malloc, passed);
      e.size(size);
      e.address((address >> kGranuleShift) - context_.made);
      context_.made = address >> kGranuleShift;
    });
  }
  void free(uint32_t passed, uint64_t address) {
    add([&](Encoder& e) {
      e.start(Kind::free, passed);
      e.address((address >> kGranuleShift) - context_.dropped);
      context_.dropped = address >> kGranuleShift;
    });
  }
  void resize(uint32_t passed, uint64_t old, uint64_t size, uint64_t address) {
    add([&](Encoder& e) {
      e.start(Kind::realloc, passed);
      e.size(size);
      e.address((old >> kGranuleShift) - context_.dropped);
      context_.dropped = old >> kGranuleShift;
      context_.made = address >> kGranuleShift;
      e.moved(context_.made - context_.dropped);
    });
  }
  void rare(Rare kind, uint64_t passed, std::span<const uint64_t> fields) {
    add([&](Encoder& e) {
      e.start(kind, passed);
      for (const uint64_t field : fields) e.leb(field);
    });
  }
  const std::vector<uint8_t>& bytes() const { return bytes_; }

 private:
  template <class F>
  void add(F&& f) {
    uint8_t room[kLongestRecord + 8] = {};
    Encoder encoder(room);
    f(encoder);
    const uint8_t* end = encoder.finish();
    for (const uint8_t* at = end; at < room + sizeof room; ++at) zero_behind_ = zero_behind_ && *at == 0;
    bytes_.insert(bytes_.end(), room, const_cast<uint8_t*>(end));
  }

 public:
  bool zero_behind_ = true;  // every record left zeroes behind itself

 private:
  std::vector<uint8_t> bytes_;
  Context context_;
};

}  // namespace nonreuse::trace
