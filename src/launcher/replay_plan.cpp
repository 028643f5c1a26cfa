#include "launcher/replay_plan.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <unordered_map>

#include "launcher/program.hpp"
#include "launcher/trace_blocks.hpp"

namespace nonreuse::launcher {
namespace {

constexpr uint32_t kTurnMask = (1u << 22) - 1;

class Planner : public BlockVisitor {
 public:
  Planner(ReplayPlan& plan, size_t process, size_t threads)
      : plan_(plan), process_(process), index_(threads, kNone) {}

  void born(size_t process, uint64_t, const std::vector<TracedBlock>& inherited) override {
    if (process != process_) return;
    if (inherited.empty()) return;
    plan_.threads.emplace_back();  // the child's first thread, by whichever number it is known, makes them
    free_slots_.emplace_back();
    prelude_ = true;
    for (const TracedBlock& block : inherited) make(0, block);
  }
  void made(size_t process, size_t thread, const TracedBlock& block) override {
    if (process == process_) make(thread_of(thread), block);
  }
  void resized(size_t process, size_t thread, const TracedBlock& now, const TracedBlock& before) override {
    if (process != process_) return;
    add(thread_of(thread), ReplayKind::resize, slots_of_.at(before.id), now.size, 0);
  }
  void freed(size_t process, size_t thread, const TracedBlock& block, uint64_t) override {
    if (process != process_) return;
    const size_t who = thread_of(thread);
    const auto place = slots_of_.find(block.id);
    add(who, ReplayKind::free, place->second, 0, 0);
    free_slots_[who].push_back(place->second);
    slots_of_.erase(place);
  }

 private:
  static constexpr size_t kNone = ~size_t{0};

  // The plan's number of a thread of the trace.
  size_t thread_of(size_t thread) {
    size_t& index = index_[thread];
    if (index == kNone) {
      if (prelude_) {
        prelude_ = false;
        index = 0;
      } else {
        index = plan_.threads.size();
        plan_.threads.emplace_back();
        free_slots_.emplace_back();
        if (index != 0) {
          const ReplayCall spawn{static_cast<uint32_t>(index), 0, static_cast<uint32_t>(ReplayKind::spawn), 0,
                                 0};
          plan_.threads[last_].push_back(spawn);
        }
      }
    }
    last_ = index;
    return index;
  }

  void make(size_t who, const TracedBlock& block) {
    uint32_t slot;
    if (free_slots_[who].empty()) {
      slot = static_cast<uint32_t>(turns_.size());
      turns_.push_back(0);
      plan_.slots = turns_.size();
    } else {
      slot = free_slots_[who].back();
      free_slots_[who].pop_back();
    }
    slots_of_[block.id] = slot;
    const bool aligned = block.alignment > 16;
    add(who, aligned ? ReplayKind::make_aligned : ReplayKind::make, slot, block.size,
        aligned ? static_cast<uint32_t>(std::bit_width(block.alignment) - 1) : 0);
  }

  void add(size_t who, ReplayKind kind, uint32_t slot, uint64_t size, uint32_t align_shift) {
    const ReplayCall call{slot, turns_[slot]++ & kTurnMask, static_cast<uint32_t>(kind), align_shift & 63,
                          size};
    plan_.threads[who].push_back(call);
  }

  ReplayPlan& plan_;
  size_t process_;
  std::vector<size_t> index_;
  std::vector<std::vector<uint32_t>> free_slots_;  // of each thread of the plan
  std::vector<uint32_t> turns_;                    // of each slot
  std::unordered_map<uint64_t, uint32_t> slots_of_;
  size_t last_ = 0;
  bool prelude_ = false;
};

// A file without a name, with room for `bytes`; -1 where there is none. A sweep reads what lies in /dev/shm,
// and the plan is no memory of the program that is replayed.
int nameless_file(uint64_t bytes) {
  const char* given = getenv("TMPDIR");
  for (const char* folder : {given, "/tmp", "/var/tmp", "/dev/shm"}) {
    if (folder == nullptr) continue;
    const int descriptor = open(folder, O_TMPFILE | O_RDWR, 0600);
    if (descriptor < 0) continue;
    errno = posix_fallocate(descriptor, 0, static_cast<off_t>(bytes));
    if (errno == 0) return descriptor;
    close(descriptor);
  }
  return -1;
}

uint64_t aligned_up(uint64_t value) {
  return (value + 4095) & ~uint64_t{4095};
}

}  // namespace

ReplayPlan make_plan(TraceReader& reader, size_t process) {
  ReplayPlan plan;
  Planner planner(plan, process, reader.threads().size());
  BlockTracker tracker(reader.processes().size(), planner);
  reader.rewind();
  TraceEvent event;
  while (reader.next(event)) tracker.take(reader, event);
  if (plan.threads.empty()) plan.threads.emplace_back();
  const TracedCounts& counts = tracker.counts(process);
  plan.live_blocks = counts.live;
  plan.live_bytes = counts.live_bytes;
  plan.skipped = counts.unknown;
  return plan;
}

int write_plan(const ReplayPlan& plan) {
  uint64_t calls = 0;
  for (const auto& thread : plan.threads) calls += thread.size();
  ReplayHeader head{};
  head.threads = plan.threads.size();
  head.slots = plan.slots;
  head.calls = calls;
  head.threads_at = aligned_up(sizeof(ReplayHeader));
  head.slots_at = aligned_up(head.threads_at + head.threads * sizeof(ReplayThread));
  head.calls_at = aligned_up(head.slots_at + head.slots * sizeof(ReplaySlot));
  head.bytes = aligned_up(head.calls_at + calls * sizeof(ReplayCall));
  const int descriptor = nameless_file(head.bytes);
  void* memory = MAP_FAILED;
  if (descriptor >= 0) memory = mmap(nullptr, head.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (memory == MAP_FAILED) throw Failure(1, fmt::format("no room for the replay: {}", strerror(errno)));
  auto* at = static_cast<char*>(memory);
  auto* threads = reinterpret_cast<ReplayThread*>(at + head.threads_at);
  auto* out = reinterpret_cast<ReplayCall*>(at + head.calls_at);
  uint64_t first = 0;
  for (size_t i = 0; i < plan.threads.size(); ++i) {
    threads[i] = {first, plan.threads[i].size()};
    if (!plan.threads[i].empty())
      memcpy(static_cast<void*>(out + first), plan.threads[i].data(),
             plan.threads[i].size() * sizeof(ReplayCall));
    first += plan.threads[i].size();
  }
  auto* header = reinterpret_cast<ReplayHeader*>(at);
  header->bytes = head.bytes;
  header->threads = head.threads;
  header->slots = head.slots;
  header->calls = head.calls;
  header->threads_at = head.threads_at;
  header->slots_at = head.slots_at;
  header->calls_at = head.calls_at;
  munmap(memory, head.bytes);
  return descriptor;
}

}  // namespace nonreuse::launcher
