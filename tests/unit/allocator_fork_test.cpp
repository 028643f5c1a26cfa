// After fork: what the other threads of the parent owned is taken over, in whatever state fork found it.
#include <sys/wait.h>
#include <unistd.h>

#include <set>

#include "allocator_world.hpp"

namespace nonreuse {
namespace {

using Call = SimulatedMemory::Call;

// I9: in the child, whatever the parent's other threads were doing, nothing is handed out twice.
class ForkTest : public AllocatorTest {
 protected:
  // A front that has been in use: caches, a run, a batch.
  ThreadFront* busy_front() {
    ThreadFront* other = allocator.make_front();
    std::vector<void*> chunks;
    for (int i = 0; i < 2000; ++i)
      chunks.push_back(allocator.allocate(*other, 16 + static_cast<size_t>(i % 60) * 16).get());
    for (size_t i = 0; i < chunks.size(); i += 2) allocator.free(*other, Wild(chunks[i]));
    sweep();
    for (int i = 0; i < 100; ++i) allocator.allocate(*other, 40);
    for (size_t i = 1; i < 60; i += 2) allocator.free(*other, Wild(chunks[i]));
    return other;
  }
  // The child: then everything that can be had is taken, and must not overlap what is live or quarantined.
  void fork_and_take_everything(const std::vector<std::pair<char*, size_t>>& owned) {
    allocator.before_fork();
    allocator.after_fork_in_child(front);
    EXPECT_EQ(revoker.forks, 1u);
    std::set<uintptr_t> starts;
    memory.refuse(Call::commit, SimulatedMemory::kAlways);
    revoker.outcomes.assign(100000, RevokeOutcome::retry);  // no release: what is handed out was free
    testing::internal::CaptureStderr();
    for (size_t size = 1000; size > 0; size -= size > 16 ? 16 : size) {
      for (char* p; (p = get(size)) != nullptr;) {
        for (const auto& [q, bytes] : owned) {
          ASSERT_FALSE(p < q + bytes && q < p + chunk_bytes(p)) << "handed out twice";
        }
        ASSERT_TRUE(starts.insert(reinterpret_cast<uintptr_t>(p)).second);
        memset(p, 1, size);
      }
    }
    testing::internal::GetCapturedStderr();
    revoker.outcomes.clear();
  }
};

TEST_F(ForkTest, TheFrontsOfOtherThreadsAreTakenOverWhole) {
  ThreadFront* other = busy_front();
  allocator.before_fork();
  allocator.after_fork_in_child(front);
  EXPECT_FALSE(other->in_use);
  EXPECT_TRUE(front->in_use);
  EXPECT_EQ(other->batch, nullptr);
  Granules holes = 0;
  other->for_each_hole([&](Run run) { holes += run.length; });
  EXPECT_EQ(holes, 0u);
  allocator.check();
}

TEST_F(ForkTest, AParentGoesOnAsBefore) {
  busy_front();
  allocator.before_fork();
  allocator.after_fork_in_parent();
  EXPECT_EQ(revoker.forks, 0u);
  put(get(100));
  EXPECT_EQ(sweep(), SweepResult::done);
}

// malloc had set the tag and not yet taken the chunk out of the cache.
TEST_F(ForkTest, ACachedChunkThatIsLiveAlready) {
  ThreadFront* other = busy_front();
  Granules length = 1;
  while (length <= kSmallMax && other->cached[length] == 0) ++length;
  ASSERT_LE(length, kSmallMax) << "no cache has a chunk";
  const Granule start = other->cache(length)[other->cached[length] - 1];
  allocator.heap().tags().set_live(start, length);
  char* p = reinterpret_cast<char*>(allocator.space().address(start));
  fork_and_take_everything({{p, length * kGranule}});
  EXPECT_TRUE(TagMap::is_live(tag(p)));
}

// malloc had set the tag and not yet moved the run's start; more chunks behind it are live as well.
TEST_F(ForkTest, ARunWithLiveChunksInside) {
  ThreadFront* other = busy_front();
  while (other->run_end - other->run_at < 100) allocator.allocate(*other, 900);
  std::vector<std::pair<char*, size_t>> owned;
  for (const Granule at : {other->run_at, other->run_at + 5, other->run_at + 40, other->run_end - 3}) {
    allocator.heap().tags().set_live(at, 3);
    owned.emplace_back(reinterpret_cast<char*>(allocator.space().address(at)), 3 * kGranule);
  }
  allocator.heap().tags().set_freed(other->run_at + 20, 7);
  owned.emplace_back(reinterpret_cast<char*>(allocator.space().address(other->run_at + 20)), 7 * kGranule);
  fork_and_take_everything(owned);
}

// malloc had written a part of a size that takes several tags.
TEST_F(ForkTest, ASizeWithoutItsFirstTag) {
  ThreadFront* other = busy_front();
  while (other->run_end - other->run_at < 100) allocator.allocate(*other, 900);
  const Granule at = other->run_at;
  TagMap tags = allocator.heap().tags();
  tags.set_live(at, 80);
  tags.clear({at, 1});
  ASSERT_NE(tags.load(at + 1), 0);
  fork_and_take_everything({});  // and the walker finds no tag that belongs to nothing
}

// It had written all of it, and not yet moved the run's start.
TEST_F(ForkTest, ALongerChunkThatTheRunStillHolds) {
  ThreadFront* other = busy_front();
  while (other->run_end - other->run_at < 100) allocator.allocate(*other, 900);
  allocator.heap().tags().set_live(other->run_at, 80);
  fork_and_take_everything(
      {{reinterpret_cast<char*>(allocator.space().address(other->run_at)), 80 * kGranule}});
}

// The count of a batch was there before the tag: the entry names a live chunk.
TEST_F(ForkTest, ABatchEntryThatIsLive) {
  ThreadFront* other = busy_front();
  auto* p = static_cast<char*>(allocator.allocate(*other, 100).get());
  ASSERT_TRUE(other->batch->append(Run{granule(p), 7}));
  allocator.before_fork();
  allocator.after_fork_in_child(front);
  ASSERT_EQ(sweep(), SweepResult::done);
  EXPECT_TRUE(TagMap::is_live(tag(p)));
  EXPECT_FALSE(comes_back(p, 112, 100, 2000));
}

// The run's end was moved to a new run, its start was not, or the other way round; the rest of a run was kept
// in a cache and not yet taken out of the run.
TEST_F(ForkTest, ARunBetweenTwoStores) {
  ThreadFront* other = busy_front();
  const Run run{other->run_at, other->run_end - other->run_at};
  ASSERT_GT(run.length, 0u);
  other->set_run({});
  other->run_at = run.start;  // the only state between: nothing is owned
  allocator.before_fork();
  allocator.after_fork_in_child(front);
  allocator.heap().tags();
  const Granule top = allocator.heap().top();
  EXPECT_GE(top, run.end());
  EXPECT_FALSE(allocator.heap().is_free(run.start)) << "lost to the child, which is safe";
  // The walker would rightly say that this run belongs to nobody: give it back.
  const LockGuard guard(allocator.heap().lock());
  allocator.heap().release(run);
}

TEST_F(ForkTest, AHoleThatTwoPlacesOwn) {
  ThreadFront* other = busy_front();
  while (other->run_end - other->run_at < 10 || other->run_end - other->run_at > kSmallMax) {
    ASSERT_NE(allocator.allocate(*other, 16).get(), nullptr);
  }
  ASSERT_TRUE(other->keep({other->run_at, other->run_end - other->run_at}));
  other->leftovers[other->leftover_count++] = {other->run_at, other->run_end - other->run_at};
  fork_and_take_everything({});
}

// A sweep took part of the batch before the fork, the rest comes after it.
TEST_F(ForkTest, ABatchOfWhichAPartWasSwept) {
  ThreadFront* other = allocator.make_front();
  std::vector<char*> chunks;
  for (int i = 0; i < 100; ++i) chunks.push_back(static_cast<char*>(allocator.allocate(*other, 40).get()));
  allocator.allocate(*other, 40);
  for (int i = 0; i < 50; ++i) allocator.free(*other, Wild(chunks[static_cast<size_t>(i)]));
  sweep();
  for (int i = 50; i < 100; ++i) allocator.free(*other, Wild(chunks[static_cast<size_t>(i)]));
  allocator.before_fork();
  allocator.after_fork_in_child(front);
  sweep();
  for (char* p : chunks) EXPECT_TRUE(in_pool(p));
  EXPECT_EQ(figures().quarantined_bytes, 0u);
}

TEST_F(ForkTest, AChildOfWhichTheHeapWasNotToldDoesNotSweep) {
  char* p = get(100);
  put(p);
  const auto child = [&] {  // as after vfork or a raw clone: no handler has run
    const pid_t pid = fork();
    if (pid == 0) _exit(sweep() == SweepResult::blind && revoker.calls == 0 ? 0 : 1);
    int status = 0;
    waitpid(pid, &status, 0);
    return status;
  };
  EXPECT_EQ(child(), 0);
  EXPECT_EQ(sweep(), SweepResult::done);
}

}  // namespace
}  // namespace nonreuse
