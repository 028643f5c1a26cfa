// Every replaceable form of operator new and operator delete, as the C++20 standard names them in
// [new.delete]. Runs with the library preloaded.
#include <gtest/gtest.h>

#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <array>
#include <functional>
#include <memory>
#include <new>
#include <vector>

extern "C" int malloc_revoke(void) __attribute__((weak));

namespace {

bool preloaded() {
  return malloc_revoke != nullptr;
}

constexpr std::align_val_t kAligned{256};

struct New {
  const char* name;
  std::function<void*(size_t)> allocate;
  bool throws, over_aligned;
};
struct Delete {
  const char* name;
  std::function<void(void*, size_t)> release;
  bool over_aligned;
};

std::vector<New> all_new() {
  return {
      {"new", [](size_t n) { return ::operator new(n); }, true, false},
      {"new[]", [](size_t n) { return ::operator new[](n); }, true, false},
      {"new nothrow", [](size_t n) { return ::operator new(n, std::nothrow); }, false, false},
      {"new[] nothrow", [](size_t n) { return ::operator new[](n, std::nothrow); }, false, false},
      {"new aligned", [](size_t n) { return ::operator new(n, kAligned); }, true, true},
      {"new[] aligned", [](size_t n) { return ::operator new[](n, kAligned); }, true, true},
      {"new aligned nothrow", [](size_t n) { return ::operator new(n, kAligned, std::nothrow); }, false,
       true},
      {"new[] aligned nothrow", [](size_t n) { return ::operator new[](n, kAligned, std::nothrow); }, false,
       true},
  };
}

std::vector<Delete> all_delete() {
  return {
      {"delete", [](void* p, size_t) { ::operator delete(p); }, false},
      {"delete[]", [](void* p, size_t) { ::operator delete[](p); }, false},
      {"delete sized", [](void* p, size_t n) { ::operator delete(p, n); }, false},
      {"delete[] sized", [](void* p, size_t n) { ::operator delete[](p, n); }, false},
      {"delete nothrow", [](void* p, size_t) { ::operator delete(p, std::nothrow); }, false},
      {"delete[] nothrow", [](void* p, size_t) { ::operator delete[](p, std::nothrow); }, false},
      {"delete aligned", [](void* p, size_t) { ::operator delete(p, kAligned); }, true},
      {"delete[] aligned", [](void* p, size_t) { ::operator delete[](p, kAligned); }, true},
      {"delete sized aligned", [](void* p, size_t n) { ::operator delete(p, n, kAligned); }, true},
      {"delete[] sized aligned", [](void* p, size_t n) { ::operator delete[](p, n, kAligned); }, true},
      {"delete aligned nothrow", [](void* p, size_t) { ::operator delete(p, kAligned, std::nothrow); }, true},
      {"delete[] aligned nothrow", [](void* p, size_t) { ::operator delete[](p, kAligned, std::nothrow); },
       true},
  };
}

constexpr size_t kHuge[] = {size_t{PTRDIFF_MAX}, size_t{PTRDIFF_MAX} + 1, SIZE_MAX - 4096, SIZE_MAX - 15,
                            SIZE_MAX};

size_t opaque(size_t value) {
  asm volatile("" : "+r"(value));
  return value;
}

// Restores the new-handler at the end of a test.
struct HandlerGuard {
  std::new_handler old = std::get_new_handler();
  ~HandlerGuard() { std::set_new_handler(old); }
};

TEST(New, EveryFormPairsWithEveryDelete) {
  for (const New& n : all_new()) {
    for (const Delete& d : all_delete()) {
      if (n.over_aligned != d.over_aligned) continue;
      for (size_t size : {size_t{0}, size_t{1}, size_t{24}, size_t{100}, size_t{5000}, size_t{300000}}) {
        void* p = n.allocate(size);
        ASSERT_NE(p, nullptr) << n.name;
        EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % (n.over_aligned ? 256 : 16), 0u) << n.name;
        memset(p, 0x5a, size);
        d.release(p, size);
      }
    }
  }
}

TEST(New, TheMemoryIsTheLibrarys) {
  if (!preloaded()) GTEST_SKIP() << "the library's own promise";
  for (const New& n : all_new()) {
    void* p = n.allocate(1000);
    EXPECT_EQ(malloc_usable_size(p) % 16, 15u) << n.name;
    free(p);
  }
}

TEST(Delete, EveryFormFrees) {
  if (!preloaded()) GTEST_SKIP() << "the library's own promise: freed memory is zero";
  for (const Delete& d : all_delete()) {
    auto* p = static_cast<volatile char*>(d.over_aligned ? ::operator new(64, kAligned) : ::operator new(64));
    p[0] = 0x5a;
    p[40] = 0x5a;
    d.release(const_cast<char*>(p), 64);
    asm volatile("" : "+r"(p));
    EXPECT_EQ(p[0], 0) << d.name;
    EXPECT_EQ(p[40], 0) << d.name;
  }
}

TEST(Delete, OfNothingDoesNothing) {
  for (const Delete& d : all_delete()) d.release(nullptr, 10);
}

TEST(New, OfZeroGivesDistinctAddresses) {
  for (const New& n : all_new()) {
    void* p = n.allocate(0);
    void* q = n.allocate(0);
    EXPECT_NE(p, nullptr);
    EXPECT_NE(p, q) << n.name;
    free(p);
    free(q);
  }
}

TEST(New, ThrowsOrReturnsNullWhenThereIsNoMemory) {
  for (const New& n : all_new()) {
    for (size_t size : kHuge) {
      if (n.throws) {
        EXPECT_THROW(free(n.allocate(opaque(size))), std::bad_alloc) << n.name << " of " << size;
      } else {
        EXPECT_EQ(n.allocate(opaque(size)), nullptr) << n.name << " of " << size;
      }
    }
  }
}

int handler_calls;

TEST(New, CallsTheHandlerUntilItGivesUp) {
  HandlerGuard guard;
  for (const New& n : all_new()) {
    handler_calls = 0;
    std::set_new_handler([] {
      if (++handler_calls == 3) std::set_new_handler(nullptr);
    });
    if (n.throws) {
      EXPECT_THROW(free(n.allocate(opaque(SIZE_MAX / 2))), std::bad_alloc) << n.name;
    } else {
      EXPECT_EQ(n.allocate(opaque(SIZE_MAX / 2)), nullptr) << n.name;
    }
    EXPECT_EQ(handler_calls, 3) << n.name;
  }
}

struct OwnFailure : std::bad_alloc {};

TEST(New, WhatTheHandlerThrowsIsPassedOnOrBecomesNull) {
  HandlerGuard guard;
  std::set_new_handler([] { throw OwnFailure(); });
  for (const New& n : all_new()) {
    if (n.throws) {
      EXPECT_THROW(free(n.allocate(opaque(SIZE_MAX / 2))), OwnFailure) << n.name;
    } else {
      EXPECT_EQ(n.allocate(opaque(SIZE_MAX / 2)), nullptr) << n.name;
    }
  }
}

TEST(New, IsNotAskedTheHandlerWhenThereIsMemory) {
  HandlerGuard guard;
  handler_calls = 0;
  std::set_new_handler([] { ++handler_calls; });
  for (const New& n : all_new()) free(n.allocate(1000));
  EXPECT_EQ(handler_calls, 0);
}

// What the compiler makes of expressions, rather than calls by name.
struct alignas(512) OverAligned {
  char bytes[512];
};
struct WithDestructor {
  static inline int alive = 0;
  WithDestructor() { ++alive; }
  ~WithDestructor() { --alive; }
  char bytes[40];
};

TEST(Expressions, WorkAsEver) {
  for (int i = 0; i < 1000; ++i) {
    auto one = std::make_unique<OverAligned>();
    std::unique_ptr<OverAligned[]> many(new OverAligned[3]);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(one.get()) % 512, 0u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(many.get()) % 512, 0u);
    std::unique_ptr<WithDestructor[]> objects(new WithDestructor[7]);
    EXPECT_EQ(WithDestructor::alive, 7);
    std::vector<OverAligned> vector(5);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(vector.data()) % 512, 0u);
    auto shared = std::make_shared<std::array<int, 100>>();
    (*shared)[99] = 1;
  }
  EXPECT_EQ(WithDestructor::alive, 0);
}

TEST(Expressions, AThrowingConstructorGivesTheMemoryBack) {
  struct Throws {
    Throws() { throw 1; }
    char bytes[100];
  };
  for (int i = 0; i < 1000; ++i) EXPECT_THROW(new Throws, int);
}

}  // namespace
