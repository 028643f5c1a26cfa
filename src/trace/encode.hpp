// Writing records. Stores whole words and moves on by what counts: the target must have kLongestRecord + 8
// bytes left, zero, and stays zero behind the record.
#pragma once

#include <atomic>

#include "platform/attributes.hpp"
#include "trace/format.hpp"

namespace nonreuse::trace {

class Encoder {
 public:
  explicit Encoder(uint8_t* at) : head_(at), at_(at + 1) {}

  // malloc and free. `passed` fits in 32 bits.
  NONREUSE_ALWAYS_INLINE void start(Kind kind, uint32_t passed) {
    // 0, 1, 2, 3 for 0, 1, 2, 4 bytes
    const unsigned time = (passed != 0) + (passed > 0xff) + (passed > 0xffff);
    first_ = static_cast<unsigned>(kind) | time << 2;
    put(passed);
    at_ += (1u << time) >> 1;
  }
  NONREUSE_ALWAYS_INLINE void size(uint64_t value) { first_ |= number(value) << 4; }
  NONREUSE_ALWAYS_INLINE void address(uint64_t difference) { first_ |= number(zigzag(difference)) << 6; }
  NONREUSE_ALWAYS_INLINE void moved(uint64_t difference) {
    uint8_t* code = at_++;
    *code = static_cast<uint8_t>(number(zigzag(difference)));
  }

  void start(Rare kind, uint64_t passed) {
    first_ = static_cast<unsigned>(kind) << 2;
    leb(passed);
  }
  void leb(uint64_t value) {
    for (; value >= 0x80; value >>= 7) *at_++ = static_cast<uint8_t>(value | 0x80);
    *at_++ = static_cast<uint8_t>(value);
  }

  // Makes the record one; returns its end.
  NONREUSE_ALWAYS_INLINE uint8_t* finish() {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    *static_cast<volatile uint8_t*>(head_) = static_cast<uint8_t>(first_);
    return at_;
  }

 private:
  NONREUSE_ALWAYS_INLINE void put(uint64_t value) { memcpy(at_, &value, sizeof value); }
  NONREUSE_ALWAYS_INLINE unsigned number(uint64_t value) {
    const unsigned code = width_code(value);
    put(value);
    at_ += 1u << code;
    return code;
  }

  uint8_t* head_;
  uint8_t* at_;
  unsigned first_ = 0;
};

}  // namespace nonreuse::trace
