// The list of mappings of this process, read from /proc/self/maps without allocating.
// Source: proc_pid_maps(5).
#pragma once

#include "base/types.hpp"

namespace nonreuse {

struct Mapping {
  Range range;
  bool readable;
  bool writable;
  bool shared;       // 's': MAP_SHARED or was; else private, copied on write
  uint64_t device;   // make_device(major, minor) of the file system the file lies on; 0 for none
  const char* name;  // not terminated; valid until the next call of next(); empty for plain anonymous memory
  size_t name_size;  // names longer than the buffer are cut
  uint64_t offset = 0;      // of its begin in the file
  uintptr_t following = 0;  // where the next mapping begins; 0 if that was not read yet
};

constexpr uint64_t make_device(uint64_t major, uint64_t minor) {
  return major << 32 | minor;
}

// What a mapping means for the walk.
enum class MappingKind : uint8_t {
  ignored,            // devices, kernel objects, shared files: never read
  private_anonymous,  // also the heap of brk, stacks, private /dev/zero, private huge pages
  private_file,       // pages that were written are anonymous, the others are the file's
  shared_memory,      // has no file but memory: pages can hold something without being in our page table
  shared_huge,        // the same in huge pages, where no call tells the empty pages from the full ones
  secret_memory,      // memfd_secret(2): the kernel itself cannot read it, nobody can shrink it
};

// `shm_device` is the device of the kernel's own tmpfs, on which memfd, System V and shared anonymous memory
// lie unless it is made of huge pages; 0 if unknown, which makes them all shared_huge.
MappingKind classify(const Mapping& mapping, uint64_t shm_device);

// True for the mapping that holds the main thread's stack.
bool is_main_stack(const Mapping& mapping);

// Reads mappings one by one. The list is only consistent within one read(2), but each mapping is told whole,
// and one that exists during the whole reading is told exactly once unless it is changed meanwhile.
class MapsReader {
 public:
  // `buffer` must hold a line's fields: 256 bytes at least, 64 KiB to need few calls.
  MapsReader(char* buffer, size_t capacity) : buffer_(buffer), capacity_(capacity) {}

  // False if `path` cannot be opened; error() tells why. close() must follow a success.
  bool open(const char* path);
  // False at the end and on any error or line that is not understood; failed() tells which.
  bool next(Mapping& mapping);
  bool failed() const { return failed_; }
  // -errno of the last call of the system that failed since open() was called, or 0.
  long error() const { return error_; }
  void close();

 private:
  bool fill();
  bool skip_line();
  uintptr_t peek() const;

  char* buffer_;
  size_t capacity_;
  size_t begin_ = 0;  // of the text not yet parsed
  size_t end_ = 0;
  int fd_ = -1;
  long error_ = 0;
  bool at_end_ = false;
  bool failed_ = false;
  bool cut_line_ = false;  // the mapping told last has a name whose end was not read yet
};

}  // namespace nonreuse
