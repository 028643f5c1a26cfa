// The meaning of each compile-time setting, for whichever values this was built with.
#include <dlmalloc_nonreuse.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <type_traits>
#include <vector>

#include "base/options.hpp"
#include "base/settings.hpp"
#include "platform/lock.hpp"

namespace nonreuse {
namespace {

nonreuse_statistics statistics() {
  nonreuse_statistics result;
  nonreuse_get_statistics(&result);
  return result;
}

void churn(size_t bytes, size_t size) {
  for (size_t done = 0; done < bytes; done += size) {
    void* block = dlmalloc(size);
    ASSERT_NE(block, nullptr);
    memset(block, 1, size);
    dlfree(block);
  }
}

// Keeps the value out of the optimiser's and out of the reader's sight until it is stored where a sweep
// looks.
void* volatile remembered;

TEST(Settings, OptionsStartFromTheSettings) {
  const Options options = default_options();
  EXPECT_EQ(options.percent, uint64_t{DEFAULT_FREEBUF_PERCENT});
  EXPECT_EQ(options.sweep_size, uint64_t{DEFAULT_SWEEP_SIZE});
  EXPECT_EQ(options.stats, SWEEP_STATS != 0);
  EXPECT_STREQ(options.trace, MALLOC_UTRACE != 0 ? "nonreuse.trace" : "");
}

TEST(Settings, LocksAreOfTheChosenKind) {
  constexpr bool kNone = std::is_same_v<Lock, NoLock>;
  EXPECT_EQ(kNone, USE_LOCKS == 0);
  if constexpr (!kNone) {
    Lock lock;
    lock.lock();
    const bool again = lock.try_lock();
    EXPECT_EQ(again, USE_RECURSIVE_LOCKS != 0) << "a holder takes its lock again only if locks are recursive";
    if (again) lock.unlock();
    bool other = true;
    std::thread([&] { other = lock.try_lock(); }).join();
    EXPECT_FALSE(other) << "another thread never gets it";
    lock.unlock();
    std::thread([&] {
      other = lock.try_lock();
      if (other) lock.unlock();
    }).join();
    EXPECT_TRUE(other);
    using Plain = std::conditional_t<USE_SPIN_LOCKS != 0, SpinLock, FutexLock>;
    constexpr bool kPlain = std::is_same_v<Lock, Plain>;
    constexpr bool kRecursive = std::is_same_v<Lock, RecursiveLock<Plain>>;
    EXPECT_TRUE(USE_RECURSIVE_LOCKS != 0 ? kRecursive : kPlain);
  }
}

TEST(Settings, ThreadsShareTheHeap) {
  if (USE_LOCKS == 0) GTEST_SKIP() << "USE_LOCKS=0 is for programs with one thread";
  std::vector<std::thread> threads;
  for (unsigned char mark = 1; mark <= 4; ++mark) {
    threads.emplace_back([mark] {
      std::vector<unsigned char*> blocks(300, nullptr);
      for (size_t round = 0; round < 30000; ++round) {
        unsigned char*& block = blocks[round * 7919 % blocks.size()];
        if (block != nullptr) {
          EXPECT_EQ(block[0], mark);
          EXPECT_EQ(block[99], mark);
          dlfree(block);
        }
        block = static_cast<unsigned char*>(dlmalloc(100));
        ASSERT_NE(block, nullptr);
        memset(block, mark, 100);
      }
      for (unsigned char* block : blocks) dlfree(block);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(Settings, FreedMemoryIsReusedAtOnceOnlyWithoutFreebuf) {
  bool reused = false;
  for (int attempt = 0; attempt < 1000 && !reused; ++attempt) {
    remembered = dlmalloc(80);
    ASSERT_NE(remembered, nullptr);
    dlfree(remembered);
    for (int i = 0; i < 50 && !reused; ++i) {
      void* fresh = dlmalloc(80);
      reused = fresh == remembered;
      dlfree(fresh);
    }
  }
  EXPECT_EQ(reused, FREEBUF_MODE == 0);
}

TEST(Settings, SweepsHappenOnlyWithFreebuf) {
  const nonreuse_statistics before = statistics();
  churn(64u << 20, 256);
  EXPECT_EQ(dlmalloc_revoke(), 0);
  const nonreuse_statistics after = statistics();
  if (FREEBUF_MODE == 0) {
    EXPECT_EQ(after.sweeps, 0u);
    EXPECT_EQ(after.bits_painted, 0u);
    EXPECT_EQ(after.quarantined_bytes, 0u);
  } else {
    EXPECT_GT(after.sweeps, before.sweeps);
    EXPECT_GT(after.released_bytes, before.released_bytes);
  }
}

TEST(Settings, SweepSizeBoundsAPass) {
  if (FREEBUF_MODE == 0) GTEST_SKIP() << "FREEBUF_MODE=0 has no sweeps";
  const nonreuse_statistics before = statistics();
  churn(64u << 20, 256);
  const nonreuse_statistics after = statistics();
  const uint64_t sweeps = after.sweeps - before.sweeps;
  const uint64_t chunks = after.swept_chunks - before.swept_chunks;
  ASSERT_GT(sweeps, 0u);
  if (DEFAULT_SWEEP_SIZE == 0) {
    EXPECT_GT(chunks / sweeps, 100u) << "without a bound a pass takes everything that is sealed";
  } else {
    // Batches are swept whole, so a pass may exceed the bound by less than one batch.
    constexpr uint64_t kBatch = 1024;
    EXPECT_LE(chunks / sweeps, DEFAULT_SWEEP_SIZE + kBatch);
  }
}

TEST(Settings, OneRegionOrGrowthOnDemand) {
  constexpr size_t kBlock = 4u << 20;
  std::vector<void*> blocks;
  size_t total = 0;
  errno = 0;
  while (total < (size_t{1} << 30)) {
    void* block = dlmalloc(kBlock);
    if (block == nullptr) break;
    blocks.push_back(block);
    total += kBlock;
  }
  if (HAVE_MMAP == 0) {
    EXPECT_LE(total, size_t{NONREUSE_STATIC_HEAP_BYTES});
    EXPECT_GE(total, size_t{NONREUSE_STATIC_HEAP_BYTES} / 2);
    EXPECT_EQ(errno, ENOMEM);
    EXPECT_LE(statistics().footprint_max, uint64_t{NONREUSE_STATIC_HEAP_BYTES});
  } else {
    EXPECT_EQ(total, size_t{1} << 30) << "grows past the size of the static heap";
  }
  for (void*& block : blocks) {
    dlfree(block);
    block = nullptr;
  }
  EXPECT_EQ(dlmalloc_revoke(), 0);
  void* again = dlmalloc(kBlock);
  EXPECT_NE(again, nullptr) << "nothing was lost by running out of memory";
  dlfree(again);
}

size_t resident_bytes() {
  unsigned long size = 0;
  unsigned long pages = 0;
  FILE* file = fopen("/proc/self/statm", "r");
  if (file == nullptr || fscanf(file, "%lu %lu", &size, &pages) != 2) abort();
  fclose(file);
  return pages * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

// Frees of which every second one joins two free neighbours: `count` consolidations.
void consolidate(size_t count) {
  std::vector<void*> blocks(count * 2, nullptr);
  for (void*& block : blocks) block = dlmalloc(48);
  for (const size_t parity : {size_t{0}, size_t{1}}) {
    for (size_t i = parity; i < blocks.size(); i += 2) {
      dlfree(blocks[i]);
      blocks[i] = nullptr;
    }
    EXPECT_EQ(dlmalloc_revoke(), 0);
  }
}

// Fills 48 MB with small blocks and frees them all; returns how much of it stays resident.
double share_that_stays() {
  std::vector<void*> blocks(200'000, nullptr);
  const size_t empty = resident_bytes();
  for (void*& block : blocks) {
    block = dlmalloc(240);
    if (block == nullptr) return -1;
    memset(block, 1, 240);
  }
  const size_t full = resident_bytes();
  EXPECT_GT(full, empty + (40u << 20));
  for (void*& block : blocks) {
    dlfree(block);
    block = nullptr;
  }
  EXPECT_EQ(dlmalloc_revoke(), 0);
  // A quarter of what is idle goes at each look, and a look takes four sweeps.
  for (int round = 0; round < 16; ++round) consolidate(5000);
  const size_t rest = resident_bytes();
  return rest <= empty ? 0.0 : static_cast<double>(rest - empty) / static_cast<double>(full - empty);
}

TEST(Settings, UnusedMemoryIsGivenBackEverySoManyConsolidations) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP()
      << "ThreadSanitizer's own records of this memory stay resident and are most of what is counted";
#endif
  const double share = share_that_stays();
  printf("%.0f %% stays\n", share * 100);
  if (HAVE_MMAP == 0 || MAX_RELEASE_CHECK_RATE > 1000000) {
    EXPECT_GT(share, 0.8) << "one region, or not looked for yet";
  } else {
    EXPECT_LT(share, 0.5);
  }
}

TEST(Settings, DebugChecksAreInDebugBuilds) {
  EXPECT_EQ(kDebug, DEBUG != 0);
}

}  // namespace
}  // namespace nonreuse
