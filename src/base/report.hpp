// Writing lines without allocating: for messages from inside the heap.
#pragma once

#include "base/types.hpp"

namespace nonreuse {

// Builds one line in a fixed buffer; what does not fit is cut. Allocates nothing, no locale, no stdio.
class Line {
 public:
  Line& text(const char* s);
  Line& number(uint64_t value);
  Line& hex(uint64_t value);
  // A size in the largest unit that keeps three digits: "1.25 MiB".
  Line& bytes(uint64_t value);
  // A time: "12.3 us", "4.56 ms".
  Line& nanoseconds(uint64_t value);
  const char* c_str();
  size_t size() const { return size_; }

 private:
  void put(char c);
  void fraction(uint64_t value, uint64_t unit);
  static constexpr size_t kCapacity = 512;
  char buffer_[kCapacity + 2];
  size_t size_ = 0;
};

// Writes text of any length through a small buffer to where it goes. Allocates nothing.
class Writer {
 public:
  // Takes `size` bytes; false: no more can be written.
  using Sink = bool (*)(void* context, const char* text, size_t size);
  Writer(Sink sink, void* context) : sink_(sink), context_(context) {}

  Writer& text(const char* s);
  Writer& number(uint64_t value);
  Writer& line(Line& line) { return text(line.c_str()); }
  // Seconds, to the nanosecond, without trailing zeroes: "0.00125".
  Writer& seconds(uint64_t nanoseconds);
  // Text of any bytes in double quotes: as JSON has it (RFC 8259), and as a label's value in Prometheus' text
  // format. What is no UTF-8 becomes U+FFFD.
  Writer& json_string(const char* s, size_t longest);
  Writer& label_value(const char* s, size_t longest);
  // False: not everything could be written.
  bool finish();

 private:
  void put(char c);
  void put_unescaped(const char*& s, const char* end);
  bool flush();
  static constexpr size_t kCapacity = 1024;
  Sink sink_;
  void* context_;
  char buffer_[kCapacity];
  size_t size_ = 0;
  bool good_ = true;
};

}  // namespace nonreuse
