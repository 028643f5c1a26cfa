// Misuse ends the program with a line that names the kind, whatever state the chunk is in.
#include <signal.h>
#include <unistd.h>

#include <functional>
#include <thread>

#include "allocator_world.hpp"

namespace nonreuse {
namespace {

using MisuseDeathTest = AllocatorTest;

TEST_F(MisuseDeathTest, DoubleFreesOfEveryKindStopTheProgram) {
  for (const size_t size : {24u, 2000u, 40000u, 300000u}) {
    char* p = get(size);
    put(p);
    EXPECT_DEATH(put(p),
                 "nonreuse: double free: free\\(0x[0-9a-f]+\\): chunk 0x[0-9a-f]+ of [0-9]+ bytes is freed");
    EXPECT_DEATH(resize(p, 10), "nonreuse: double free: realloc\\(");
    EXPECT_DEATH(chunk_bytes(p), "nonreuse: double free: malloc_usable_size\\(");
    EXPECT_DEATH(put(p + 16), "points 16 bytes into the freed chunk");
    point_at(p);
    sweep();
    EXPECT_DEATH(put(p), "nonreuse: double free: ") << "held";
    revoker.pointers.clear();
    sweep();
    EXPECT_DEATH(put(p),
                 "nonreuse: invalid free: free\\(0x[0-9a-f]+\\): is heap memory that is not allocated");
  }
}

TEST_F(MisuseDeathTest, InvalidFreesStopTheProgram) {
  char* p = get(100000);
  int local = 0;
  EXPECT_DEATH(put(p + 16), "points 16 bytes into the live chunk");
  EXPECT_DEATH(put(p + 90000), "points 90000 bytes into the live chunk");
  EXPECT_DEATH(put(p + 3), "is not aligned to 16 bytes");
  EXPECT_DEATH(put(&local), "is not an address of this heap");
  EXPECT_DEATH(put(reinterpret_cast<char*>(allocator.space().address(allocator.heap().top()))),
               "is not allocated");
  EXPECT_DEATH(put(reinterpret_cast<char*>(allocator.space().address(0))), "is not allocated");
  EXPECT_DEATH(put(reinterpret_cast<char*>(8)), "is not an address of this heap");
  put(p);
}

// Freed where no thread's front could be had: checked like any free, and never used again.
TEST_F(MisuseDeathTest, AnAbandonedChunkIsFreedForGood) {
  char* p = get(100);
  EXPECT_DEATH(allocator.abandon(Wild(p + 16), "free"), "points 16 bytes into the live chunk");
  allocator.abandon(Wild(p), "free");
  EXPECT_DEATH(allocator.abandon(Wild(p), "free"), "nonreuse: double free: free\\(");
  sweep();
  EXPECT_DEATH(put(p), "nonreuse: double free: free\\(");
}

// A handler of SIGABRT that goes on using the heap finds no lock held.
TEST_F(MisuseDeathTest, AHandlerOfTheAbortMayUseTheHeap) {
  char* p = get(100);
  put(p);
  front->batch->append(Run{granule(p), 7});
  static std::function<void()> in_handler;
  in_handler = [this] {
    put(get(100));
    front->batch->count.store(0);
    allocator.before_fork();  // takes every lock
    _exit(7);
  };
  EXPECT_EXIT(
      {
        signal(SIGABRT, [](int) { in_handler(); });
        sweep();
      },
      testing::ExitedWithCode(7), "nonreuse: double free: ");
  front->batch->count.store(1);
}

// A chunk that reached the quarantine twice is noticed when it is painted, at the latest.
TEST_F(MisuseDeathTest, AChunkThatIsQuarantinedTwiceIsNoticedByTheSweep) {
  char* p = get(100);
  put(p);
  front->batch->append(Run{granule(p), 7});
  EXPECT_DEATH(sweep(), "nonreuse: double free: ");
  front->batch->count.store(1);
}

TEST_F(AllocatorTest, TwoThreadsThatFreeOneChunkOneIsStopped) {
  for (const size_t size : {40u, 100000u}) {
    EXPECT_DEATH(
        {
          for (int round = 0; round < 100000; ++round) {
            char* p = get(size);
            ThreadFront* own = allocator.make_front();
            std::thread other([&] { allocator.free(*own, Wild(p)); });
            put(p);
            other.join();
          }
        },
        "nonreuse: double free: ");
  }
}

}  // namespace
}  // namespace nonreuse
