#include "platform/roots.hpp"

#include <errno.h>
#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/uio.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <atomic>

#include "platform/linux_emulator.hpp"
#include "platform/linux_maps.hpp"
#include "platform/linux_pages.hpp"
#include "platform/linux_syscall.hpp"

namespace nonreuse {
namespace {

constexpr size_t kMaxOwn = 32;
constexpr uintptr_t kCutAlignment = 64;

// One mapping, or what own ranges leave of it.
struct Piece {
  Range range;
  size_t mapping;  // a number, different for each mapping
  MappingKind kind;
  bool main_stack;
  bool write_only;
  Range whole;         // the mapping that this is a piece of
  size_t guard_below;  // bytes of the inaccessible mapping that ends where it begins
  uintptr_t following;
};

constexpr size_t kGathered = 64;

// Static, because a sweep may run on any stack, however small. Never a root: after a walk it is full of the
// addresses of heap pages.
struct alignas(kCutAlignment) Scratch {
  char text[64 * 1024];
  PageBuffers pages;
  Piece pieces_of_walk[kGathered];
};
constinit Scratch scratch{};

// ---- copying ----

std::atomic<bool> direct_copy_refused{false};  // process_vm_readv
std::atomic<uint32_t> refusals{0};
std::atomic<uint32_t> lasting_refusals{0};  // of these, without hope that another try succeeds

void note_refusal(long result) {
  refusals.fetch_add(1, std::memory_order_relaxed);
  if (!sys::may_pass(result)) lasting_refusals.fetch_add(1, std::memory_order_relaxed);
}

// Through a pipe, since write(2) tells about memory that cannot be read instead of faulting. A page at a
// time: of a piece that crosses into an unreadable page nothing would arrive.
size_t copy_through_pipe(char* to, uintptr_t from, size_t size) {
  const size_t page_size = getauxval(AT_PAGESZ);
  int ends[2];
  const long made = sys::call(SYS_pipe2, ends, O_CLOEXEC | O_NONBLOCK);
  if (sys::failed(made)) {
    note_refusal(made);
    return 0;
  }
  size_t copied = 0;
  while (copied < size) {
    const size_t to_page_end = page_size - ((from + copied) & (page_size - 1));
    const size_t wanted = size - copied < to_page_end ? size - copied : to_page_end;
    const long written = sys::call(SYS_write, ends[1], from + copied, wanted);
    if (written == -EINTR) continue;
    if (written == -EFAULT) break;
    long got = 0;
    if (written > 0) {
      do {
        got = sys::call(SYS_read, ends[0], to + copied, written);
      } while (got == -EINTR);
    }
    if (got <= 0 || got != written) {
      note_refusal(written < 0 ? written : got < 0 ? got : 0);
      break;
    }
    copied += static_cast<size_t>(got);
  }
  sys::call(SYS_close, ends[0]);
  sys::call(SYS_close, ends[1]);
  return copied;
}

// ---- protection keys ----

// Whether the processor and kernel have them. A page that a key forbids is listed as readable and faults when
// read in place; process_vm_readv does not heed keys.
bool protection_keys_exist() {
#if defined(__x86_64__)
  static constinit std::atomic<int8_t> known{-1};  // cpuid is slow in a virtual machine
  int8_t exist = known.load(std::memory_order_relaxed);
  if (exist < 0) {
    unsigned a, b, c = 0, d;
    exist = __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (c & (1u << 4)) != 0 ? 1 : 0;  // OSPKE
    known.store(exist, std::memory_order_relaxed);
  }
  return exist == 1;
#elif defined(__aarch64__)
  return (getauxval(AT_HWCAP2) >> 63 & 1) != 0;  // HWCAP2_POE
#else
  return false;
#endif
}

#if defined(__x86_64__)
uint32_t read_key_rights() {
  uint32_t rights, high;
  __asm__ volatile(".byte 0x0f, 0x01, 0xee" : "=a"(rights), "=d"(high) : "c"(0));  // rdpkru
  return rights;
}
void write_key_rights(uint32_t rights) {
  __asm__ volatile(".byte 0x0f, 0x01, 0xef" : : "a"(rights), "c"(0), "d"(0) : "memory");  // wrpkru
}
#else
uint32_t read_key_rights() {
  return 0;
}
void write_key_rights(uint32_t) {}
#endif

// The lowest free key is given out first, so a key that is not 1 means that the program has some.
bool protection_keys_in_use() {
  if (!protection_keys_exist()) return false;
  const uint32_t rights = read_key_rights();
  const long key = sys::call(SYS_pkey_alloc, 0, 0);
  if (key == -ENOSYS) return false;
  if (sys::failed(key)) return true;
  sys::call(SYS_pkey_free, key);
  write_key_rights(rights);  // allocating has set those of the key
  return key != 1;
}

// ---- own ranges ----

// Sorted, apart from each other, shrunk to the cutting alignment.
class OwnRanges {
 public:
  OwnRanges(const Range* own, size_t count) {
    add(Range{reinterpret_cast<uintptr_t>(&scratch), reinterpret_cast<uintptr_t>(&scratch + 1)});
    for (size_t i = 0; i < count && i < kMaxOwn; ++i) add(own[i]);
  }
  size_t count() const { return count_; }
  const Range& operator[](size_t index) const { return ranges_[index]; }

 private:
  void add(Range range) {
    range = Range{align_up(range.begin, kCutAlignment), align_down(range.end, kCutAlignment)};
    if (range.empty()) return;
    size_t place = count_++;
    for (; place > 0 && ranges_[place - 1].begin > range.begin; --place) ranges_[place] = ranges_[place - 1];
    ranges_[place] = range;
  }

  Range ranges_[kMaxOwn + 1];
  size_t count_ = 0;
};

// ---- the walk ----

constexpr bool is_private(MappingKind kind) {
  return kind == MappingKind::private_anonymous || kind == MappingKind::private_file;
}

// Takes mappings in ascending order, asks for their pages, cuts the answers to size, joins and passes them
// on. Private mappings near each other are gathered and asked about at once: of the time a walk takes, most
// goes into system calls.
class Walk final : public PageSink {
 public:
  Walk(const OwnRanges& own, PageFinder& finder, RootVisitor& visitor, bool never_direct)
      : own_(own),
        finder_(finder),
        visitor_(visitor),
        never_direct_(never_direct),
        only_takes_(visitor.only_takes()) {}

  void mapping(const Mapping& mapping, MappingKind kind) {
    ++mappings_;
    const bool follows_guard = guard_.end == mapping.range.begin && kind == MappingKind::private_anonymous;
    const size_t guard_below = follows_guard && mapping.name_size == 0 ? guard_.size() : 0;
    guard_ = !mapping.readable && !mapping.writable && !mapping.shared ? mapping.range : Range{};
    if (kind == MappingKind::ignored || mapping.range.empty()) return;
    // The processors let what may be written be read, the kernel's copying calls do not.
    const bool write_only = !mapping.readable;
    if (write_only && !(mapping.writable && is_private(kind))) return;
    Piece piece{mapping.range, mappings_,     kind,        is_main_stack(mapping),
                write_only,    mapping.range, guard_below, mapping.following};
    for (size_t i = 0; i < own_.count(); ++i) {
      const Range& own = own_[i];
      if (own.end <= piece.range.begin || own.begin >= mapping.range.end) continue;
      piece.range.end = own.begin;
      add(piece);
      piece.range = Range{own.end, mapping.range.end};
    }
    add(piece);
  }

  void finish() {
    flush();
    tell();
  }

  bool met_copied() const { return met_copied_; }

  void pages(Range found, RootAccess access) override {
    while (first_ < last_ && pieces_[first_].range.end <= found.begin) ++first_;
    for (size_t i = first_; i < last_ && pieces_[i].range.begin < found.end; ++i) {
      const Range& piece = pieces_[i].range;
      pass(pieces_[i],
           Range{piece.begin > found.begin ? piece.begin : found.begin,
                 piece.end < found.end ? piece.end : found.end},
           access);
    }
  }

 private:
  static constexpr size_t kGap = size_t{1} << 20;    // nothing, or what should not be walked for nothing
  static constexpr size_t kLarge = size_t{1} << 18;  // from here on, leaving out the question for files pays

  void add(const Piece& piece) {
    if (piece.range.empty()) return;
    if (!is_private(piece.kind)) {
      if (only_takes_) return;
      flush();
      shared(piece);
      return;
    }
    if (may_be_taken(piece) && visitor_.takes(root_of(piece))) {
      flush();
      tell();
      visitor_.take(root_of(piece));
      met_copied_ = true;  // it may have copied
      return;
    }
    if (only_takes_) return;
    if (count_ > 0 && !fits(piece)) flush();
    if (piece.kind == MappingKind::private_file) {
      with_files_ = true;
    } else if (piece.range.size() >= kLarge) {
      with_large_ = true;
    }
    pieces_[count_++] = piece;
  }

  bool may_be_taken(const Piece& piece) const {
    return piece.kind == MappingKind::private_anonymous && !piece.write_only && !never_direct_;
  }
  static RootRange root_of(const Piece& piece) {
    return RootRange{piece.range, RootAccess::direct, piece.main_stack,
                     piece.whole, piece.guard_below,  piece.following};
  }

  // Whether the piece can be asked about together with those gathered.
  bool fits(const Piece& piece) const {
    if (count_ == kGathered || piece.range.begin - pieces_[count_ - 1].range.end > kGap) return false;
    if (piece.kind == MappingKind::private_file) return !with_large_;
    return !(with_files_ && piece.range.size() >= kLarge);
  }

  Range whole_pages(Range range) const {
    return Range{align_down(range.begin, finder_.page_size()), align_up(range.end, finder_.page_size())};
  }

  void shared(const Piece& piece) {
    pieces_[0] = piece;
    first_ = 0;
    last_ = 1;
    if (piece.kind == MappingKind::shared_huge) {
      pages(piece.range, RootAccess::copied);
    } else {
      finder_.shared_pages(whole_pages(piece.range), *this);
    }
  }

  void flush() {
    if (count_ == 0) return;
    const size_t count = count_;
    const bool files = with_files_;
    count_ = 0;
    with_files_ = with_large_ = false;
    first_ = 0;
    last_ = count;
    uintptr_t done = 0;
    if (finder_.source() == PageSource::pagemap_scan) {
      const Range span{pieces_[0].range.begin, pieces_[count - 1].range.end};
      done = finder_.scan(whole_pages(span), files, *this);
    }
    for (size_t i = 0; i < count; ++i) {
      Piece& piece = pieces_[i];
      if (piece.range.begin < done) piece.range.begin = done;
      if (piece.range.empty()) continue;
      first_ = i;  // two pieces can lie in one page
      last_ = i + 1;
      finder_.private_pages(whole_pages(piece.range), piece.kind == MappingKind::private_file, *this);
    }
  }

  RootAccess settle(const Piece& piece, RootAccess access) const {
    if (never_direct_) return RootAccess::copied;
    if (piece.kind == MappingKind::secret_memory) return RootAccess::direct;
    const bool surely_ours =
        piece.kind == MappingKind::private_anonymous || finder_.source() <= PageSource::pagemap;
    if (piece.write_only && surely_ours) return RootAccess::direct;
    return access;
  }

  void pass(const Piece& piece, Range range, RootAccess access) {
    access = settle(piece, access);
    if (waiting_.range.end == range.begin && waiting_.access == access && waiting_mapping_ == piece.mapping) {
      waiting_.range.end = range.end;
      return;
    }
    tell();
    waiting_ = RootRange{range, access, piece.main_stack, piece.whole, piece.guard_below, piece.following};
    waiting_mapping_ = piece.mapping;
  }

  void tell() {
    if (waiting_.range.empty()) return;
    if (waiting_.access == RootAccess::copied) met_copied_ = true;
    visitor_.visit(waiting_);
    waiting_.range = Range{};
  }

  const OwnRanges& own_;
  PageFinder& finder_;
  RootVisitor& visitor_;
  const bool never_direct_;
  const bool only_takes_;
  bool met_copied_ = false;
  size_t mappings_ = 0;
  Piece* const pieces_ = scratch.pieces_of_walk;
  size_t count_ = 0;
  bool with_files_ = false;  // among those gathered
  bool with_large_ = false;
  size_t first_ = 0;  // pieces_[first_, last_) take part in what pages() is told
  size_t last_ = 0;
  Range guard_{};  // the mapping before this one, if it is inaccessible
  RootRange waiting_{Range{}, RootAccess::direct, false, Range{}, 0, 0};
  size_t waiting_mapping_ = 0;
};

const char* source_name(PageSource source) {
  switch (source) {
    case PageSource::pagemap_scan:
      return "pagemap-scan";
    case PageSource::pagemap:
      return "pagemap";
    case PageSource::mincore:
      return "mincore";
    case PageSource::all:
      return "all";
  }
  return "all";
}

RootStatus without_list(const MapsReader& reader) {
  return sys::may_pass(reader.error()) ? RootStatus::try_again : RootStatus::no_map_list;
}

bool can_copy() {
  const uint64_t from = 0x6e6f6e7265757365;
  uint64_t to = 0;
  return copy_foreign(&to, reinterpret_cast<uintptr_t>(&from), sizeof from) == sizeof from && to == from;
}

}  // namespace

RootStatus RootWalker::walk(const Range* own, size_t own_count, RootVisitor& visitor) {
  MapsReader reader(scratch.text, sizeof scratch.text);
  Mapping mapping;
  ProcSelf self = ProcSelf::process;
  // What an emulator shows by this name is its own version, in which mappings can be missing. The other one
  // is the kernel's: all of the program's memory, and the emulator's with it.
  bool more = !emulator::present() && reader.open("/proc/self/maps") && reader.next(mapping);
  if (!more && (emulator::present() || !sys::may_pass(reader.error()))) {
    reader.close();
    self = ProcSelf::thread;  // the main thread has ended before the others: its list is empty
    more = reader.open("/proc/thread-self/maps") && reader.next(mapping);
  }
  if (!more) {
    reader.close();
    return without_list(reader);
  }

  through_thread_ = self == ProcSelf::thread;
  const OwnRanges own_ranges(own, own_count);
  PageFinder finder(scratch.pages);
  finder.open(best_, self);
  const uint64_t shm_device = finder.shm_device();
  const uint32_t refused_before = copy_foreign_refusals();
  const uint32_t lasting_before = lasting_refusals.load(std::memory_order_relaxed);
  Walk walk(own_ranges, finder, visitor, protection_keys_in_use());
  // A list in which this very frame or the buffers are missing is not the list of this process.
  const uintptr_t frame = reinterpret_cast<uintptr_t>(&walk);
  const uintptr_t data = reinterpret_cast<uintptr_t>(&scratch);
  bool frame_seen = false;
  bool data_seen = false;
  for (; more; more = reader.next(mapping)) {
    frame_seen = frame_seen || (mapping.readable && mapping.range.contains(frame));
    data_seen = data_seen || (mapping.readable && mapping.range.contains(data));
    walk.mapping(mapping, classify(mapping, shm_device));
  }
  walk.finish();
  page_source_ = source_name(finder.source());
  finder.close();
  reader.close();
  if (reader.failed() || !frame_seen || !data_seen) return without_list(reader);
  const bool copy_failed = copy_foreign_refusals() != refused_before || (walk.met_copied() && !can_copy());
  if (!copy_failed) return RootStatus::complete;
  const bool passing = copy_foreign_refusals() != refused_before &&
                       lasting_refusals.load(std::memory_order_relaxed) == lasting_before;
  return passing ? RootStatus::try_again : RootStatus::no_copy;
}

void RootWalker::present(Range range, PageSink& sink) {
  PageFinder finder(scratch.pages);
  finder.open(best_, through_thread_ ? ProcSelf::thread : ProcSelf::process, false);
  finder.private_pages(range, false, sink);
  finder.close();
}

size_t copy_foreign(void* to, uintptr_t from, size_t size) {
  if (size == 0) return 0;
  if (!direct_copy_refused.load(std::memory_order_relaxed)) {
    struct iovec local = {to, size};
    struct iovec remote = {reinterpret_cast<void*>(from), size};
    // Not getpid: the main thread may have ended before the others, and taken its view of memory along.
    const long copied = sys::call(SYS_process_vm_readv, sys::call(SYS_gettid), &local, 1, &remote, 1, 0);
    if (!sys::failed(copied)) return static_cast<size_t>(copied);
    if (copied == -EFAULT) return 0;
    if (copied == -ENOSYS || copied == -EPERM) direct_copy_refused.store(true, std::memory_order_relaxed);
  }
  return copy_through_pipe(static_cast<char*>(to), from, size);
}

uint32_t copy_foreign_refusals() {
  return refusals.load(std::memory_order_relaxed);
}

}  // namespace nonreuse
