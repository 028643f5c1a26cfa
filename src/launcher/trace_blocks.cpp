#include "launcher/trace_blocks.hpp"

#include <algorithm>

namespace nonreuse::launcher {

using trace::Kind;
using trace::Rare;

namespace {
constexpr uint64_t kMomentNs = 1'000'000;
}

std::vector<TracedBlock> BlockTracker::live(size_t process) const {
  const Heap& heap = heaps_[process];
  std::vector<TracedBlock> blocks;
  blocks.reserve(heap.counts.live);
  for (const auto& [address, block] : heap.blocks) blocks.push_back(block);
  for (const auto& [address, older] : heap.displaced) blocks.insert(blocks.end(), older.begin(), older.end());
  std::sort(blocks.begin(), blocks.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return blocks;
}

void BlockTracker::birth(const TraceReader& reader, const TraceEvent& event) {
  std::vector<TracedBlock> inherited;
  const uint64_t parent = reader.processes()[event.process].parent;
  for (size_t i = 0; parent != 0 && i < reader.processes().size(); ++i) {
    if (reader.processes()[i].instance != parent) continue;
    heaps_[event.process] = heaps_[i];
    TracedCounts& counts = heaps_[event.process].counts;
    counts = {0,     0, 0, 0, 0, counts.live, counts.live_bytes, counts.live_bytes, counts.untraced,
              false, 0, 0, 0, 0};
    inherited = live(event.process);
  }
  visitor_.born(event.process, event.record.time, inherited);
}

void BlockTracker::insert(Heap& heap, const TracedBlock& block) {
  auto [place, is_new] = heap.blocks.try_emplace(block.address, block);
  if (!is_new) {
    heap.displaced[block.address].push_back(place->second);
    place->second = block;
  }
  ++heap.counts.live;
  heap.counts.live_bytes += block.size;
  heap.counts.live_bytes_max = std::max(heap.counts.live_bytes_max, heap.counts.live_bytes);
}

bool BlockTracker::end(Heap& heap, uint64_t address, TracedBlock& out) {
  const auto place = heap.blocks.find(address);
  if (place == heap.blocks.end()) return false;
  const auto older = heap.displaced.find(address);
  if (older != heap.displaced.end()) {
    out = older->second.front();
    older->second.pop_front();
    if (older->second.empty()) heap.displaced.erase(older);
  } else {
    out = place->second;
    heap.blocks.erase(place);
  }
  --heap.counts.live;
  heap.counts.live_bytes -= out.size;
  return true;
}

void BlockTracker::make(Heap& heap, const TraceEvent& event, uint64_t alignment) {
  const trace::Record& r = event.record;
  const TracedBlock block{heap.next_id++, r.address, r.size, alignment, r.time, event.thread};
  insert(heap, block);
  ++heap.counts.made;
  visitor_.made(event.process, event.thread, block);
  const auto waits = heap.waiting.find(r.address);
  if (waits == heap.waiting.end()) return;
  const Waiting wait = waits->second;
  heap.waiting.erase(waits);
  if (r.time - wait.ns > kMomentNs) return;
  TracedBlock gone;
  end(heap, r.address, gone);
  --heap.counts.unknown;
  ++heap.counts.untraced;
  ++heap.counts.freed;
  visitor_.freed(event.process, wait.thread, gone, r.time);
}

void BlockTracker::free(Heap& heap, const TraceEvent& event) {
  TracedBlock gone;
  if (!end(heap, event.record.old, gone)) {
    heap.waiting[event.record.old] = {event.record.time, event.thread};
    ++heap.counts.unknown;
    --heap.counts.untraced;
    return;
  }
  ++heap.counts.freed;
  visitor_.freed(event.process, event.thread, gone, event.record.time);
}

void BlockTracker::resize(Heap& heap, const TraceEvent& event) {
  const trace::Record& r = event.record;
  TracedBlock before;
  if (!end(heap, r.old, before)) {
    ++heap.counts.unknown;
    --heap.counts.untraced;
    return make(heap, event, 0);
  }
  TracedBlock now = before;
  now.address = r.address;
  now.size = r.size;
  insert(heap, now);
  ++heap.counts.resized;
  visitor_.resized(event.process, event.thread, now, before);
}

void BlockTracker::rare(Heap& heap, const TraceEvent& event) {
  const trace::Record& r = event.record;
  switch (r.rare) {
    case Rare::aligned:
      return make(heap, event, r.alignment);
    case Rare::failed:
    case Rare::failed_realloc:
      ++heap.counts.failed;
      break;
    case Rare::start:
      heap.counts.untraced = static_cast<int64_t>(r.fields[0]);
      break;
    case Rare::finish:
      heap.counts.finished = true;
      heap.counts.heap_chunks = r.fields[0];
      heap.counts.heap_bytes = r.fields[1];
      heap.counts.live_then = heap.counts.live;
      heap.counts.untraced_then = heap.counts.untraced;
      break;
    default:
      break;
  }
  visitor_.noted(event);
}

void BlockTracker::take(const TraceReader& reader, const TraceEvent& event) {
  if (event.birth) return birth(reader, event);
  Heap& heap = heaps_[event.process];
  switch (event.record.kind) {
    case Kind::malloc:
      return make(heap, event, 0);
    case Kind::free:
      return free(heap, event);
    case Kind::realloc:
      return resize(heap, event);
    case Kind::rare:
      return rare(heap, event);
  }
}

}  // namespace nonreuse::launcher
