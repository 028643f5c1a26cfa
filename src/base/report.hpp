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

}  // namespace nonreuse
