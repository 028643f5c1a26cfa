// output_file.hpp on FreeBSD: written to directly. Compiled against stub headers, never run.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "platform/output_file.hpp"
#include "platform/saved_errno.hpp"

namespace nonreuse {

bool OutputFile::fail(long error) {
  if (error_ == 0) error_ = error;
  return false;
}

bool OutputFile::open_directly() {
  const SavedErrno saved;
  fd_ = ::open(path_, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  return fd_ < 0 ? fail(errno) : true;
}

bool OutputFile::open(const char* path) {
  const size_t length = strnlen(path, kLongest);
  if (length == kLongest) return fail(ENAMETOOLONG);
  memcpy(path_, path, length);
  room_ = ~uint64_t{0};
  return open_directly();
}

bool OutputFile::write(const char* text, size_t size) {
  const SavedErrno saved;
  while (size > 0 && error_ == 0) {
    const ssize_t written = ::write(static_cast<int>(fd_), text, size);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return fail(EFBIG);
    text += written;
    size -= static_cast<size_t>(written);
  }
  return error_ == 0;
}

bool OutputFile::close() {
  const SavedErrno saved;
  if (::close(static_cast<int>(fd_)) != 0) fail(errno);
  return error_ == 0;
}

bool make_absolute(char* path, size_t) {
  return path[0] == '/';
}

}  // namespace nonreuse
