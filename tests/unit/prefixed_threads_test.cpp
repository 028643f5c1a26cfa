// The prefixed interface under threads: churn, objects handed over, sweeps at the same time, threads that
// come and go. Black-box, so that the thread, address and undefined-behaviour sanitizers can watch the
// library.
#include <dlmalloc_nonreuse.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <random>
#include <thread>
#include <utility>
#include <vector>

namespace {

struct Object {
  unsigned char* p = nullptr;
  size_t size = 0;
  unsigned char seed = 0;
};

Object make(size_t size, unsigned char seed) {
  Object o{static_cast<unsigned char*>(dlmalloc(size)), size, seed};
  EXPECT_NE(o.p, nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(o.p) % 16, 0u);
  if (o.p != nullptr) memset(o.p, seed, size);
  return o;
}

bool intact(const Object& o) {
  return std::all_of(o.p, o.p + o.size, [&](unsigned char byte) { return byte == o.seed; });
}

void release(Object& o) {
  if (o.p == nullptr) return;
  EXPECT_TRUE(intact(o));
  dlfree(o.p);
  o = {};
}

size_t random_size(std::mt19937& random) {
  const unsigned r = random() % 200;
  if (r == 0) return 100000 + random() % 300000;
  return (size_t{8} << (random() % 8)) + random() % 16;
}

void churn(unsigned seed, int operations) {
  std::mt19937 random(seed);
  std::vector<Object> slots(128);
  for (int i = 0; i < operations; ++i) {
    Object& slot = slots[random() % slots.size()];
    if (slot.p != nullptr && random() % 4 == 0) {
      const size_t size = random_size(random);
      auto* p = static_cast<unsigned char*>(dlrealloc(slot.p, size));
      ASSERT_NE(p, nullptr);
      slot.p = p;
      slot.size = std::min(slot.size, size);
      EXPECT_TRUE(intact(slot));
      slot.size = size;
      memset(p, slot.seed, size);
      continue;
    }
    release(slot);
    slot = make(random_size(random), static_cast<unsigned char>(i));
  }
  for (Object& slot : slots) release(slot);
}

template <class Body>
void in_threads(unsigned count, Body body) {
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < count; ++i) threads.emplace_back(body, i);
  for (std::thread& thread : threads) thread.join();
}

constexpr int kOperations = 20000;

TEST(PrefixedThreads, Churn) {
  in_threads(4, [](unsigned i) { churn(i, kOperations); });
}

TEST(PrefixedThreads, ChurnBesideSweeps) {
  std::atomic<bool> stop{false};
  std::thread sweeper([&] {
    while (!stop) {
      EXPECT_EQ(dlmalloc_revoke(), 0);
      std::this_thread::yield();
    }
  });
  in_threads(3, [](unsigned i) { churn(10 + i, kOperations / 2); });
  stop = true;
  sweeper.join();
}

TEST(PrefixedThreads, SweepsFromSeveralThreads) {
  in_threads(4, [](unsigned i) {
    for (int round = 0; round < 10; ++round) {
      churn(20 + i, 200);
      EXPECT_EQ(dlmalloc_revoke(), 0);
    }
  });
  EXPECT_EQ(dlmalloc_is_revoking(), 0);
}

TEST(PrefixedThreads, ObjectsAreHandedOver) {
  std::mutex mutex;
  std::vector<Object> shared(256);
  in_threads(4, [&](unsigned number) {
    std::mt19937 random(number);
    for (int i = 0; i < kOperations; ++i) {
      Object mine = make(random_size(random) % 2000 + 1, static_cast<unsigned char>(i));
      {
        std::lock_guard lock(mutex);
        std::swap(mine, shared[random() % shared.size()]);
      }
      release(mine);
    }
  });
  for (Object& o : shared) release(o);
}

TEST(PrefixedThreads, ThreadsComeAndGo) {
  for (int round = 0; round < 30; ++round) {
    in_threads(4, [&](unsigned i) { churn(static_cast<unsigned>(round) * 4 + i, 300); });
  }
}

// What the address is kept in is global: the sweep must find it whatever the compiler does with locals.
volatile uintptr_t held[64];

TEST(PrefixedThreads, WhatIsHeldIsNotReused) {
  constexpr size_t kSize = 500;
  for (volatile uintptr_t& word : held) word = reinterpret_cast<uintptr_t>(dlmalloc(kSize));
  for (volatile uintptr_t& word : held) dlfree(reinterpret_cast<void*>(uintptr_t{word}));
  std::atomic<int> overlaps{0};
  in_threads(4, [&](unsigned number) {
    std::mt19937 random(number);
    std::vector<void*> slots(64);
    for (int i = 0; i < kOperations; ++i) {
      void*& slot = slots[random() % slots.size()];
      dlfree(slot);
      const size_t size = random() % 2 == 0 ? kSize : random_size(random);
      slot = dlmalloc(size);
      const auto p = reinterpret_cast<uintptr_t>(slot);
      for (const volatile uintptr_t& word : held) {
        const uintptr_t start = word;
        if (p < start + kSize && start < p + size) overlaps.fetch_add(1);
      }
      if (i % 4000 == 0) {
        EXPECT_EQ(dlmalloc_revoke(), 0);
      }
    }
    for (void* slot : slots) dlfree(slot);
  });
  EXPECT_EQ(overlaps, 0);
  for (volatile uintptr_t& word : held) word = 0;
}

TEST(PrefixedThreads, EverythingElseOfTheInterfaceIsThreadSafe) {
  in_threads(4, [](unsigned number) {
    for (int i = 0; i < 500; ++i) {
      void* aligned = nullptr;
      EXPECT_EQ(dlposix_memalign(&aligned, size_t{64} << (i % 6), 100), 0);
      void* zero = dlcalloc(10, 100);
      EXPECT_NE(zero, nullptr);
      EXPECT_GE(dlmalloc_usable_size(zero), 1000u);
      errno = 1234;
      dlfree(aligned);
      dlfree(zero);
      EXPECT_EQ(errno, 1234);
      if (i % 50 == 0) {
        (void)dlmallinfo2();
        dlmalloc_trim(0);
        nonreuse_statistics statistics;
        nonreuse_get_statistics(&statistics);
        EXPECT_EQ(statistics.version, 3u);
      }
    }
    churn(100 + number, 500);
  });
}

}  // namespace
