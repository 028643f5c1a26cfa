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

// ---- Writer

namespace {

// Digits of `value`, at least `width` of them; out must hold 20.
size_t digits_of(uint64_t value, size_t width, char* out) {
  size_t count = 0;
  for (uint64_t rest = value; rest != 0 || count < width; rest /= 10) ++count;
  for (size_t i = count; i > 0; --i, value /= 10) out[i - 1] = static_cast<char>('0' + value % 10);
  return count;
}

// Bytes of the well-formed UTF-8 sequence at `s` (RFC 3629), or 0.
size_t utf8_length(const char* s, const char* end) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(s[i]); };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || static_cast<size_t>(end - s) < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  const unsigned second = byte(1);
  const bool overlong = (first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90);
  const bool beyond = (first == 0xed && second > 0x9f) || (first == 0xf4 && second > 0x8f);
  return overlong || beyond ? 0 : length;
}

const char* end_of(const char* s, size_t longest) {
  size_t length = 0;
  while (length < longest && s[length] != '\0') ++length;
  return s + length;
}

}  // namespace

bool Writer::flush() {
  good_ = good_ && sink_(context_, buffer_, size_);
  size_ = 0;
  return good_;
}

bool Writer::finish() {
  return flush();
}

void Writer::put(char c) {
  if (size_ == kCapacity) flush();
  buffer_[size_++] = c;
}

Writer& Writer::text(const char* s) {
  while (*s != '\0') put(*s++);
  return *this;
}

Writer& Writer::number(uint64_t value) {
  char digits[20];
  const size_t count = digits_of(value, 1, digits);
  for (size_t i = 0; i < count; ++i) put(digits[i]);
  return *this;
}

Writer& Writer::seconds(uint64_t nanoseconds) {
  constexpr uint64_t kSecond = 1'000'000'000;
  number(nanoseconds / kSecond);
  char digits[20];
  size_t count = digits_of(nanoseconds % kSecond, 9, digits);
  while (count > 0 && digits[count - 1] == '0') --count;
  if (count > 0) put('.');
  for (size_t i = 0; i < count; ++i) put(digits[i]);
  return *this;
}

// One character, or U+FFFD for a byte that belongs to none.
void Writer::put_unescaped(const char*& s, const char* end) {
  const size_t length = utf8_length(s, end);
  if (length == 0) {
    text("\xef\xbf\xbd");
    ++s;
    return;
  }
  for (size_t i = 0; i < length; ++i) put(*s++);
}

Writer& Writer::json_string(const char* s, size_t longest) {
  put('"');
  for (const char* end = end_of(s, longest); s != end;) {
    const auto c = static_cast<unsigned char>(*s);
    if (c == '"' || c == '\\') {
      put('\\');
      put(*s++);
    } else if (c < ' ' || c == 0x7f) {
      text("\\u00");
      put("0123456789abcdef"[c >> 4]);
      put("0123456789abcdef"[c & 15]);
      ++s;
    } else {
      put_unescaped(s, end);
    }
  }
  put('"');
  return *this;
}

Writer& Writer::label_value(const char* s, size_t longest) {
  put('"');
  for (const char* end = end_of(s, longest); s != end;) {
    const char c = *s;
    if (c == '"' || c == '\\' || c == '\n') {
      put('\\');
      put(c == '\n' ? 'n' : c);
      ++s;
    } else {
      put_unescaped(s, end);
    }
  }
  put('"');
  return *this;
}

}  // namespace nonreuse
