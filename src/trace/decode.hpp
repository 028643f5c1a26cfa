// Reading records back: any bytes, checked, nothing allocated.
#pragma once

#include "trace/format.hpp"

namespace nonreuse::trace {

struct Record {
  Kind kind = Kind::rare;
  Rare rare = Rare::none;
  uint64_t time = 0;                  // ns, CLOCK_MONOTONIC
  uint64_t size = 0;                  // malloc, realloc, aligned, failed
  uint64_t address = 0;               // what was returned; 0: nothing
  uint64_t old = 0;                   // what was given: free, realloc
  uint64_t alignment = 0;             // 0, or what was asked for
  uint64_t fields[kMostFields] = {};  // of the rarer records, as written
};

class Decoder {
 public:
  enum class Result : uint8_t { record, end, damaged };

  Decoder(const uint8_t* at, const uint8_t* end, uint64_t begin_ns) : at_(at), end_(end) {
    context_.time = begin_ns;
  }

  // `end` at a zero byte or the end of the memory.
  Result next(Record& record) {
    record = {};
    if (at_ == end_ || *at_ == 0) return Result::end;
    const uint8_t* before = at_;
    const unsigned first = *at_++;
    record.kind = static_cast<Kind>(first & 3);
    if (record.kind == Kind::rare ? read_rare(first >> 2, record) : read_usual(first, record)) {
      record.time = context_.time;
      return Result::record;
    }
    at_ = before;
    return Result::damaged;
  }
  const uint8_t* at() const { return at_; }

 private:
  bool fixed(unsigned bytes, uint64_t& value) {
    value = 0;
    if (static_cast<size_t>(end_ - at_) < bytes) return false;
    memcpy(&value, at_, bytes);
    at_ += bytes;
    return true;
  }
  bool leb(uint64_t& value) {
    value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (at_ == end_) return false;
      const uint64_t byte = *at_++;
      if (shift == 63 && byte > 1) return false;
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }

  bool read_usual(unsigned first, Record& record) {
    uint64_t passed, difference;
    if (!fixed((1u << (first >> 2 & 3)) >> 1, passed)) return false;
    if (record.kind != Kind::free && !fixed(1u << (first >> 4 & 3), record.size)) return false;
    if (!fixed(1u << (first >> 6), difference)) return false;
    difference = unzigzag(difference);
    context_.time += passed;
    if (record.kind == Kind::malloc) {
      context_.made += difference;
      record.address = context_.made << kGranuleShift;
      return true;
    }
    context_.dropped += difference;
    record.old = context_.dropped << kGranuleShift;
    if (record.kind == Kind::free) return true;
    uint64_t code, moved;
    if (!fixed(1, code) || code > 3 || !fixed(1u << code, moved)) return false;
    context_.made = context_.dropped + unzigzag(moved);
    record.address = context_.made << kGranuleShift;
    return true;
  }

  bool read_rare(unsigned number, Record& record) {
    if (number == 0 || number >= static_cast<unsigned>(Rare::count)) return false;
    record.rare = static_cast<Rare>(number);
    uint64_t passed;
    if (!leb(passed)) return false;
    for (size_t i = 0; i < kRareFields[number]; ++i) {
      if (!leb(record.fields[i])) return false;
    }
    context_.time += passed;
    const uint64_t* f = record.fields;
    switch (record.rare) {
      case Rare::aligned:
      case Rare::failed:
        return read_aligned(record);
      case Rare::failed_realloc:
        context_.dropped += unzigzag(f[0]);
        record.old = context_.dropped << kGranuleShift;
        record.size = f[1];
        return true;
      case Rare::free_raw:
        record.old = f[0];
        return true;
      case Rare::raw_realloc:
        record.old = f[0];
        record.size = f[1];
        record.address = f[2];
        return true;
      default:
        return true;
    }
  }

  bool read_aligned(Record& record) {
    const bool made = record.rare == Rare::aligned;
    const uint64_t shift = record.fields[made ? 2 : 1];
    if (shift > 63) return false;
    record.size = record.fields[made ? 1 : 0];
    record.alignment = uint64_t{1} << shift;
    if (!made) return true;
    context_.made += unzigzag(record.fields[0]);
    record.address = context_.made << kGranuleShift;
    return true;
  }

  const uint8_t* at_;
  const uint8_t* end_;
  Context context_;
};

}  // namespace nonreuse::trace
