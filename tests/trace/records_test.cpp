// The records of traces and their reader: what is written is read, and whatever is wrong with a file, what is
// before that is delivered and nothing else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "launcher/trace_blocks.hpp"
#include "launcher/trace_reader.hpp"
#include "platform/attributes.hpp"
#include "trace/trace_builder.hpp"

namespace nonreuse::trace {
namespace {

using launcher::BlockTracker;
using launcher::BlockVisitor;
using launcher::TracedBlock;
using launcher::TraceEvent;
using launcher::TraceReader;

std::vector<TraceEvent> all_of(TraceReader& reader) {
  std::vector<TraceEvent> events;
  TraceEvent event;
  while (reader.next(event)) {
    if (!event.birth) events.push_back(event);
  }
  return events;
}

bool same(const TraceEvent& a, const TraceEvent& b) {
  const Record &x = a.record, &y = b.record;
  return x.kind == y.kind && x.rare == y.rare && x.time == y.time && x.size == y.size &&
         x.address == y.address && x.old == y.old && x.alignment == y.alignment;
}

bool is_prefix(const std::vector<TraceEvent>& part, const std::vector<TraceEvent>& whole) {
  if (part.size() > whole.size()) return false;
  for (size_t i = 0; i < part.size(); ++i) {
    if (!same(part[i], whole[i])) return false;
  }
  return true;
}

// A few hundred records of every kind in three blocks of one thread.
std::vector<uint8_t> small_trace() {
  TraceBuilder trace;
  for (uint64_t index = 0; index < 3; ++index) {
    RecordsBuilder records;
    for (uint64_t i = 0; i < 40; ++i) {
      const uint64_t address = 0x100000 + (index * 1000 + i) * 64;
      records.make(i % 3 == 0 ? 300 : 0, i * i * 99, address);
      if (i % 4 == 0) records.resize(7, address, i, address + 16);
      records.free(70000, address + (i % 4 == 0 ? 16 : 0));
      const uint64_t fields[] = {i, index, 5, ~uint64_t{0}};
      if (i % 8 == 0) records.rare(Rare::gauges, 3, fields);
    }
    TraceBuilder::Block block;
    block.index = index;
    block.begin_ns = 1000 + index * 10'000'000;
    block.closed = index != 2;  // as of a process that was killed
    trace.add(block, records.bytes());
  }
  return trace.bytes();
}

TEST(TraceRecords, ReadAsWritten) {
  std::mt19937_64 random(7);
  const auto number = [&] { return random() >> (random() % 64); };
  for (int round = 0; round < 200; ++round) {
    RecordsBuilder records;
    std::vector<Record> expected;
    uint64_t time = 1000;
    for (int i = 0; i < 50; ++i) {
      Record r;
      const auto passed = static_cast<uint32_t>(number());
      time += passed;
      r.time = time;
      r.kind = static_cast<Kind>(1 + random() % 3);
      r.size = number();
      r.address = number() >> 8 << kGranuleShift;
      r.old = number() >> 8 << kGranuleShift;
      if (r.kind == Kind::malloc) records.make(passed, r.size, r.address), r.old = 0;
      if (r.kind == Kind::free) records.free(passed, r.old), r.size = r.address = 0;
      if (r.kind == Kind::realloc) records.resize(passed, r.old, r.size, r.address);
      expected.push_back(r);
    }
    EXPECT_TRUE(records.zero_behind_);
    Decoder decoder(records.bytes().data(), records.bytes().data() + records.bytes().size(), 1000);
    for (const Record& r : expected) {
      Record found;
      ASSERT_EQ(decoder.next(found), Decoder::Result::record);
      EXPECT_TRUE(same({false, 0, 0, r}, {false, 0, 0, found}));
    }
    Record none;
    EXPECT_EQ(decoder.next(none), Decoder::Result::end);
  }
}

TEST(TraceRecords, RareOnesReadAsWritten) {
  for (unsigned kind = 1; kind < static_cast<unsigned>(Rare::count); ++kind) {
    RecordsBuilder records;
    const uint64_t values[] = {48, 7, 3, uint64_t{1} << 63};
    records.rare(static_cast<Rare>(kind), 5'000'000'000, std::span(values, kRareFields[kind]));
    Decoder decoder(records.bytes().data(), records.bytes().data() + records.bytes().size(), 1);
    Record found;
    ASSERT_EQ(decoder.next(found), Decoder::Result::record) << kind;
    EXPECT_EQ(found.rare, static_cast<Rare>(kind));
    EXPECT_EQ(found.time, 5'000'000'001U);
    for (size_t i = 0; i < kRareFields[kind]; ++i) EXPECT_EQ(found.fields[i], values[i]);
    EXPECT_EQ(decoder.next(found), Decoder::Result::end);
  }
}

TEST(TraceFile, CutAnywhere) {
  const std::vector<uint8_t> whole = small_trace();
  TraceReader reader(whole);
  EXPECT_EQ(reader.problem(), "");
  const std::vector<TraceEvent> all = all_of(reader);
  ASSERT_GT(all.size(), 200U);
  size_t before = 0;
  for (size_t size = 0; size < whole.size(); ++size) {
    // Memory of its own, so that a sanitizer sees what is read beyond.
    const std::vector<uint8_t> part(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    if (size > 8 && size < kFileHeaderBytes && size % 4099 != 0) continue;
    if (size > kFileHeaderBytes && size % kWindowUnit > 1200 && size % 211 != 0) continue;
    if (NONREUSE_SANITIZED && size > kFileHeaderBytes && size % 7 != 0) continue;  // a minute there otherwise
    TraceReader cut(part);
    EXPECT_NE(cut.problem(), "") << size;
    const std::vector<TraceEvent> found = all_of(cut);
    EXPECT_TRUE(is_prefix(found, all)) << size;
    EXPECT_GE(found.size(), before) << size;  // more is read of more
    before = found.size();
  }
  EXPECT_EQ(before, all.size());
}

// Whether a byte of small_trace() is covered by a check. The last block is open and has none for its records;
// what is behind records is not looked at.
bool is_checked(const std::vector<uint8_t>& whole, size_t at) {
  if (at < offsetof(FileHeader, next)) return true;
  if (at < kFileHeaderBytes || at >= whole.size() - kWindowUnit) return false;
  const size_t in_window = (at - kFileHeaderBytes) % kWindowUnit;
  BlockHeader header;
  memcpy(&header, whole.data() + (at - in_window), sizeof header);
  return in_window < sizeof header + header.length;
}

TEST(TraceFile, DamagedAnywhere) {
  const std::vector<uint8_t> whole = small_trace();
  TraceReader reader(whole);
  const std::vector<TraceEvent> all = all_of(reader);
  std::vector<uint8_t> broken = whole;
  size_t checked = 0;
  for (size_t at = 0; at < whole.size(); ++at) {
    if (at > sizeof(FileHeader) && at < kFileHeaderBytes) continue;
    if (at > kFileHeaderBytes && (at - kFileHeaderBytes) % kWindowUnit > 1200) continue;
    for (const unsigned flip : {1U, 0x80U, 0xffU}) {
      broken[at] = static_cast<uint8_t>(whole[at] ^ flip);
      TraceReader damaged(broken);
      const std::vector<TraceEvent> found = all_of(damaged);
      if (is_checked(whole, at)) {
        ++checked;
        EXPECT_NE(damaged.problem(), "") << at;
        EXPECT_TRUE(is_prefix(found, all)) << at;
      }
      broken[at] = whole[at];
    }
  }
  EXPECT_GT(checked, 3000U);
}

TEST(TraceFile, ThreadsInOrderOfTime) {
  TraceBuilder trace;
  for (uint32_t thread = 1; thread <= 3; ++thread) {
    RecordsBuilder records;
    for (uint64_t i = 0; i < 100; ++i) records.make(thread, i, 0x1000 * (i + 1));
    TraceBuilder::Block block;
    block.thread = thread;
    trace.add(block, records.bytes());
  }
  TraceReader reader(trace.bytes());
  EXPECT_EQ(reader.threads().size(), 3U);
  const std::vector<TraceEvent> all = all_of(reader);
  ASSERT_EQ(all.size(), 300U);
  for (size_t i = 1; i < all.size(); ++i) EXPECT_LE(all[i - 1].record.time, all[i].record.time);
  reader.rewind();
  EXPECT_EQ(all_of(reader).size(), 300U);
}

struct Counted : BlockVisitor {
  void made(size_t, size_t, const TracedBlock& block) override { text += "+" + std::to_string(block.size); }
  void resized(size_t, size_t, const TracedBlock& now, const TracedBlock& before) override {
    text += "~" + std::to_string(before.size) + ">" + std::to_string(now.size);
  }
  void freed(size_t, size_t, const TracedBlock& block, uint64_t) override {
    text += "-" + std::to_string(block.size);
  }
  std::string text;
};

std::string story(TraceBuilder& trace, launcher::TracedCounts* counts = nullptr) {
  TraceReader reader(trace.bytes());
  EXPECT_EQ(reader.problem(), "");
  Counted counted;
  BlockTracker tracker(reader.processes().size(), counted);
  TraceEvent event;
  while (reader.next(event)) tracker.take(reader, event);
  if (counts != nullptr) *counts = tracker.counts(reader.processes().size() - 1);
  return counted.text;
}

TEST(TraceBlocks, FreeStampedBeforeItsMalloc) {
  TraceBuilder trace;
  RecordsBuilder maker, taker;
  maker.make(500, 7, 0x1000);
  taker.free(490, 0x1000);
  TraceBuilder::Block block;
  trace.add(block, maker.bytes());
  block.thread = 2;
  trace.add(block, taker.bytes());
  launcher::TracedCounts counts;
  EXPECT_EQ(story(trace, &counts), "+7-7");
  EXPECT_EQ(counts.live, 0U);
  EXPECT_EQ(counts.unknown, 0U);
}

TEST(TraceBlocks, AddressMadeAgainBeforeItsReallocIsStamped) {
  TraceBuilder trace;
  RecordsBuilder one, two;
  one.make(1, 7, 0x1000);
  one.resize(500, 0x1000, 9, 0x2000);
  two.make(400, 8, 0x1000);
  two.free(900, 0x1000);
  TraceBuilder::Block block;
  trace.add(block, one.bytes());
  block.thread = 2;
  trace.add(block, two.bytes());
  EXPECT_EQ(story(trace), "+7+8~7>9-8");
}

TEST(TraceBlocks, ForkInherits) {
  TraceBuilder trace;
  RecordsBuilder parent, child;
  parent.make(1, 7, 0x1000);
  parent.make(1, 8, 0x2000);
  parent.free(1000, 0x1000);
  child.free(1, 0x1000);
  child.free(1, 0x3000);
  trace.add({}, parent.bytes());
  TraceBuilder::Block block;
  block.instance = 2;
  block.parent = 1;
  block.process = 101;
  block.begin_ns = 1600;
  block.forked_ns = 1500;
  trace.add(block, child.bytes());
  launcher::TracedCounts counts;
  EXPECT_EQ(story(trace, &counts), "+7+8-7-7");
  EXPECT_EQ(counts.live, 1U);
  EXPECT_EQ(counts.live_bytes, 8U);
  EXPECT_EQ(counts.unknown, 1U);
}

}  // namespace
}  // namespace nonreuse::trace
