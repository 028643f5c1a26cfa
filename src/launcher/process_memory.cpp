#include "launcher/process_memory.hpp"

#include <fmt/format.h>
#include <sys/uio.h>
#include <unistd.h>

#include <string>

namespace nonreuse::launcher {

size_t ProcessMemory::read(Address from, void* to, size_t size) const {
  size_t done = 0;
  while (done < size) {
    iovec local{static_cast<char*>(to) + done, size - done};
    iovec remote{reinterpret_cast<void*>(static_cast<uintptr_t>(from + done)), size - done};
    const ssize_t got = process_vm_readv(process_, &local, 1, &remote, 1, 0);
    if (got <= 0) break;
    done += static_cast<size_t>(got);
  }
  return done;
}

int ProcessMemory::each_mapping(const std::function<void(const Mapping&)>& f) const {
  std::vector<char> buffer(65536);
  MapsReader reader(buffer.data(), buffer.size());
  const std::string path = fmt::format("/proc/{}/maps", process_);
  if (!reader.open(path.c_str())) return static_cast<int>(-reader.error());
  Mapping mapping;
  while (reader.next(mapping)) f(mapping);
  reader.close();
  return 0;
}

size_t page_bytes() {
  return static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace nonreuse::launcher
