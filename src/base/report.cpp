#include "base/report.hpp"

namespace nonreuse {

void Line::put(char c) {
  if (size_ < kCapacity) buffer_[size_++] = c;
}

Line& Line::text(const char* s) {
  while (*s != '\0') put(*s++);
  return *this;
}

Line& Line::number(uint64_t value) {
  char digits[20];
  size_t count = 0;
  do {
    digits[count++] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  while (count > 0) put(digits[--count]);
  return *this;
}

Line& Line::hex(uint64_t value) {
  text("0x");
  bool leading = true;
  for (int shift = 60; shift >= 0; shift -= 4) {
    const unsigned digit = (value >> shift) & 15;
    if (leading && digit == 0 && shift != 0) continue;
    leading = false;
    put("0123456789abcdef"[digit]);
  }
  return *this;
}

// value / unit with three significant digits.
void Line::fraction(uint64_t value, uint64_t unit) {
  const uint64_t whole = value / unit;
  number(whole);
  if (whole >= 100) return;
  const uint64_t rest = value % unit;
  put('.');
  put(static_cast<char>('0' + rest * 10 / unit));
  if (whole < 10) put(static_cast<char>('0' + rest * 100 / unit % 10));
}

Line& Line::bytes(uint64_t value) {
  constexpr const char* kUnits[] = {" KiB", " MiB", " GiB", " TiB"};
  if (value < 1024) return number(value).text(" B");
  uint64_t unit = 1024;
  size_t index = 0;
  while (index < 3 && value / unit >= 1024) {
    unit *= 1024;
    ++index;
  }
  fraction(value, unit);
  return text(kUnits[index]);
}

Line& Line::nanoseconds(uint64_t value) {
  if (value < 1000) return number(value).text(" ns");
  if (value < 1'000'000) return fraction(value, 1000), text(" us");
  if (value < 1'000'000'000) return fraction(value, 1'000'000), text(" ms");
  return fraction(value, 1'000'000'000), text(" s");
}

const char* Line::c_str() {
  buffer_[size_] = '\0';
  return buffer_;
}

}  // namespace nonreuse
