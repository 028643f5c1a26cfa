// The simulated platform itself, and that the concepts behind the seams refuse what lacks a requirement.
#include "platform/simulated.hpp"

#include <set>

#include "heap_world.hpp"
#include "platform/linux_memory.hpp"
#include "revoke/conservative.hpp"
#include "revoke/none.hpp"

namespace nonreuse {
namespace {

// ---- the concepts ---------------------------------------------------------------------------------------
// Each type below lacks one requirement, or has it with another type.

struct Complete {
  size_t page_size() const;
  AddressClaim claim(size_t);
  void* pointer(Address);
  CommitResult commit(uintptr_t, size_t);
  bool uncommit(uintptr_t, size_t);
  bool discard(uintptr_t, size_t);
  void populate(uintptr_t, size_t);
  bool trap(uintptr_t, size_t);
  bool untrap(uintptr_t, size_t);
  void zero(uintptr_t, size_t);
  size_t movable(uintptr_t, size_t);
  MoveResult move(uintptr_t, uintptr_t, size_t);
  void zero_short(uintptr_t, size_t);
  bool make_zero(uintptr_t, size_t);
};
struct NoPageSize : Complete {
  void page_size() const = delete;
};
struct PageSizeInt : Complete {
  int page_size() const;
};
struct NoClaim : Complete {
  void claim(size_t) = delete;
};
struct ClaimsPointer : Complete {
  void* claim(size_t);
};
struct NoPointer : Complete {
  void pointer(Address) = delete;
};
struct PointsWithANumber : Complete {
  Address pointer(Address);
};
struct NoCommit : Complete {
  void commit(uintptr_t, size_t) = delete;
};
struct CommitsBool : Complete {
  bool commit(uintptr_t, size_t);
};
struct NoUncommit : Complete {
  void uncommit(uintptr_t, size_t) = delete;
};
struct NoDiscard : Complete {
  void discard(uintptr_t, size_t) = delete;
};
struct DiscardsSilently : Complete {
  void discard(uintptr_t, size_t);
};
struct NoPopulate : Complete {
  void populate(uintptr_t, size_t) = delete;
};
struct NoTrap : Complete {
  void trap(uintptr_t, size_t) = delete;
};
struct NoUntrap : Complete {
  void untrap(uintptr_t, size_t) = delete;
};
struct NoZero : Complete {
  void zero(uintptr_t, size_t) = delete;
};
struct NoMakeZero : Complete {
  void make_zero(uintptr_t, size_t) = delete;
};
struct MakesZeroSilently : Complete {
  void make_zero(uintptr_t, size_t);
};

struct CompleteRevoker {
  static constexpr bool kHolds = true;
  RevokeOutcome revoke(const RevokeRequest&, RevokeFigures&);
  void after_fork_in_child();
};
struct SaysNotWhetherItHolds {
  RevokeOutcome revoke(const RevokeRequest&, RevokeFigures&);
  void after_fork_in_child();
};
struct RevokesBool : CompleteRevoker {
  bool revoke(const RevokeRequest&, RevokeFigures&);
};
struct WantsToChangeTheRequest : CompleteRevoker {
  RevokeOutcome revoke(RevokeRequest&, RevokeFigures&);
};
struct NoFork : CompleteRevoker {
  void after_fork_in_child() = delete;
};
struct ForkFails : CompleteRevoker {
  bool after_fork_in_child();
};

template <class... Ts>
constexpr int platforms = (0 + ... + MemoryPlatform<Ts>);
template <class... Ts>
constexpr int revokers = (0 + ... + Revoker<Ts>);

TEST(Concepts, WhatIsCompleteIsAccepted) {
  EXPECT_EQ((platforms<Complete, SimulatedMemory, LinuxMemory>), 3);
  EXPECT_EQ((revokers<CompleteRevoker, ScriptedRevoker, NoRevoker, ConservativeRevoker>), 4);
}

TEST(Concepts, APlatformThatLacksOneRequirementIsRefused) {
  EXPECT_FALSE(MemoryPlatform<NoPageSize>);
  EXPECT_FALSE(MemoryPlatform<PageSizeInt>);
  EXPECT_FALSE(MemoryPlatform<NoClaim>);
  EXPECT_FALSE(MemoryPlatform<ClaimsPointer>);
  EXPECT_FALSE(MemoryPlatform<NoPointer>);
  EXPECT_FALSE(MemoryPlatform<PointsWithANumber>);
  EXPECT_FALSE(MemoryPlatform<NoCommit>);
  EXPECT_FALSE(MemoryPlatform<CommitsBool>);
  EXPECT_FALSE(MemoryPlatform<NoUncommit>);
  EXPECT_FALSE(MemoryPlatform<NoDiscard>);
  EXPECT_FALSE(MemoryPlatform<DiscardsSilently>);
  EXPECT_FALSE(MemoryPlatform<NoPopulate>);
  EXPECT_FALSE(MemoryPlatform<NoTrap>);
  EXPECT_FALSE(MemoryPlatform<NoUntrap>);
  EXPECT_FALSE(MemoryPlatform<NoZero>);
  EXPECT_FALSE(MemoryPlatform<NoMakeZero>);
  EXPECT_FALSE(MemoryPlatform<MakesZeroSilently>);
  EXPECT_FALSE(MemoryPlatform<int>);
}

TEST(Concepts, ARevokerThatLacksOneRequirementIsRefused) {
  EXPECT_FALSE(Revoker<SaysNotWhetherItHolds>);
  EXPECT_FALSE(Revoker<RevokesBool>);
  EXPECT_FALSE(Revoker<WantsToChangeTheRequest>);
  EXPECT_FALSE(Revoker<NoFork>);
  EXPECT_FALSE(Revoker<ForkFails>);
  EXPECT_FALSE(Revoker<SimulatedMemory>);
}

// ---- the simulated platform -------------------------------------------------------------------------------

using Page = SimulatedMemory::Page;
using Call = SimulatedMemory::Call;
constexpr size_t kPage = SimulatedMemory::kUsualPage;

class SimulatedMemoryTest : public CoreTest {
 protected:
  SimulatedMemoryTest() { base = memory.claim(kMiB).base; }
  char& at(size_t offset) const { return *reinterpret_cast<char*>(base + offset); }

  SimulatedMemory memory{64 * kMiB};
  uintptr_t base;
};

TEST_F(SimulatedMemoryTest, KeepsTheStateOfEveryPage) {
  ASSERT_NE(base, 0u);
  EXPECT_EQ(memory.page(base), Page::uncommitted);
  EXPECT_EQ(memory.page(base + kMiB), Page::unclaimed);
  EXPECT_EQ(memory.commit(base, 4 * kPage), CommitResult::done);
  EXPECT_EQ(memory.count(Page::committed, base, base + kMiB), 4u);
  at(0) = at(kPage) = at(3 * kPage) = 1;
  EXPECT_TRUE(memory.discard(base, kPage));
  EXPECT_EQ(at(0), 0);
  EXPECT_TRUE(memory.trap(base + kPage, kPage));
  EXPECT_EQ(memory.page(base + kPage), Page::trapped);
  EXPECT_TRUE(memory.untrap(base + kPage, kPage));
  EXPECT_EQ(at(kPage), 0);
  EXPECT_TRUE(memory.uncommit(base + 3 * kPage, kPage));
  EXPECT_EQ(memory.committed_bytes(), 3 * kPage);
  EXPECT_EQ(memory.commit(base + 3 * kPage, kPage), CommitResult::done);
  EXPECT_EQ(at(3 * kPage), 0);
  expect_no_breach(memory);
}

TEST_F(SimulatedMemoryTest, WritesZeroesAndSaysWhetherTheyWereNeeded) {
  memory.commit(base, kPage);
  EXPECT_FALSE(memory.make_zero(base, kPage));
  at(100) = 7;
  EXPECT_TRUE(memory.make_zero(base + 96, 16));
  EXPECT_EQ(at(100), 0);
  at(5) = at(6) = at(7) = 7;
  memory.zero(base + 5, 2);
  EXPECT_EQ(at(5) | at(6), 0);
  EXPECT_EQ(at(7), 7);
  expect_no_breach(memory);
}

TEST_F(SimulatedMemoryTest, RefusesWhatItIsToldTo) {
  memory.refuse(Call::commit, 2);
  EXPECT_EQ(memory.commit(base, kPage), CommitResult::done);
  EXPECT_EQ(memory.commit(base + kPage, kPage), CommitResult::no_memory);
  EXPECT_EQ(memory.commit(base + kPage, kPage), CommitResult::done);
  memory.limit_commits(3 * kPage);
  EXPECT_EQ(memory.commit(base + 2 * kPage, 2 * kPage), CommitResult::no_memory);
  EXPECT_EQ(memory.commit(base + 2 * kPage, kPage), CommitResult::done);
  memory.limit_commits(~size_t{0});
  memory.occupy(8 * kPage, kPage);
  EXPECT_EQ(memory.commit(base + 7 * kPage, 2 * kPage), CommitResult::occupied);
  EXPECT_EQ(memory.commit(base + 7 * kPage, kPage), CommitResult::done);
  EXPECT_EQ(memory.commit(base + 9 * kPage, kPage), CommitResult::done);
  for (const Call call : {Call::uncommit, Call::discard, Call::trap, Call::untrap}) {
    memory.refuse(call, SimulatedMemory::kAlways);
  }
  at(0) = 1;
  EXPECT_FALSE(memory.uncommit(base, kPage));
  EXPECT_FALSE(memory.discard(base, kPage));
  EXPECT_FALSE(memory.trap(base, kPage));
  EXPECT_FALSE(memory.untrap(base, kPage));
  EXPECT_EQ(at(0), 1);
  EXPECT_EQ(memory.page(base), Page::committed);
  memory.refuse(Call::trap, SimulatedMemory::kNever);
  EXPECT_TRUE(memory.trap(base, kPage));
  expect_no_breach(memory);
}

TEST_F(SimulatedMemoryTest, NotesEveryBreach) {
  size_t seen = 0;
  const auto breached = [&] {
    return std::exchange(seen, memory.breaches().size()) + 1 == memory.breaches().size();
  };
  memory.commit(base, 2 * kPage);
  memory.commit(base + kPage, kPage);
  EXPECT_TRUE(breached()) << "committed twice";
  memory.commit(base + 2 * kPage + 8, kPage);
  EXPECT_TRUE(breached()) << "not page-aligned";
  memory.commit(base + kMiB - kPage, 2 * kPage);
  EXPECT_TRUE(breached()) << "outside the claim";
  memory.uncommit(base + 16 * kPage, kPage);
  EXPECT_TRUE(breached()) << "uncommitted an uncommitted page";
  memory.discard(base + 16 * kPage, kPage);
  EXPECT_TRUE(breached()) << "discarded an uncommitted page";
  memory.untrap(base, kPage);
  EXPECT_TRUE(breached()) << "untrapped an accessible page";
  EXPECT_EQ(memory.claim(kMiB).size, 0u);
  EXPECT_TRUE(breached()) << "claimed twice";
}

TEST_F(SimulatedMemoryTest, WhatMayNotBeTouchedStopsTheProgram) {
  memory.commit(base, 2 * kPage);
  memory.trap(base + kPage, kPage);
  EXPECT_DEATH(at(kPage) = 1, "");
  EXPECT_DEATH(at(16 * kPage) = 1, "");
  at(0) = 1;
}

TEST(SimulatedMemory, ARefusedClaimLeavesAHeapThatSaysSo) {
  SimulatedMemory memory(64 * kMiB);
  memory.refuse_claim(true);
  ScriptedRevoker revoker;
  TestAllocator allocator(memory, revoker);
  EXPECT_FALSE(allocator.init(quiet_options()));
}

}  // namespace
}  // namespace nonreuse
