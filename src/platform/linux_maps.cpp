#include "platform/linux_maps.hpp"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "platform/linux_syscall.hpp"

namespace nonreuse {
namespace {

// A cursor over one line. Each step returns false, and stays false, when the text is not what it expects.
class Fields {
 public:
  Fields(const char* begin, const char* end) : at_(begin), end_(end) {}

  bool hex(uint64_t& value) {
    const char* start = at_;
    value = 0;
    while (at_ != end_) {
      const unsigned digit = hex_digit(*at_);
      if (digit > 15) break;
      if (value >> 60 != 0) return false;
      value = value << 4 | digit;
      ++at_;
    }
    return at_ != start;
  }

  bool character(char expected) {
    if (at_ == end_ || *at_ != expected) return false;
    ++at_;
    return true;
  }

  bool any(char& value) {
    if (at_ == end_) return false;
    value = *at_++;
    return true;
  }

  bool decimal() {
    const char* start = at_;
    while (at_ != end_ && *at_ >= '0' && *at_ <= '9') ++at_;
    return at_ != start;
  }

  void spaces() {
    while (at_ != end_ && *at_ == ' ') ++at_;
  }

  const char* at() const { return at_; }
  size_t left() const { return static_cast<size_t>(end_ - at_); }

 private:
  static unsigned hex_digit(char c) {
    if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
    if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a') + 10;
    return 16;
  }

  const char* at_;
  const char* end_;
};

// "begin-end rwxp offset major:minor inode      name", all numbers but the inode in hexadecimal.
bool parse(const char* line, const char* end, Mapping& mapping) {
  Fields fields(line, end);
  uint64_t from, to, offset, major, minor;
  char read, write, execute, sharing;
  const bool understood =
      fields.hex(from) && fields.character('-') && fields.hex(to) && fields.character(' ') &&
      fields.any(read) && fields.any(write) && fields.any(execute) && fields.any(sharing) &&
      fields.character(' ') && fields.hex(offset) && fields.character(' ') && fields.hex(major) &&
      fields.character(':') && fields.hex(minor) && fields.character(' ') && fields.decimal();
  if (!understood || from > to) return false;
  fields.spaces();
  mapping.range = Range{from, to};
  mapping.readable = read == 'r';
  mapping.writable = write == 'w';
  mapping.shared = sharing == 's';
  mapping.device = make_device(major, minor);
  mapping.offset = offset;
  mapping.name = fields.at();
  mapping.name_size = fields.left();
  return true;
}

template <size_t N>
bool starts_with(const Mapping& mapping, const char (&prefix)[N]) {
  return mapping.name_size >= N - 1 && memcmp(mapping.name, prefix, N - 1) == 0;
}

// The name is `text`, perhaps with the mark of an unlinked file.
template <size_t N>
bool is_named(const Mapping& mapping, const char (&text)[N]) {
  if (!starts_with(mapping, text)) return false;
  return mapping.name_size == N - 1 || mapping.name[N - 1] == ' ';
}

MappingKind classify_shared(const Mapping& mapping) {
  if (is_named(mapping, "/dev/zero") || starts_with(mapping, "[anon_shmem:")) {
    return MappingKind::shared_memory;
  }
  if (is_named(mapping, "/anon_hugepage")) return MappingKind::shared_huge;
  if (is_named(mapping, "/secretmem")) return MappingKind::secret_memory;
  return MappingKind::ignored;
}

MappingKind classify_private(const Mapping& mapping) {
  if (mapping.name_size == 0) return MappingKind::private_anonymous;
  if (mapping.name[0] == '[') {
    // Other names in brackets are the kernel's own pages: [vvar], [vdso], [uprobes], ...
    const bool ours = is_named(mapping, "[heap]") || is_main_stack(mapping) ||
                      starts_with(mapping, "[stack:") || starts_with(mapping, "[anon:");
    return ours ? MappingKind::private_anonymous : MappingKind::ignored;
  }
  if (mapping.name[0] != '/') return MappingKind::ignored;  // anon_inode:[...], socket:[...], dmabuf:...
  if (is_named(mapping, "/dev/zero") || is_named(mapping, "/anon_hugepage")) {
    return MappingKind::private_anonymous;
  }
  const bool device =
      starts_with(mapping, "/dev/") || starts_with(mapping, "/proc/") || starts_with(mapping, "/sys/");
  return device ? MappingKind::ignored : MappingKind::private_file;
}

}  // namespace

bool is_main_stack(const Mapping& mapping) {
  return is_named(mapping, "[stack]");
}

MappingKind classify(const Mapping& mapping, uint64_t shm_device) {
  // The same whether shared or private: what another mapping of the object wrote shows in the pages that a
  // private mapping has not written yet.
  if (starts_with(mapping, "/memfd:") || starts_with(mapping, "/SYSV")) {
    const bool small_pages = shm_device != 0 && mapping.device == shm_device;
    return small_pages ? MappingKind::shared_memory : MappingKind::shared_huge;
  }
  if (starts_with(mapping, "/dev/shm/") || starts_with(mapping, "/run/shm/")) {
    return MappingKind::shared_memory;
  }
  if (starts_with(mapping, "/dev/hugepages/")) return MappingKind::shared_huge;
  return mapping.shared ? classify_shared(mapping) : classify_private(mapping);
}

bool MapsReader::open(const char* path) {
  begin_ = end_ = 0;
  at_end_ = failed_ = cut_line_ = false;
  const long fd = sys::call(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
  fd_ = sys::failed(fd) ? -1 : static_cast<int>(fd);
  error_ = sys::failed(fd) ? fd : 0;
  return fd_ >= 0;
}

void MapsReader::close() {
  if (fd_ >= 0) sys::call(SYS_close, fd_);
  fd_ = -1;
}

// Moves the unparsed text to the front and reads behind it. False at the end, on errors, and if there is no
// room left.
bool MapsReader::fill() {
  memmove(buffer_, buffer_ + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  if (at_end_ || end_ == capacity_) return false;
  long got;
  do {
    got = sys::call(SYS_read, fd_, buffer_ + end_, capacity_ - end_);
  } while (got == -EINTR);
  if (got == 0) at_end_ = true;
  if (sys::failed(got)) {
    failed_ = true;
    error_ = got;
  }
  if (got <= 0) return false;
  end_ += static_cast<size_t>(got);
  return true;
}

// Drops text up to and including the next newline. False on errors and if there is none.
bool MapsReader::skip_line() {
  for (;;) {
    const void* newline = memchr(buffer_ + begin_, '\n', end_ - begin_);
    if (newline != nullptr) {
      begin_ = static_cast<size_t>(static_cast<const char*>(newline) - buffer_) + 1;
      return true;
    }
    begin_ = end_;
    if (!fill()) return false;
  }
}

// Where the mapping of the next line begins.
uintptr_t MapsReader::peek() const {
  Fields fields(buffer_ + begin_, buffer_ + end_);
  uint64_t from = 0;
  return fields.hex(from) && fields.character('-') ? from : 0;
}

bool MapsReader::next(Mapping& mapping) {
  if (cut_line_) {
    cut_line_ = false;
    if (!skip_line()) failed_ = true;
  }
  while (!failed_) {
    const char* line = buffer_ + begin_;
    const void* newline = memchr(line, '\n', end_ - begin_);
    if (newline != nullptr) {
      const char* stop = static_cast<const char*>(newline);
      begin_ = static_cast<size_t>(stop - buffer_) + 1;
      failed_ = !parse(line, stop, mapping);
      mapping.following = peek();
      return !failed_;
    }
    if (fill()) continue;
    if (failed_ || begin_ == end_) return false;
    // Text without a newline: the last line of a list that was cut off, or a line longer than the buffer.
    // Of the latter the fields are there and the name's beginning, which is all that counts.
    cut_line_ = !at_end_;
    failed_ = at_end_ || !parse(buffer_, buffer_ + end_, mapping);
    mapping.following = 0;
    return !failed_;
  }
  return false;
}

}  // namespace nonreuse
