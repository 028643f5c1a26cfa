#include "launcher/dangling.hpp"

#include <algorithm>

#include "platform/linux_registers.hpp"
#include "platform/live_stack.hpp"

namespace nonreuse::launcher {
namespace {

constexpr size_t kMostPlaces = 16;  // remembered of one chunk
constexpr size_t kBufferBytes = size_t{1} << 20;

class Search {
 public:
  Search(const ObservedProcess& process, const std::vector<ObservedMapping>& mappings, const HeapImage& heap)
      : process_(process), mappings_(mappings), heap_(heap) {}

  std::vector<DanglingChunk> run() {
    default_stack_ = process_.default_stack_bytes();
    registers();
    for (size_t i = 0; i < mappings_.size(); ++i) mapping(i);
    // What is pointed to is read as well: a program may have stored pointers through a dangling one.
    while (!unread_.empty()) {
      const size_t index = unread_.back();
      unread_.pop_back();
      contents(index);
    }
    std::vector<DanglingChunk> list;
    for (auto& [index, chunk] : found_) list.push_back(std::move(chunk));
    return list;
  }

 private:
  using Kind = PointerPlace::Kind;

  void word(uint64_t value, PointerPlace place) {
    const std::optional<size_t> at = heap_.around(value);
    if (!at || !heap_.chunks()[*at].freed) return;
    if (place.kind == Kind::heap && place.owner == *at) return;  // its own
    place.offset = value - heap_.address(heap_.chunks()[*at]);
    DanglingChunk& chunk = found_[*at];
    if (chunk.pointer_count++ == 0) {
      chunk.chunk = *at;
      unread_.push_back(*at);
    }
    if (chunk.pointers.size() < kMostPlaces) chunk.pointers.push_back(place);
  }

  void registers() {
    for (size_t i = 0; i < process_.threads().size(); ++i) {
      const ObservedThread& thread = process_.threads()[i];
      PointerPlace place;
      place.kind = Kind::register_;
      place.thread = i;
      const auto all = [&](const std::vector<uint64_t>& values) {
        for (const uint64_t value : values) {
          word(value, place);
          ++place.number;
        }
      };
      all(thread.registers);
      place.number = kRegisterNames.size();
      all(thread.vectors);
    }
  }

  // Index of the thread whose stack the mapping is, if there is one; the lowest of several.
  std::optional<size_t> thread_on(const ObservedMapping& mapping) const {
    std::optional<size_t> lowest;
    for (size_t i = 0; i < process_.threads().size(); ++i) {
      const uint64_t sp = process_.threads()[i].stack_pointer;
      if (!mapping.range.contains(sp)) continue;
      if (!lowest || sp < process_.threads()[*lowest].stack_pointer) lowest = i;
    }
    return lowest;
  }

  // Where what is live begins: 0 if everything counts.
  uint64_t live_from(const ObservedMapping& mapping, const ObservedThread& thread) const {
    const StackMapping stack{mapping.range, mapping.guard_below, mapping.main_stack};
    return stack.may_be_stack(default_stack_) ? stack.live_from(thread.stack_pointer, thread.thread_pointer)
                                              : 0;
  }

  void mapping(size_t index) {
    const ObservedMapping& mapping = mappings_[index];
    if (mapping.kind == MappingKind::ignored || !mapping.readable) return;
    PointerPlace place;
    place.mapping = index;
    Range range = mapping.range;
    if (const std::optional<size_t> thread = thread_on(mapping); thread) {
      place.kind = Kind::stack;
      place.thread = *thread;
      range.begin = std::max(range.begin, live_from(mapping, process_.threads()[*thread]));
    }
    process_.for_each_used(mapping, [&](Range used) {
      used.begin = std::max(used.begin, range.begin);
      if (!used.empty()) words(used, place);
    });
  }

  // Calls f(word, address) for each word that can be read.
  template <class F>
  void each_word(Range range, F&& f) {
    buffer_.resize(kBufferBytes / sizeof(uint64_t));
    for (uint64_t at = range.begin; at < range.end;) {
      const size_t wanted = std::min<uint64_t>(range.end - at, kBufferBytes);
      const size_t got = process_.read(at, buffer_.data(), wanted);
      for (size_t i = 0; i < got / sizeof(uint64_t); ++i) f(buffer_[i], at + i * sizeof(uint64_t));
      // Skip the page that cannot be read.
      at = got == wanted ? at + wanted : align_down(at + got, page_) + page_;
    }
  }

  void words(Range range, PointerPlace place) {
    const Range heap = heap_.range();
    const bool in_heap = range.begin < heap.end && range.end > heap.begin;
    each_word(range, [&](uint64_t value, uint64_t address) {
      if (!heap.contains(value) || is_own(address)) return;
      place.address = address;
      PointerPlace here = place;
      if (in_heap && heap.contains(address)) {
        const std::optional<size_t> owner = heap_.around(address);
        if (!owner || heap_.chunks()[*owner].freed)
          return;  // free memory, or only if it is pointed to itself
        here.kind = Kind::heap;
        here.owner = *owner;
      }
      word(value, here);
    });
  }

  void contents(size_t index) {
    const HeapChunk& chunk = heap_.chunks()[index];
    PointerPlace place;
    place.kind = Kind::heap;
    place.owner = index;
    const uint64_t begin = heap_.address(chunk);
    each_word({begin, begin + chunk.bytes()}, [&](uint64_t value, uint64_t address) {
      place.address = address;
      if (heap_.range().contains(value)) word(value, place);
    });
  }

  bool is_own(uint64_t address) const {
    return std::any_of(heap_.own().begin(), heap_.own().end(),
                       [&](const Range& own) { return own.contains(address); });
  }

  const ObservedProcess& process_;
  const std::vector<ObservedMapping>& mappings_;
  const HeapImage& heap_;
  const size_t page_ = page_bytes();
  size_t default_stack_ = 0;
  std::vector<uint64_t> buffer_;
  std::map<size_t, DanglingChunk> found_;
  std::vector<size_t> unread_;
};

}  // namespace

std::vector<DanglingChunk> find_dangling(const ObservedProcess& process,
                                         const std::vector<ObservedMapping>& mappings,
                                         const HeapImage& heap) {
  return Search(process, mappings, heap).run();
}

}  // namespace nonreuse::launcher
