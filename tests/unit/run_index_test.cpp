// The index of longer free runs against an ordered set keyed (length, start).
#include "heap/run_index.hpp"

#include <map>
#include <set>
#include <vector>

#include "heap_world.hpp"

namespace nonreuse {
namespace {

// Room for records, as the address space gives it.
class RecordRoom {
 public:
  explicit RecordRoom(size_t bytes) : memory_(bytes / sizeof(uint64_t)), limit_(bytes) {}
  void* records() { return memory_.data(); }
  bool commit_records(size_t bytes) { return bytes <= limit_; }
  void limit(size_t bytes) { limit_ = bytes; }

 private:
  std::vector<uint64_t> memory_;
  size_t limit_;
};

struct ByKey {
  bool operator()(Run a, Run b) const {
    return a.length != b.length ? a.length < b.length : a.start < b.start;
  }
};

class RunIndexTest : public CoreTest {
 protected:
  void insert(Run run) {
    const RecordId id = index.insert(run);
    ASSERT_NE(id, 0u);
    ASSERT_EQ(index.run(id), run);
    ASSERT_TRUE(model.emplace(run, id).second);
  }
  void remove(Run run) {
    index.remove(model.at(run));
    model.erase(run);
  }
  void expect_best_fit(Granules length) {
    const RecordId found = index.best_fit(length);
    const auto expected = model.lower_bound({0, length});
    if (expected == model.end()) {
      ASSERT_EQ(found, 0u) << "asked for " << length;
    } else {
      ASSERT_NE(found, 0u) << "asked for " << length;
      ASSERT_EQ(index.run(found), expected->first) << "asked for " << length;
    }
  }

  RecordRoom room{64 * kMiB};
  RunIndex<RecordRoom> index{room};
  std::map<Run, RecordId, ByKey> model;
};

TEST_F(RunIndexTest, AnEmptyIndexHasNothing) {
  EXPECT_EQ(index.best_fit(64), 0u);
  EXPECT_EQ(index.best_fit(kMaxChunk), 0u);
  EXPECT_EQ(index.count(), 0u);
  EXPECT_EQ(index.granules(), 0u);
}

TEST_F(RunIndexTest, OfEqualSizesTheLowestAddressWins) {
  Random random(1);
  std::set<Granule> starts;
  while (starts.size() < 1000) starts.insert(128 * random.size((Granule{1} << 36) - 1));
  std::vector<Granule> shuffled(starts.begin(), starts.end());
  for (size_t i = shuffled.size(); i > 1; --i) std::swap(shuffled[i - 1], shuffled[random.below(i)]);
  for (const Granule start : shuffled) insert({start, 100});
  for (const Granule start : starts) {
    const RecordId found = index.best_fit(70);
    ASSERT_EQ(index.run(found), (Run{start, 100}));
    remove({start, 100});
  }
}

// 1e5 operations; sizes crowd in a few octaves so that equal sizes and close keys are frequent.
TEST_F(RunIndexTest, AgreesWithASetOverManyOperations) {
  Random random(2);
  for (int op = 0; op < 100000; ++op) {
    const uint64_t what = random.below(10);
    if (what < 4 || model.empty()) {
      const Granules length = random.one_in(3) ? random.between(64, 80) : kIndexedMin + random.size(1 << 22);
      const Run run{128 * (random.one_in(2) ? random.below(64) : random.size((Granule{1} << 37) - 1)),
                    length};
      if (model.count(run) == 0) insert(run);
    } else if (what < 7) {
      auto victim = model.lower_bound({random.below(1 << 20), kIndexedMin + random.size(1 << 22)});
      if (victim == model.end()) victim = model.begin();
      remove(victim->first);
    } else {
      expect_best_fit(random.one_in(2) ? random.between(60, 90) : random.size(1 << 23) + 1);
    }
    if (HasFatalFailure()) return;
    if (op % 1000 != 0) continue;
    Granules total = 0;
    for (const auto& [run, id] : model) total += run.length;
    ASSERT_EQ(index.count(), model.size());
    ASSERT_EQ(index.granules(), total);
    std::set<Run, ByKey> seen;
    index.for_each(1000, [&](Run run) { EXPECT_TRUE(seen.insert(run).second); });
    for (const auto& [run, id] : model) ASSERT_EQ(seen.count(run), run.length >= 1000 ? 1u : 0u);
  }
  while (!model.empty()) {
    remove(model.begin()->first);
    if (model.size() % 64 == 0) expect_best_fit(64);
  }
  EXPECT_EQ(index.best_fit(1), 0u);
  EXPECT_EQ(index.granules(), 0u);
}

TEST_F(RunIndexTest, EveryBoundaryOfAnOctave) {
  for (unsigned shift = kIndexedMinShift; shift < 36; ++shift) {
    for (const Granules length :
         {(Granules{1} << shift) - 1, Granules{1} << shift, (Granules{1} << shift) + 1}) {
      if (length >= kIndexedMin) insert({length * 3, length});
    }
  }
  for (unsigned shift = kIndexedMinShift; shift < 36; ++shift) {
    for (const Granules length :
         {(Granules{1} << shift) - 1, Granules{1} << shift, (Granules{1} << shift) + 1}) {
      expect_best_fit(length);
    }
  }
}

TEST_F(RunIndexTest, WithoutRoomForRecordsInsertSaysSoAndLaterWorksAgain) {
  insert({0, 64});
  room.limit(0);
  EXPECT_EQ(index.insert({1000, 64}), 0u);
  EXPECT_EQ(index.count(), 1u);
  expect_best_fit(64);
  remove({0, 64});
  insert({2000, 65});  // into the record that is free again
  expect_best_fit(64);
  room.limit(64 * kMiB);
  insert({1000, 64});
  expect_best_fit(64);
}

}  // namespace
}  // namespace nonreuse
