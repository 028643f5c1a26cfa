// Keeps errno as it was, around calls of a C library that sets it.
#pragma once

#include <errno.h>

namespace nonreuse {

class SavedErrno {
 public:
  SavedErrno() : before_(errno) {}
  ~SavedErrno() { errno = before_; }
  SavedErrno(const SavedErrno&) = delete;
  SavedErrno& operator=(const SavedErrno&) = delete;

 private:
  int before_;
};

}  // namespace nonreuse
