#include "revoke/reading_team.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "platform/attributes.hpp"

namespace nonreuse {
namespace {

constexpr uintptr_t kBase = uintptr_t{1} << 40;
constexpr size_t kGranules = size_t{1} << 20;

// Processes whose name is that of helpers, and whose parent is this one.
std::vector<pid_t> helpers_of_this_process() {
  std::vector<pid_t> found;
  const std::string command = "ps --ppid " + std::to_string(getpid()) + " -o pid=,comm=";
  FILE* list = popen(command.c_str(), "r");
  if (list == nullptr) return found;
  char line[128];
  while (fgets(line, sizeof line, list) != nullptr) {
    if (strstr(line, "nonreuse-reader") != nullptr) found.push_back(atoi(line));
  }
  pclose(list);
  return found;
}

// They have their name only when they have begun.
std::vector<pid_t> await_helpers(size_t count) {
  std::vector<pid_t> found;
  for (int i = 0; i < 500 && (found = helpers_of_this_process()).size() != count; ++i) usleep(10'000);
  return found;
}

class ReadingTeamTest : public testing::Test {
 public:
  void SetUp() override {
    if (NONREUSE_SANITIZED) GTEST_SKIP() << "a sanitizer's runtime needs its thread around instrumented code";
    options_.unaligned = false;
    state_.request.options = &options_;
    state_.kernel = scan_scalar;
    state_.target = {kBase, kGranules << kGranuleShift, painted_.data(), hits_.data(), summary_.data()};
    std::mt19937_64 random(std::random_device{}());
    for (uint64_t& word : painted_) word = random() & random();
    for (uint64_t& word : memory_) {
      word = random() % 64 != 0 ? random() : kBase + random() % (kGranules << kGranuleShift);
    }
  }

  // The whole memory, in ranges of all sizes.
  void give_all() {
    std::mt19937_64 random(17);
    auto at = reinterpret_cast<uintptr_t>(memory_.data());
    const uintptr_t end = at + memory_.size() * sizeof(uint64_t);
    while (at < end) {
      const uintptr_t next = std::min<uintptr_t>(end, at + (1 + random() % 500'000) * sizeof(uint64_t));
      team_->give({ReadingTask::Kind::root, RootAccess::direct, {at, next}}, *leader_);
      at = next;
    }
  }
  uint64_t leave() {
    MemoryScanner::Figures figures = leader_->figures;
    uint64_t cpu = 0;
    team_->leave(figures, cpu);
    return figures.root_bytes;
  }

  Options options_{};
  SweepState state_;
  std::vector<uint64_t> memory_ = std::vector<uint64_t>(size_t{4} << 20);
  std::vector<uint64_t> painted_ = std::vector<uint64_t>(kGranules / 64);
  std::vector<uint64_t> hits_ = painted_,
                        summary_ = std::vector<uint64_t>((kGranules >> kSummaryShift) / 64 + 1);
  std::unique_ptr<MemoryScanner> leader_ = std::make_unique<MemoryScanner>(state_, nullptr);
  std::unique_ptr<ReadingTeam> team_ = std::make_unique<ReadingTeam>(state_);
};

TEST_F(ReadingTeamTest, FindsWhatOneFinds) {
  give_all();
  ASSERT_TRUE(team_->finish(*leader_)) << "alone";
  const std::vector<uint64_t> hits = hits_, summary = summary_;
  ASSERT_NE(std::count(hits.begin(), hits.end(), 0u), static_cast<long>(hits.size())) << "nothing to find";
  const int none[2] = {-1, -1};
  for (size_t helpers : {1, 3, 15}) {
    std::fill(hits_.begin(), hits_.end(), 0);
    std::fill(summary_.begin(), summary_.end(), 0);
    leader_->figures = {};
    team_->start(helpers, none);
    ASSERT_FALSE(team_->empty());
    give_all();
    ASSERT_TRUE(team_->finish(*leader_));
    EXPECT_EQ(hits_, hits) << helpers;
    EXPECT_EQ(summary_, summary) << helpers;
    EXPECT_EQ(leave(), memory_.size() * sizeof(uint64_t))
        << helpers << " helpers, leader " << leader_->figures.root_bytes;
    EXPECT_TRUE(helpers_of_this_process().empty());
  }
}

// A process that has not run has its parent's name. On one processor it has not unless the parent sleeps.
size_t helpers_that_run() {
  size_t running = 0;
  const std::string task = "/proc/self/task/" + std::to_string(gettid());
  std::ifstream children(task + "/children");
  if (!children) return ~size_t{0};  // a kernel that does not list them
  for (pid_t child = 0; children >> child;) {
    std::string name;
    std::getline(std::ifstream("/proc/" + std::to_string(child) + "/comm"), name);
    running += name == "nonreuse-reader";
  }
  return running;
}

TEST_F(ReadingTeamTest, WhoAreAwaitedAreThere) {
  if (helpers_that_run() != 0) GTEST_SKIP() << "the kernel does not list children";
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  CPU_ZERO(&one);
  CPU_SET(static_cast<size_t>(sched_getcpu()), &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  const int none[2] = {-1, -1};
  // On a busy machine the wait may come to its end first, and they may be early without it: not often.
  int awaited = 0, not_awaited = 0;
  const auto told = [&] { return awaited >= 5 && awaited >= 4 * not_awaited; };
  for (int round = 0; round < 100 && !told(); ++round) {
    for (const bool await : {false, true}) {
      team_->start(2, none);
      if (await) team_->await();
      (await ? awaited : not_awaited) += helpers_that_run() == 2;
      leave();
    }
  }
  sched_setaffinity(0, sizeof before, &before);
  EXPECT_TRUE(told()) << awaited << " times with waiting for them, " << not_awaited << " without";
}

TEST_F(ReadingTeamTest, HelpersThatSleptAreWoken) {
  const int none[2] = {-1, -1};
  team_->start(2, none);
  for (int i = 0; i < 3; ++i) {
    usleep(30'000);
    give_all();
    ASSERT_TRUE(team_->finish(*leader_));
  }
  EXPECT_EQ(leave(), 3 * memory_.size() * sizeof(uint64_t));
}

// A helper that is killed may have had a piece in its hands. Where it had none, all was read.
TEST_F(ReadingTeamTest, AKilledHelperIsNoticed) {
  give_all();
  ASSERT_TRUE(team_->finish(*leader_));
  const std::vector<uint64_t> hits = hits_;
  const int none[2] = {-1, -1};
  for (int round = 0; round < 20; ++round) {
    std::fill(hits_.begin(), hits_.end(), 0);
    team_->start(1, none);
    const std::vector<pid_t> helpers = round % 4 == 0 ? await_helpers(1) : std::vector<pid_t>{};
    give_all();
    for (pid_t helper : helpers) kill(helper, SIGKILL);
    const bool all = team_->finish(*leader_);
    EXPECT_TRUE(all || !helpers.empty()) << "nobody was killed";
    if (all) {
      EXPECT_EQ(hits_, hits);
    }
    leave();
  }
}

TEST_F(ReadingTeamTest, AStoppedHelperIsNotWaitedForWithoutEnd) {
  const int none[2] = {-1, -1};
  team_->start(1, none);
  const std::vector<pid_t> helpers = await_helpers(1);
  ASSERT_EQ(helpers.size(), 1u);
  give_all();
  kill(helpers[0], SIGSTOP);
  team_->finish(*leader_);  // whether it had a piece is chance
  leave();
  EXPECT_TRUE(helpers_of_this_process().empty());
}

}  // namespace
}  // namespace nonreuse
