// The malloc family, to the letter of C11, POSIX and malloc(3). Runs with the library preloaded; what is not
// the library's own promise also holds on the system's malloc.
#include <gtest/gtest.h>

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

extern "C" int malloc_revoke(void) __attribute__((weak));
extern "C" int malloc_is_revoking(void) __attribute__((weak));

#if defined(__GNUC__) && !defined(__clang__)
// A failed realloc leaves the old object alone, which is what some of the tests are about.
#pragma GCC diagnostic ignored "-Wuse-after-free"
#endif

namespace {

constexpr int kMarker = 4242;  // an errno that no function sets

bool preloaded() {
  return malloc_revoke != nullptr;
}

// Hides from the compiler what it knows about a size or an address.
template <class T>
T opaque(T value) {
  asm volatile("" : "+r"(value) : : "memory");
  return value;
}

bool aligned(const void* p, size_t alignment) {
  return reinterpret_cast<uintptr_t>(p) % alignment == 0;
}

void fill(void* p, size_t size, unsigned seed) {
  auto* bytes = static_cast<unsigned char*>(p);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<unsigned char>(i * 131 + seed);
}

bool filled(const void* p, size_t size, unsigned seed) {
  const auto* bytes = static_cast<const unsigned char*>(p);
  for (size_t i = 0; i < size; ++i) {
    if (bytes[i] != static_cast<unsigned char>(i * 131 + seed)) return false;
  }
  return true;
}

bool all_zero(const void* p, size_t size) {
  const auto* bytes = static_cast<const unsigned char*>(p);
  return std::all_of(bytes, bytes + size, [](unsigned char b) { return b == 0; });
}

constexpr size_t kMax = std::numeric_limits<size_t>::max();
constexpr size_t kTooLarge[] = {size_t{PTRDIFF_MAX},
                                size_t{PTRDIFF_MAX} + 1,
                                kMax / 2 + 4096,
                                kMax - (1 << 20),
                                kMax - 4096,
                                kMax - 4095,
                                kMax - 64,
                                kMax - 32,
                                kMax - 16,
                                kMax - 15,
                                kMax - 8,
                                kMax - 1,
                                kMax};

// ---- zero sizes

TEST(ZeroSize, GivesDistinctAddressesThatCanBeFreed) {
  std::vector<void*> all;
  for (int i = 0; i < 100; ++i) {
    void* p = nullptr;
    all.push_back(malloc(opaque(size_t{0})));
    all.push_back(calloc(opaque(size_t{0}), 8));
    all.push_back(calloc(8, opaque(size_t{0})));
    all.push_back(realloc(nullptr, opaque(size_t{0})));
    all.push_back(reallocarray(nullptr, 0, 8));
    all.push_back(memalign(64, 0));
    all.push_back(aligned_alloc(64, 0));
    all.push_back(valloc(0));
    all.push_back(pvalloc(0));
    ASSERT_EQ(posix_memalign(&p, 64, 0), 0);
    all.push_back(p);
  }
  for (void* p : all) {
    ASSERT_NE(p, nullptr);
    EXPECT_TRUE(aligned(p, 16));
  }
  std::vector<void*> sorted = all;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(std::adjacent_find(sorted.begin(), sorted.end()), sorted.end());
  for (void* p : all) free(p);
}

// ---- sizes that cannot be had

struct Allocator {
  const char* name;
  std::function<void*(size_t)> allocate;
};

std::vector<Allocator> allocators() {
  return {
      {"malloc", [](size_t n) { return malloc(n); }},
      {"calloc by size", [](size_t n) { return calloc(1, n); }},
      {"calloc by count", [](size_t n) { return calloc(n, 1); }},
      {"realloc of nothing", [](size_t n) { return realloc(nullptr, n); }},
      {"reallocarray of nothing", [](size_t n) { return reallocarray(nullptr, n, 1); }},
      {"memalign", [](size_t n) { return memalign(64, n); }},
      {"memalign to a page", [](size_t n) { return memalign(4096, n); }},
      {"aligned_alloc", [](size_t n) { return aligned_alloc(64, n); }},
      {"valloc", [](size_t n) { return valloc(n); }},
      {"pvalloc", [](size_t n) { return pvalloc(n); }},
  };
}

TEST(HugeSize, GivesNullAndEnomem) {
  for (const Allocator& a : allocators()) {
    for (size_t size : kTooLarge) {
      errno = kMarker;
      void* p = a.allocate(opaque(size));
      EXPECT_EQ(p, nullptr) << a.name << " of " << size;
      EXPECT_EQ(errno, ENOMEM) << a.name << " of " << size;
      free(p);
    }
  }
}

TEST(HugeSize, ReallocLeavesTheOldObjectAlone) {
  void* p = malloc(1000);
  fill(p, 1000, 7);
  for (size_t size : kTooLarge) {
    errno = kMarker;
    EXPECT_EQ(realloc(p, opaque(size)), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    errno = kMarker;
    EXPECT_EQ(reallocarray(p, opaque(size), 1), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    EXPECT_TRUE(filled(p, 1000, 7));
  }
  free(p);
}

TEST(HugeSize, PosixMemalignReturnsTheErrorAndTouchesNothingElse) {
  for (size_t size : kTooLarge) {
    int object = 0;
    void* out = &object;
    errno = kMarker;
    EXPECT_EQ(posix_memalign(&out, 64, opaque(size)), ENOMEM) << size;
    EXPECT_EQ(out, &object);
    EXPECT_EQ(errno, kMarker);
  }
}

TEST(HugeSize, AlignmentAndSizeTogether) {
  errno = kMarker;
  EXPECT_EQ(memalign(size_t{1} << 62, opaque(size_t{1} << 62)), nullptr);
  EXPECT_EQ(errno, ENOMEM);
  void* out = nullptr;
  EXPECT_EQ(posix_memalign(&out, size_t{1} << 63, opaque(size_t{16})), ENOMEM);
  EXPECT_EQ(posix_memalign(&out, size_t{1} << 62, opaque(kMax - 100)), ENOMEM);
}

TEST(Overflow, CallocFails) {
  const std::pair<size_t, size_t> kPairs[] = {
      {kMax / 2 + 1, 2}, {2, kMax / 2 + 1}, {size_t{1} << 32, size_t{1} << 32},
      {kMax, kMax},      {kMax / 3, 4},     {(size_t{1} << 32) + 1, size_t{1} << 32}};
  for (auto [count, size] : kPairs) {
    errno = kMarker;
    void* p = calloc(opaque(count), opaque(size));
    EXPECT_EQ(p, nullptr) << count << " of " << size;
    EXPECT_EQ(errno, ENOMEM);
    free(p);
  }
}

TEST(Overflow, ReallocarrayFailsAndKeepsTheOldObject) {
  void* p = malloc(100);
  fill(p, 100, 3);
  const std::pair<size_t, size_t> kPairs[] = {
      {kMax / 2 + 1, 2}, {size_t{1} << 32, size_t{1} << 32}, {kMax, kMax}};
  for (auto [count, size] : kPairs) {
    errno = kMarker;
    EXPECT_EQ(reallocarray(p, opaque(count), opaque(size)), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    EXPECT_TRUE(filled(p, 100, 3));
  }
  p = reallocarray(p, 50, 40);
  ASSERT_NE(p, nullptr);
  EXPECT_TRUE(filled(p, 100, 3));
  free(p);
}

// ---- errno

TEST(Errno, IsKeptBySuccess) {
  for (size_t size : {size_t{1}, size_t{100}, size_t{5000}, size_t{300000}, size_t{10} << 20}) {
    for (const Allocator& a : allocators()) {
      errno = kMarker;
      void* p = a.allocate(size);
      EXPECT_EQ(errno, kMarker) << a.name << " of " << size;
      ASSERT_NE(p, nullptr);
      EXPECT_GE(malloc_usable_size(p), size);
      EXPECT_EQ(errno, kMarker);
      void* q = realloc(p, size * 2);
      EXPECT_EQ(errno, kMarker) << "realloc to " << size * 2;
      free(q);
      EXPECT_EQ(errno, kMarker) << "free of " << size * 2;
    }
  }
  free(nullptr);
  EXPECT_EQ(errno, kMarker);
}

TEST(Errno, IsKeptByFreeAndTrimAndRevoke) {
  if (!preloaded()) GTEST_SKIP() << "the library's own promise";
  std::vector<void*> all;
  for (int i = 0; i < 100000; ++i) all.push_back(malloc(200));
  errno = kMarker;
  for (void* p : all) {
    free(p);
    ASSERT_EQ(errno, kMarker);
  }
  EXPECT_EQ(malloc_revoke(), 0);
  EXPECT_EQ(errno, kMarker);
  malloc_trim(0);
  EXPECT_EQ(errno, kMarker);
  mallinfo2();
  EXPECT_EQ(errno, kMarker);
}

// ---- alignment

TEST(Alignment, EveryObjectIsAlignedForAnyType) {
  for (size_t size = 0; size < 5000; ++size) {
    void* p = malloc(size);
    void* q = calloc(1, size);
    EXPECT_TRUE(aligned(p, 16) && aligned(q, 16)) << size;
    p = realloc(p, size + 100);
    EXPECT_TRUE(aligned(p, 16)) << size;
    free(p);
    free(q);
  }
}

TEST(Alignment, PosixMemalignRejectsWhatIsNoAlignment) {
  for (size_t alignment : {size_t{0}, size_t{1}, size_t{2}, size_t{3}, size_t{4}, size_t{12}, size_t{24},
                           size_t{48}, size_t{100}, size_t{4097}, size_t{12288}, kMax, kMax - 7}) {
    int object = 0;
    void* out = &object;
    errno = kMarker;
    EXPECT_EQ(posix_memalign(&out, opaque(alignment), 64), EINVAL) << alignment;
    EXPECT_EQ(out, &object);
    EXPECT_EQ(errno, kMarker);
  }
}

TEST(Alignment, PosixMemalignGivesEveryAlignment) {
  for (size_t alignment = 8; alignment <= size_t{64} << 20; alignment *= 2) {
    for (size_t size : {size_t{0}, size_t{1}, size_t{24}, size_t{100}, size_t{4096}, size_t{100000}}) {
      void* p = nullptr;
      errno = kMarker;
      ASSERT_EQ(posix_memalign(&p, alignment, size), 0) << alignment << " " << size;
      EXPECT_EQ(errno, kMarker);
      EXPECT_TRUE(aligned(p, alignment)) << alignment << " " << size;
      EXPECT_GE(malloc_usable_size(p), size);
      fill(p, size, 1);
      void* q = realloc(p, size + 5000);
      ASSERT_NE(q, nullptr);
      EXPECT_TRUE(filled(q, size, 1));
      free(q);
    }
  }
}

TEST(Alignment, AlignedObjectsDoNotOverlap) {
  std::vector<std::pair<void*, size_t>> all;
  std::mt19937 random(1);
  for (unsigned i = 0; i < 3000; ++i) {
    const size_t alignment = size_t{8} << (random() % 11);
    const size_t size = random() % 3000;
    void* p = nullptr;
    ASSERT_EQ(posix_memalign(&p, alignment, size), 0);
    ASSERT_TRUE(aligned(p, alignment));
    fill(p, size, i);
    all.emplace_back(p, size);
  }
  for (unsigned i = 0; i < all.size(); ++i) {
    EXPECT_TRUE(filled(all[i].first, all[i].second, i));
    free(all[i].first);
  }
}

TEST(Alignment, AlignedAllocTakesAnyPowerOfTwo) {
  for (size_t alignment = 1; alignment <= size_t{1} << 20; alignment *= 2) {
    for (size_t size : {size_t{1}, size_t{100}, size_t{4096}, size_t{70001}}) {
      void* p = aligned_alloc(alignment, size);
      ASSERT_NE(p, nullptr) << alignment << " " << size;
      EXPECT_TRUE(aligned(p, std::max(alignment, size_t{16})));
      fill(p, size, 2);
      free(p);
    }
  }
}

TEST(Alignment, AlignedAllocRejectsWhatIsNoAlignment) {
  if (!preloaded()) GTEST_SKIP() << "glibc 2.36 rounds up instead";
  for (size_t alignment : {size_t{3}, size_t{24}, size_t{4097}, kMax}) {
    errno = kMarker;
    EXPECT_EQ(aligned_alloc(opaque(alignment), 64), nullptr) << alignment;
    EXPECT_EQ(errno, EINVAL) << alignment;
  }
}

TEST(Alignment, MemalignRoundsUp) {
  for (size_t alignment :
       {size_t{1}, size_t{3}, size_t{8}, size_t{17}, size_t{48}, size_t{100}, size_t{4097}}) {
    size_t power = 1;
    while (power < alignment) power *= 2;
    void* p = memalign(opaque(alignment), 1000);
    ASSERT_NE(p, nullptr) << alignment;
    EXPECT_TRUE(aligned(p, std::max(power, size_t{16}))) << alignment;
    free(p);
  }
  errno = kMarker;
  EXPECT_EQ(memalign(opaque(kMax / 2 + 2), 1), nullptr);
  EXPECT_EQ(errno, EINVAL);
}

TEST(Alignment, VallocAndPvallocGivePages) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (size_t size : {size_t{1}, size_t{100}, page - 1, page, page + 1, 10 * page}) {
    void* p = valloc(size);
    ASSERT_NE(p, nullptr);
    EXPECT_TRUE(aligned(p, page));
    fill(p, size, 3);
    free(p);
    p = pvalloc(size);
    ASSERT_NE(p, nullptr);
    EXPECT_TRUE(aligned(p, page));
    const size_t whole = (size + page - 1) / page * page;
    EXPECT_GE(malloc_usable_size(p), whole);
    fill(p, whole, 3);
    free(p);
  }
}

// ---- usable size

TEST(UsableSize, OfNothingIsZero) {
  EXPECT_EQ(malloc_usable_size(nullptr), 0u);
}

TEST(UsableSize, AllOfItBelongsToTheObject) {
  for (size_t size : {size_t{0}, size_t{1}, size_t{8}, size_t{15}, size_t{16}, size_t{17}, size_t{24},
                      size_t{31}, size_t{32}, size_t{100}, size_t{511}, size_t{1000}, size_t{1024},
                      size_t{4096}, size_t{20000}, size_t{65536}, size_t{150000}}) {
    const size_t count = size < 5000 ? 500 : 20;
    std::vector<void*> all;
    for (unsigned i = 0; i < count; ++i) {
      void* p = malloc(size);
      ASSERT_NE(p, nullptr);
      ASSERT_GE(malloc_usable_size(p), size);
      fill(p, malloc_usable_size(p), i);
      all.push_back(p);
    }
    for (unsigned i = 0; i < count; ++i) {
      EXPECT_TRUE(filled(all[i], malloc_usable_size(all[i]), i)) << size;
      free(all[i]);
    }
  }
}

TEST(UsableSize, IsOneLessThanTheChunk) {
  if (!preloaded()) GTEST_SKIP() << "the library's own promise";
  for (size_t size = 0; size < 3000; ++size) {
    void* p = malloc(size);
    EXPECT_EQ(malloc_usable_size(p), (size + 1 + 15) / 16 * 16 - 1) << size;
    free(p);
  }
}

// ---- realloc

TEST(Realloc, OfZeroFrees) {
  void* p = malloc(100);
  EXPECT_EQ(realloc(p, opaque(size_t{0})), nullptr);
}

TEST(Realloc, KeepsContents) {
  std::mt19937_64 random(2);
  struct Object {
    void* p = nullptr;
    size_t size = 0;
    unsigned seed = 0;
  };
  std::vector<Object> objects(40);
  std::uniform_real_distribution<double> exponent(0, 20);
  for (unsigned step = 0; step < 6000; ++step) {
    Object& object = objects[random() % objects.size()];
    const size_t size =
        std::max<size_t>(1, std::min<size_t>(1000000, static_cast<size_t>(exp2(exponent(random)))));
    void* p = realloc(object.p, size);
    ASSERT_NE(p, nullptr);
    ASSERT_TRUE(filled(p, std::min(size, object.size), object.seed)) << object.size << " to " << size;
    object = {p, size, step};
    fill(p, size, step);
  }
  for (Object& object : objects) {
    ASSERT_TRUE(filled(object.p, object.size, object.seed));
    free(object.p);
  }
}

TEST(Realloc, KeepsContentsOfLargeObjects) {
  size_t size = size_t{1} << 20;
  void* p = malloc(size);
  fill(p, size, 9);
  for (size_t next : {size_t{8} << 20, size_t{64} << 20, size_t{65} << 20, size_t{10000000}, size_t{5000001},
                      size_t{100}, size_t{3} << 20}) {
    p = realloc(p, next);
    ASSERT_NE(p, nullptr);
    ASSERT_TRUE(filled(p, std::min(size, next), 9)) << size << " to " << next;
    size = next;
    fill(p, size, 9);
  }
  free(p);
}

TEST(Realloc, GrowingStepByStepKeepsContents) {
  size_t size = 1;
  auto* p = static_cast<unsigned char*>(malloc(size));
  p[0] = 0;
  for (; size < 20000; ++size) {
    p = static_cast<unsigned char*>(realloc(p, size + 1));
    ASSERT_NE(p, nullptr);
    p[size] = static_cast<unsigned char>(size * 131);
  }
  EXPECT_TRUE(filled(p, size, 0));
  free(p);
}

// ---- calloc

TEST(Calloc, IsZeroAfterDirtyReuse) {
  for (size_t size : {size_t{8}, size_t{24}, size_t{100}, size_t{1000}, size_t{5000}, size_t{40000},
                      size_t{300000}, size_t{1} << 20}) {
    const size_t rounds = std::min<size_t>(20000, (size_t{64} << 20) / size);
    for (size_t i = 0; i < rounds; ++i) {
      void* dirty = malloc(size);
      memset(dirty, 0xff, malloc_usable_size(dirty));
      free(dirty);
      void* p = calloc(1, size);
      ASSERT_NE(p, nullptr);
      ASSERT_TRUE(all_zero(p, size)) << size;
      memset(p, 0xff, malloc_usable_size(p));
      free(p);
    }
  }
}

TEST(Calloc, IsZeroAfterReallocLeftSomethingBehind) {
  for (int i = 0; i < 3000; ++i) {
    void* p = malloc(4000);
    memset(p, 0xff, malloc_usable_size(p));
    p = realloc(p, 100);
    void* q = calloc(1, 3000);
    ASSERT_TRUE(all_zero(q, 3000));
    memset(q, 0xff, 3000);
    q = realloc(q, 6000);
    memset(q, 0xff, malloc_usable_size(q));
    free(q);
    free(p);
  }
}

// ---- the rest

TEST(Free, OfNothingDoesNothing) {
  free(nullptr);
}

TEST(Mallopt, KnowsTheSystemsCodes) {
  EXPECT_EQ(mallopt(M_MMAP_THRESHOLD, 1 << 20), 1);
  EXPECT_EQ(mallopt(M_TRIM_THRESHOLD, 1 << 20), 1);
  EXPECT_EQ(mallopt(M_TOP_PAD, 1 << 16), 1);
  EXPECT_EQ(mallopt(M_ARENA_MAX, 2), 1);
  EXPECT_EQ(mallopt(M_PERTURB, 0), 1);
  free(malloc(100));
}

TEST(Mallopt, RejectsUnknownCodes) {
  if (!preloaded()) GTEST_SKIP() << "glibc accepts every code";
  EXPECT_EQ(mallopt(1234567, 1), 0);
}

TEST(Mallinfo, FollowsWhatIsAllocated) {
  const struct mallinfo2 before = mallinfo2();
  std::vector<void*> all;
  all.reserve(1000);
  for (int i = 0; i < 1000; ++i) all.push_back(malloc(10000));
  const struct mallinfo2 during = mallinfo2();
  EXPECT_GE(during.uordblks, before.uordblks + 10000000);
  EXPECT_LE(during.uordblks, before.uordblks + 15000000);
  EXPECT_GE(during.arena + during.hblkhd, during.uordblks);
  for (void* p : all) free(p);
  if (preloaded()) malloc_revoke();
  const struct mallinfo2 after = mallinfo2();
  EXPECT_LE(after.uordblks, before.uordblks + 1000000);
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  const struct mallinfo narrow = mallinfo();
  EXPECT_EQ(static_cast<size_t>(narrow.arena), after.arena);
}

TEST(MallocInfo, RejectsOptions) {
  errno = kMarker;
  const int result = malloc_info(1, stdout);
  EXPECT_TRUE(result == EINVAL || (result == -1 && errno == EINVAL));
}

TEST(MallocInfo, WritesXml) {
  char* text = nullptr;
  size_t size = 0;
  FILE* stream = open_memstream(&text, &size);
  ASSERT_NE(stream, nullptr);
  EXPECT_EQ(malloc_info(0, stream), 0);
  fclose(stream);
  const std::string xml(text, size);
  free(text);
  EXPECT_EQ(xml.rfind("<malloc version=", 0), 0u) << xml;
  EXPECT_NE(xml.find("</malloc>"), std::string::npos) << xml;
}

TEST(MallocTrim, ReturnsWhetherMemoryWasReleased) {
  for (int i = 0; i < 3; ++i) {
    std::vector<void*> all;
    for (int k = 0; k < 100; ++k) {
      all.push_back(malloc(200000));
      memset(all.back(), 1, 200000);
    }
    for (void* p : all) free(p);
    if (preloaded()) malloc_revoke();
    for (size_t pad : {size_t{0}, size_t{1} << 20, kMax}) {
      const int result = malloc_trim(pad);
      EXPECT_TRUE(result == 0 || result == 1) << result;
    }
  }
}

TEST(MallocStats, WritesToStandardError) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  fflush(stderr);
  const int saved = dup(2);
  dup2(ends[1], 2);
  malloc_stats();
  fflush(stderr);
  dup2(saved, 2);
  close(saved);
  close(ends[1]);
  char text[4096];
  const ssize_t length = read(ends[0], text, sizeof text);
  close(ends[0]);
  EXPECT_GT(length, 20);
}

TEST(Revoke, SucceedsAndEnds) {
  if (!preloaded()) GTEST_SKIP() << "the library's own function";
  for (int i = 0; i < 10; ++i) {
    std::vector<void*> all;
    for (int k = 0; k < 1000; ++k) all.push_back(malloc(100));
    for (void* p : all) free(p);
    EXPECT_EQ(malloc_revoke(), 0);
    EXPECT_EQ(malloc_is_revoking(), 0);
  }
}

TEST(Revoke, OnReturnUnreferencedMemoryMayBeReused) {
  if (!preloaded()) GTEST_SKIP() << "the library's own function";
  // Far more than the program may have at once, if nothing were released: the arena stays bounded.
  size_t largest = 0;
  for (int i = 0; i < 200; ++i) {
    auto* p = static_cast<char*>(malloc(20 << 20));
    ASSERT_NE(p, nullptr);
    p[0] = 1;
    free(p);
    ASSERT_EQ(malloc_revoke(), 0);
    largest = std::max(largest, mallinfo2().arena);
  }
  EXPECT_LT(largest, size_t{400} << 20);
}

}  // namespace
