// trace_file.hpp on FreeBSD: the kernel keeps the trace. ktrace(1) switches it on, kdump(1) prints it. Not
// compiled into anything elsewhere.
#include "platform/saved_errno.hpp"
#include "platform/trace_file.hpp"

#if defined(__FreeBSD__)

// utrace(2). Declared here: its header wants several others before it.
extern "C" int utrace(const void* address, size_t length);

namespace nonreuse::os {

void kernel_trace(uint64_t old, size_t size, uint64_t made) {
  // As FreeBSD's own malloc writes them.
  struct {
    void* p;
    size_t s;
    void* r;
  } const record = {reinterpret_cast<void*>(old), size, reinterpret_cast<void*>(made)};
  const SavedErrno saved;
  utrace(&record, sizeof record);
}

// Files are written on Linux only.
const char* trouble_text(FileTrouble) {
  return "this system has no trace files, but utrace(2): see docs/tracing.md";
}
FileTrouble TraceFile::open(const char* path, const void*, size_t, size_t, size_t) {
  size_t length = 0;
  for (; path[length] != '\0' && length < sizeof path_ - 1; ++length) path_[length] = path[length];
  path_[length] = '\0';
  return FileTrouble::other;
}
void TraceFile::close() {}
FileTrouble TraceFile::map(uint64_t, size_t, void**) {
  return FileTrouble::other;
}
void TraceFile::unmap(void*, size_t) {}
uint32_t* map_page_wiped_by_fork() {
  return nullptr;
}

}  // namespace nonreuse::os

#endif
