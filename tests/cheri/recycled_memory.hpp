// Zeroed memory for machines in software, of which a test makes a hundred thousand one after the other: what
// one has used, the next one of the same size gets, cleared. To map and unmap it instead took most of the
// tests' time, in page faults (`perf stat -e page-faults`). For one thread. A page that was swapped out
// would not be cleared: mincore(2) calls it absent.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

namespace nonreuse::sim {

class RecycledMemory {
 public:
  // `bytes`, a multiple of the page size, all zero. Ends the program where there is no memory.
  explicit RecycledMemory(size_t bytes) : bytes_(bytes) {
    for (Mapping& spare : spares()) {
      if (spare.bytes != bytes) continue;
      memory_ = spare.memory;
      std::swap(spare, spares().back());
      spares().pop_back();
      return;
    }
    void* memory =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) abort();
    memory_ = static_cast<unsigned char*>(memory);
  }
  ~RecycledMemory() {
    clear_present();
    spares().push_back({memory_, bytes_});
  }
  RecycledMemory(const RecycledMemory&) = delete;
  RecycledMemory& operator=(const RecycledMemory&) = delete;

  unsigned char* data() const { return memory_; }

 private:
  static constexpr ptrdiff_t kMost = 512;  // pages to clear
  struct Mapping {
    unsigned char* memory;
    size_t bytes;
  };
  static std::vector<Mapping>& spares() {
    static std::vector<Mapping> all;
    return all;
  }

  void clear_present() {
    static std::vector<unsigned char> present;
    const size_t page_bytes = static_cast<size_t>(getpagesize());
    present.resize((bytes_ + page_bytes - 1) / page_bytes);
    if (mincore(memory_, bytes_, present.data()) != 0) abort();
    // Of much, the system is rid sooner.
    if (std::count_if(present.begin(), present.end(), [](unsigned char page) { return page & 1; }) > kMost) {
      if (madvise(memory_, bytes_, MADV_DONTNEED) != 0) abort();
      return;
    }
    for (size_t i = 0; i < present.size(); ++i) {
      if (present[i] & 1) memset(memory_ + i * page_bytes, 0, page_bytes);
    }
  }

  unsigned char* memory_ = nullptr;
  size_t bytes_;
};

}  // namespace nonreuse::sim
