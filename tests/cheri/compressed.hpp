// Compressed bounds, as CHERI Concentrate defines them (Woodruff et al., IEEE Transactions on Computers 2019;
// CHERI ISA version 9, "Compressed capability format"): a mantissa for base and top, relative to the address
// itself, and an exponent that takes the mantissas' low three bits where it is not zero. Two widths are in
// use: 14 bits (128-bit capabilities of CHERI-RISC-V) and 16 bits (Morello).
#pragma once

#include <bit>
#include <cstdint>

namespace nonreuse::sim {

__extension__ using Wide = unsigned __int128;

// A range of addresses whose end may be 2^64.
struct Bounds {
  uint64_t base = 0;
  Wide top = 0;
  Wide length() const { return top - base; }
  bool operator==(const Bounds&) const = default;
};

class Format {
 public:
  explicit constexpr Format(unsigned mantissa) : mantissa_(mantissa) {}

  // What is stored: `top` without its two highest bits, which follow from those of `base` and the length.
  struct Encoded {
    uint32_t base = 0, top = 0;
    bool internal = false;  // the exponent is in the low three bits of both
    bool operator==(const Encoded&) const = default;
  };

  // The smallest encodable bounds that contain [base, top). `alignment` becomes the alignment of both ends.
  constexpr Encoded encode(uint64_t base, Wide top, uint64_t* alignment = nullptr) const {
    const Wide length = top - base;
    const unsigned width = bits_of(length >> (mantissa_ - 1));
    unsigned exponent = width;
    if (exponent == 0 && (length >> (mantissa_ - 2) & 1) == 0) {
      if (alignment != nullptr) *alignment = 1;
      return {static_cast<uint32_t>(base) & mask(mantissa_), static_cast<uint32_t>(top) & mask(mantissa_ - 2),
              false};
    }
    for (;; ++exponent) {
      const unsigned shift = exponent + 3;
      const auto low = static_cast<uint64_t>(base >> shift);
      const Wide high = (top + ((Wide{1} << shift) - 1)) >> shift;
      // Rounded up, the length may need one bit more.
      if (static_cast<uint64_t>(high - low) >> (mantissa_ - 4) != 0) continue;
      if (alignment != nullptr) *alignment = shift < 64 ? uint64_t{1} << shift : 0;
      return {(static_cast<uint32_t>(low << 3) & mask(mantissa_)) | (exponent & 7),
              (static_cast<uint32_t>(high << 3) & mask(mantissa_ - 2)) | (exponent >> 3), true};
    }
  }

  constexpr Bounds decode(Encoded encoded, uint64_t address) const {
    unsigned exponent = 0;
    uint32_t base = encoded.base, top = encoded.top;
    if (encoded.internal) {
      exponent = (top & 7) << 3 | (base & 7);
      base &= ~7u;
      top &= ~7u;
    }
    if (exponent > most_exponent()) exponent = most_exponent();
    const uint32_t carry = top < (base & mask(mantissa_ - 2)) ? 1 : 0;
    const uint32_t high = (base >> (mantissa_ - 2)) + carry + (encoded.internal ? 1 : 0);
    top |= (high & 3) << (mantissa_ - 2);
    // Which of the regions of 2^(exponent + mantissa) bytes each end lies in, seen from the address.
    const unsigned shift = exponent + mantissa_;
    const uint32_t middle = static_cast<uint32_t>(Wide{address} >> exponent) & mask(mantissa_);
    const uint32_t limit = ((base >> (mantissa_ - 3)) - 1) & 7;
    const auto below = [&](uint32_t value) { return value >> (mantissa_ - 3) < limit ? 1 : 0; };
    const Wide region = Wide{address} >> shift;
    const auto at = [&](uint32_t value) {
      const Wide corrected = region + static_cast<Wide>(static_cast<int64_t>(below(value) - below(middle)));
      return ((corrected << shift) | Wide{value} << exponent) & ((Wide{1} << 65) - 1);
    };
    Bounds bounds{static_cast<uint64_t>(at(base)), at(top)};
    if (exponent < most_exponent() - 1) {
      const unsigned top_high = static_cast<unsigned>(bounds.top >> 63) & 3;
      const unsigned base_high = static_cast<unsigned>(bounds.base >> 63);
      if (((top_high - base_high) & 3) > 1) bounds.top ^= Wide{1} << 64;
    }
    return bounds;
  }

  // The next length whose bounds are exact at every address that the mask leaves unchanged.
  constexpr Wide representable_length(uint64_t length) const {
    const Wide add = ~alignment_mask(length);
    return (Wide{length} + add) & ~add;
  }
  constexpr uint64_t alignment_mask(uint64_t length) const {
    uint64_t alignment = 1;
    encode(0, length, &alignment);
    return ~(alignment - 1);
  }

  constexpr unsigned mantissa() const { return mantissa_; }

 private:
  static constexpr uint32_t mask(unsigned bits) { return (uint32_t{1} << bits) - 1; }
  static constexpr unsigned bits_of(Wide value) {
    const auto high = static_cast<uint64_t>(value >> 64), low = static_cast<uint64_t>(value);
    return high != 0 ? 64 + static_cast<unsigned>(std::bit_width(high))
                     : static_cast<unsigned>(std::bit_width(low));
  }
  constexpr unsigned most_exponent() const { return 66 - mantissa_; }

  unsigned mantissa_;
};

inline constexpr Format kCc128{14};
inline constexpr Format kMorello{16};

}  // namespace nonreuse::sim
