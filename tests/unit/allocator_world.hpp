// The allocator over simulated memory and a scripted revoker, for its tests.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "heap_world.hpp"

namespace nonreuse {

class AllocatorTest : public CoreTest {
 protected:
  explicit AllocatorTest(size_t claim = 512 * kMiB, size_t page = SimulatedMemory::kUsualPage)
      : memory(claim, page), allocator(memory, revoker) {}

  void SetUp() override {
    if constexpr (!kFreebufMode) GTEST_SKIP() << "built without quarantine; plain_mode_test has that";
    start(quiet_options());
  }
  void TearDown() override {
    if (!kFreebufMode || front == nullptr) return;
    allocator.check();  // I1, I2
    expect_no_breach(memory);
  }
  void start(const Options& options) {
    ASSERT_TRUE(allocator.init(options));
    front = allocator.make_front();
    ASSERT_NE(front, nullptr);
  }

  char* get(size_t size) { return static_cast<char*>(allocator.allocate(*front, size).get()); }
  char* get_aligned(size_t alignment, size_t size) {
    return static_cast<char*>(allocator.allocate_aligned(*front, alignment, size).get());
  }
  char* resize(char* old, size_t size) {
    return static_cast<char*>(allocator.reallocate(*front, Wild(old), size).get());
  }
  void put(void* pointer) { allocator.free(*front, Wild(pointer)); }
  SweepResult sweep() { return allocator.revoke(*front); }
  size_t chunk_bytes(void* pointer) { return allocator.usable_size(Wild(pointer)) + 1; }
  Granule granule(const void* pointer) const {
    return allocator_space().granule(reinterpret_cast<uintptr_t>(pointer));
  }
  uint8_t tag(const void* pointer) { return allocator.heap().tags().load(granule(pointer)); }
  bool in_pool(const void* pointer) { return allocator.heap().is_free(granule(pointer)); }
  nonreuse_statistics figures() {
    nonreuse_statistics s;
    allocator.statistics(s);
    return s;
  }
  SimulatedMemory::Page page(const void* pointer) const {
    return memory.page(reinterpret_cast<uintptr_t>(pointer));
  }

  // True if any of `count` allocations of `size` bytes overlaps [p, p + bytes). They stay allocated, so that
  // each comes from another place, and are freed by free_all().
  bool comes_back(const char* p, size_t bytes, size_t size, int count) {
    for (int i = 0; i < count; ++i) {
      char* q = get(size);
      if (q == nullptr) return false;
      taken.push_back(q);
      if (q < p + bytes && p < q + chunk_bytes(q)) return true;
    }
    return false;
  }
  void free_all() {
    for (char* p : taken) put(p);
    taken.clear();
  }
  static bool zero(const char* p, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) {
      if (p[i] != 0) return false;
    }
    return true;
  }
  static void fill(char* p, size_t bytes, unsigned key) {
    for (size_t i = 0; i < bytes; ++i) p[i] = static_cast<char>(key + i * 7);
  }
  static bool filled(const char* p, size_t bytes, unsigned key) {
    for (size_t i = 0; i < bytes; ++i) {
      if (p[i] != static_cast<char>(key + i * 7)) return false;
    }
    return true;
  }
  void point_at(const void* place) { revoker.pointers.insert(reinterpret_cast<uintptr_t>(place)); }

  SimulatedMemory memory;
  ScriptedRevoker revoker;
  TestAllocator allocator;
  ThreadFront* front = nullptr;
  std::vector<char*> taken;

 private:
  const Space& allocator_space() const { return const_cast<TestAllocator&>(allocator).space(); }
};

}  // namespace nonreuse
