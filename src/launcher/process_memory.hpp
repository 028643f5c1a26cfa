// The memory of another process, and the list of its mappings.
#pragma once

#include <sys/types.h>

#include <functional>
#include <vector>

#include "base/types.hpp"
#include "platform/linux_maps.hpp"

namespace nonreuse::launcher {

class ProcessMemory {
 public:
  explicit ProcessMemory(pid_t process) : process_(process) {}
  pid_t id() const { return process_; }

  // Copies [from, from + size) as far as it can be read (process_vm_readv(2)); the number of bytes. Where
  // that is less than `size`, errno tells why.
  size_t read(Address from, void* to, size_t size) const;
  template <class T>
  bool read_value(Address from, T& value) const {
    return read(from, &value, sizeof value) == sizeof value;
  }
  template <class T>
  std::vector<T> read_array(Address from, size_t count) const {
    std::vector<T> values(count);
    const size_t got = read(from, values.data(), count * sizeof(T));
    values.resize(got / sizeof(T));
    return values;
  }

  // Calls f for every mapping there is now (proc_pid_maps(5)). 0, or the errno of why the list cannot be had.
  int each_mapping(const std::function<void(const Mapping&)>& f) const;

 private:
  pid_t process_;
};

size_t page_bytes();

}  // namespace nonreuse::launcher
