// random_ops [OPERATIONS [SEED]]: random operations of several threads that hand objects to each other,
// against a model that knows every object's place, size and contents.
//
// Checked for every object: alignment, no overlap with any other live object, contents from allocation to
// free and through realloc, zero from calloc. The default is a number of operations, not a time; the seed is
// printed and decides what each thread does.
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <random>
#include <vector>

extern "C" int malloc_revoke(void) __attribute__((weak));

namespace {

uint64_t seed;

[[noreturn]] void fail(const char* what, const void* p, size_t size) {
  dprintf(1, "seed %lu: %s (object at %p of %zu bytes)\n", static_cast<unsigned long>(seed), what, p, size);
  _exit(1);
}

struct Object {
  unsigned char* p = nullptr;
  size_t size = 0;
  uint32_t tag = 0;
};

// ---- where every live object is

class Places {
 public:
  void add(const Object& o) {
    const uintptr_t begin = reinterpret_cast<uintptr_t>(o.p), end = begin + std::max<size_t>(o.size, 1);
    std::lock_guard lock(mutex_);
    const auto next = ends_.upper_bound(begin);  // the first object that ends behind our start
    if (next != ends_.end() && next->second < end) fail("overlaps another live object", o.p, o.size);
    ends_.emplace(end, begin);
  }
  void remove(const Object& o) {
    const uintptr_t end = reinterpret_cast<uintptr_t>(o.p) + std::max<size_t>(o.size, 1);
    std::lock_guard lock(mutex_);
    if (ends_.erase(end) != 1) fail("is not known to the model", o.p, o.size);
  }

 private:
  std::mutex mutex_;
  std::map<uintptr_t, uintptr_t> ends_;  // end to begin
};
Places places;

// ---- contents: all of a small object, both ends and one byte a page of a larger one

constexpr size_t kEdge = 2048;

template <class Visit>
void each_checked_byte(size_t size, Visit visit) {
  if (size <= 2 * kEdge) {
    for (size_t i = 0; i < size; ++i) visit(i);
    return;
  }
  for (size_t i = 0; i < kEdge; ++i) visit(i);
  for (size_t i = kEdge; i < size - kEdge; i += 4096) visit(i);
  for (size_t i = size - kEdge; i < size; ++i) visit(i);
}
unsigned char byte_at(uint32_t tag, size_t i) {
  return static_cast<unsigned char>((i * 2654435761u + tag) >> 5);
}

void write_contents(const Object& o) {
  each_checked_byte(o.size, [&](size_t i) { o.p[i] = byte_at(o.tag, i); });
}
void check_contents(const Object& o) {
  each_checked_byte(o.size, [&](size_t i) {
    if (o.p[i] != byte_at(o.tag, i)) fail("lost its contents", o.p, o.size);
  });
}

// ---- objects on their way from one thread to another

class Exchange {
 public:
  // Gives one object and takes another; an empty one where there is none.
  Object swap(Object given, size_t slot) {
    std::lock_guard lock(mutex_);
    std::swap(slots_[slot % kSlots], given);
    return given;
  }
  static constexpr size_t kSlots = 512;

 private:
  std::mutex mutex_;
  Object slots_[kSlots];
};
Exchange exchange;

class Player {
 public:
  Player(uint64_t number, uint64_t operations) : random_(seed * 1000 + number), operations_(operations) {}

  void play() {
    for (uint64_t i = 0; i < operations_; ++i) step();
    for (Object& o : objects_) release(o);
  }

  static void release(Object& o) {
    if (o.p == nullptr) return;
    check_contents(o);
    places.remove(o);
    const int before = errno;
    free(o.p);
    if (errno != before) fail("free changed errno", o.p, o.size);
    o = {};
  }

 private:
  // Log-uniform from 1 byte to 4 MB, mostly small.
  size_t random_size() {
    const double limit = random_() % 64 == 0 ? 22 : 12;
    return static_cast<size_t>(std::exp2(std::uniform_real_distribution<double>(0, limit)(random_)));
  }

  void keep(Object& slot, void* p, size_t size, size_t alignment) {
    if (p == nullptr) fail("could not be allocated", p, size);
    if (reinterpret_cast<uintptr_t>(p) % alignment != 0) fail("is not aligned", p, size);
    if (malloc_usable_size(p) < size) fail("is smaller than asked for", p, size);
    slot = {static_cast<unsigned char*>(p), size, static_cast<uint32_t>(random_())};
    places.add(slot);
    write_contents(slot);
  }

  void allocate(Object& slot) {
    const size_t size = random_size();
    switch (random_() % 8) {
      case 0: {
        auto* p = static_cast<unsigned char*>(calloc(1, size));
        if (p == nullptr) fail("could not be allocated", p, size);
        for (size_t i = 0; i < size; ++i) {
          if (p[i] != 0) fail("came from calloc and is not zero", p, size);
        }
        return keep(slot, p, size, 16);
      }
      case 1: {
        const size_t alignment = size_t{8} << (random_() % 13);
        void* p = nullptr;
        if (posix_memalign(&p, alignment, size) != 0) fail("could not be allocated", p, size);
        return keep(slot, p, size, std::max<size_t>(alignment, 16));
      }
      case 2: {
        const size_t alignment = size_t{16} << (random_() % 6);
        return keep(slot, aligned_alloc(alignment, size), size, alignment);
      }
      default:
        return keep(slot, malloc(size), size, 16);
    }
  }

  void reallocate(Object& slot) {
    check_contents(slot);
    places.remove(slot);
    const size_t size = random_() % 4 == 0 ? random_size() : slot.size + random_() % 64;
    const size_t common = std::min(slot.size, size);
    if (size == 0) fail("cannot shrink to nothing", slot.p, size);
    auto* p = static_cast<unsigned char*>(realloc(slot.p, size));
    if (p == nullptr) fail("could not be reallocated", p, size);
    // The bytes that were checked before and are still part of the object.
    each_checked_byte(slot.size, [&](size_t i) {
      if (i < common && p[i] != byte_at(slot.tag, i)) fail("lost its contents in realloc", p, size);
    });
    keep(slot, p, size, 16);
  }

  void step() {
    Object& slot = objects_[random_() % objects_.size()];
    const uint64_t choice = random_() % 100;
    if (slot.p == nullptr) {
      allocate(slot);
    } else if (choice < 60) {
      release(slot);
    } else if (choice < 85) {
      reallocate(slot);
    } else if (choice < 99) {
      slot = exchange.swap(slot, random_());
    } else {
      seldom();
    }
  }

  void seldom() {
    switch (random_() % 64) {
      case 0:
        if (malloc_revoke != nullptr) malloc_revoke();
        break;
      case 1:
        malloc_trim(random_() % 2 == 0 ? 0 : 1 << 20);
        break;
      case 2:
        (void)mallinfo2();
        break;
      default:
        free(nullptr);
    }
  }

  std::mt19937_64 random_;
  uint64_t operations_;
  std::vector<Object> objects_ = std::vector<Object>(1500);
};

struct Task {
  uint64_t number, operations;
  pthread_t thread;
};
void* play(void* argument) {
  const Task& task = *static_cast<Task*>(argument);
  Player(task.number, task.operations).play();
  return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  const char* from_environment = getenv("NONREUSE_TEST_OPERATIONS");
  const uint64_t operations = argc > 1                      ? strtoull(argv[1], nullptr, 10)
                              : from_environment != nullptr ? strtoull(from_environment, nullptr, 10)
                                                            : 2000000;
  seed = argc > 2 ? strtoull(argv[2], nullptr, 10) : std::random_device()();
  printf("seed %lu, %lu operations\n", static_cast<unsigned long>(seed),
         static_cast<unsigned long>(operations));
  fflush(stdout);
  // First alone, then four at a time, twice: threads come and go.
  Player(0, operations / 4).play();
  uint64_t number = 1;
  for (int round = 0; round < 2; ++round) {
    Task tasks[4];
    for (Task& task : tasks) {
      task = {number++, operations / 4 * 3 / 8, {}};
      if (pthread_create(&task.thread, nullptr, play, &task) != 0) return 3;
    }
    for (Task& task : tasks) pthread_join(task.thread, nullptr);
  }
  for (size_t slot = 0; slot < Exchange::kSlots; ++slot) {
    Object o = exchange.swap({}, slot);
    Player::release(o);
  }
  return 0;
}
