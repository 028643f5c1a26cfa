// The file that a recorder appends to, as pieces mapped shared: what was written to them is in the file
// whatever becomes of the process. One implementation a system: linux_trace_file.cpp.
#pragma once

#include "base/types.hpp"

namespace nonreuse::os {

// Why something could not be done, for messages.
enum class FileTrouble : uint8_t {
  none,
  foreign,     // the file is there and is no trace
  no_file,     // not a regular file
  no_space,    // the disk, or a quota, is full
  size_limit,  // RLIMIT_FSIZE
  denied,      // permission, or a read-only file system
  missing,     // a folder of the path is not there
  too_many,    // descriptors
  no_memory,   // address space
  replaced,    // the descriptor is gone, and another file has the name
  other,
};
const char* trouble_text(FileTrouble trouble);

class TraceFile {
 public:
  // Opens or creates `path`, which may be relative to the working directory of now. An empty file gets
  // `header`
  // (`size` bytes, the start of a page of `page_bytes`), under a lock against others that do the same;
  // another one must start with the first `magic_bytes` of it. Maps that page shared.
  FileTrouble open(const char* path, const void* header, size_t size, size_t magic_bytes, size_t page_bytes);
  void close();
  void* header() const { return header_; }
  const char* path() const { return path_; }

  // `size` bytes at `offset`, backed by the disk, mapped shared and writable; not inherited by fork. The
  // program may have closed our descriptor or put another file there: then the file is opened again.
  FileTrouble map(uint64_t offset, size_t size, void** out);
  static void unmap(void* address, size_t size);

 private:
  FileTrouble reopen();
  bool is_ours(long descriptor) const;

  int descriptor_ = -1;
  uint64_t device_ = 0, node_ = 0;
  void* header_ = nullptr;
  size_t header_bytes_ = 0;
  char path_[1100] = {};
};

// A page that reads 0 in a process that was copied from this one; nullptr where the kernel has none.
uint32_t* map_page_wiped_by_fork();

// Records for the kernel's own trace of this process, where there is such a thing: utrace(2) on FreeBSD, in
// the form of its malloc, which kdump(1) prints. {0,0,0}: the start; {0,size,new}: malloc; {old,size,new}:
// realloc; {old,0,0}: free.
#if defined(__FreeBSD__)
inline constexpr bool kKernelTraces = true;
#else
inline constexpr bool kKernelTraces = false;
#endif
void kernel_trace(uint64_t old, size_t size, uint64_t made);

}  // namespace nonreuse::os
