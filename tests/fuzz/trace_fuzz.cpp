// Any bytes as a trace: the reader delivers records in order of time and ends, the blocks they mean add up.
// The first byte chooses: 0 bytes behind the header, 1 records of an open block, 2 of a closed one.
#include <cstdlib>

#include "launcher/trace_blocks.hpp"
#include "launcher/trace_reader.hpp"
#include "trace/trace_builder.hpp"

namespace {

using namespace nonreuse;

void require(bool condition) {
  if (!condition) abort();
}

struct Sum : launcher::BlockVisitor {
  void made(size_t, size_t, const launcher::TracedBlock& block) override { ++blocks, bytes += block.size; }
  void resized(size_t, size_t, const launcher::TracedBlock& now,
               const launcher::TracedBlock& before) override {
    bytes += now.size - before.size;
  }
  void freed(size_t, size_t, const launcher::TracedBlock& block, uint64_t) override {
    --blocks, bytes -= block.size;
  }
  uint64_t blocks = 0, bytes = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  trace::TraceBuilder trace;
  const std::span<const uint8_t> rest(data + 1, size - 1);
  if (data[0] % 3 == 0) {
    trace.bytes().insert(trace.bytes().end(), rest.begin(), rest.end());
  } else {
    trace::TraceBuilder::Block block;
    block.closed = data[0] % 3 == 2;
    trace.add(block, rest);
  }
  launcher::TraceReader reader(trace.bytes());
  Sum sum;
  launcher::BlockTracker tracker(reader.processes().size(), sum);
  launcher::TraceEvent event;
  size_t events = 0;
  while (reader.next(event)) {
    require(++events <= size + 1 + reader.processes().size());
    tracker.take(reader, event);
  }
  uint64_t blocks = 0, bytes = 0;
  for (size_t i = 0; i < reader.processes().size(); ++i) {
    require(tracker.live(i).size() == tracker.counts(i).live);
    blocks += tracker.counts(i).live;
    bytes += tracker.counts(i).live_bytes;
  }
  if (reader.processes().size() == 1) require(blocks == sum.blocks && bytes == sum.bytes);
  return 0;
}
