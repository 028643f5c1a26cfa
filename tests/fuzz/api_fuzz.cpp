// A libFuzzer target: bytes become operations on the prefixed interface, checked against a model.
//
// The model keeps the size and the seed of the contents of every live object, and a few freed chunks that a
// global array goes on pointing to: no later object may overlap those. A violation traps.
#include <dlmalloc_nonreuse.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <cstdint>
#include <iterator>

namespace {

void require(bool condition, const char* what) {
  if (condition) return;
  fprintf(stderr, "api_fuzz: %s\n", what);
  __builtin_trap();
}

struct Object {
  unsigned char* p = nullptr;
  size_t size = 0;
  unsigned char seed = 0;
  bool overlaps(const Object& o) const {
    return p != nullptr && o.p != nullptr && p < o.p + std::max<size_t>(o.size, 1) &&
           o.p < p + std::max<size_t>(size, 1);
  }
};

constexpr size_t kObjects = 64;
constexpr size_t kDangling = 16;
Object objects[kObjects];
Object dangling[kDangling];  // freed, and still pointed to from here

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), left_(size) {}
  bool empty() const { return left_ == 0; }
  uint8_t byte() {
    if (left_ == 0) return 0;
    --left_;
    return *data_++;
  }
  // Small sizes mostly; the first byte chooses how many bits the second one is moved up.
  size_t size() {
    const uint8_t kind = byte();
    const unsigned shift = kind < 232 ? kind % 7 : 7 + kind % 8;
    return (static_cast<size_t>(byte()) << shift) + byte() % 17;
  }

 private:
  const uint8_t* data_;
  size_t left_;
};

unsigned char content(const Object& o, size_t i) {
  return static_cast<unsigned char>(o.seed + i * 7);
}

// All of a small object, both ends of a larger one.
template <class Visit>
void each_checked_byte(size_t size, Visit visit) {
  constexpr size_t kEdge = 300;
  for (size_t i = 0; i < size; ++i) {
    if (i == kEdge && size > 2 * kEdge) i = size - kEdge;
    visit(i);
  }
}
void write_contents(Object& o, unsigned char seed) {
  o.seed = seed;
  each_checked_byte(o.size, [&](size_t i) { o.p[i] = content(o, i); });
}
// The first `common` bytes of what was written.
void check_contents(const Object& o, size_t common) {
  each_checked_byte(o.size, [&](size_t i) {
    require(i >= common || o.p[i] == content(o, i), "an object lost its contents");
  });
}

void keep(Object& slot, void* p, size_t size, size_t alignment, unsigned char seed) {
  require(p != nullptr, "an allocation failed");
  require(reinterpret_cast<uintptr_t>(p) % alignment == 0, "an object is not aligned");
  require(dlmalloc_usable_size(p) >= size, "an object is smaller than asked for");
  Object object;
  object.p = static_cast<unsigned char*>(p);
  object.size = size;
  for (const Object& o : objects) require(!o.overlaps(object), "two live objects overlap");
  for (const Object& o : dangling) require(!o.overlaps(object), "memory that is pointed to was reused");
  write_contents(object, seed);
  slot = object;
}

void release(Object& slot, bool still_referenced, size_t where) {
  if (slot.p == nullptr) return;
  check_contents(slot, slot.size);
  errno = 77;
  dlfree(slot.p);
  require(errno == 77, "free changed errno");
  if (still_referenced) dangling[where % kDangling] = slot;
  slot = {};
}

void reallocate(Object& slot, size_t size, unsigned char seed) {
  const Object old = slot;
  if (old.p != nullptr) check_contents(old, old.size);
  slot = {};
  void* p = dlrealloc(old.p, size);
  if (old.p != nullptr && size == 0) return require(p == nullptr, "realloc to nothing gave something");
  require(p != nullptr, "realloc failed");
  Object moved = old;
  moved.p = static_cast<unsigned char*>(p);
  check_contents(moved, std::min(old.size, size));
  keep(slot, p, size, 16, seed);
}

void refuse_what_cannot_be(Input& input) {
  const size_t huge = SIZE_MAX / (size_t{1} << (input.byte() % 8)) - input.byte();
  void* out = &input;
  switch (input.byte() % 4) {
    case 0:
      return require(dlmalloc(huge | (size_t{1} << 62)) == nullptr, "malloc gave the impossible");
    case 1:
      return require(dlcalloc(huge, 257) == nullptr, "calloc overflowed");
    case 2:
      return require(dlposix_memalign(&out, 24, 10) == EINVAL && out == &input, "24 is no alignment");
    default:
      return require(dlreallocarray(nullptr, huge, 999) == nullptr, "reallocarray overflowed");
  }
}

void step(Input& input) {
  const uint8_t operation = input.byte();
  Object& slot = objects[input.byte() % kObjects];
  const auto seed = static_cast<unsigned char>(operation * 3 + 1);
  switch (operation % 16) {
    case 0:
    case 1:
    case 2:
    case 3: {
      release(slot, false, 0);
      const size_t size = input.size();
      return keep(slot, dlmalloc(size), size, 16, seed);
    }
    case 4:
    case 5: {
      release(slot, false, 0);
      const size_t size = input.size();
      auto* p = static_cast<unsigned char*>(dlcalloc(1, size));
      for (size_t i = 0; p != nullptr && i < size; ++i)
        require(p[i] == 0, "calloc gave memory that is not zero");
      return keep(slot, p, size, 16, seed);
    }
    case 6: {
      release(slot, false, 0);
      const size_t alignment = size_t{8} << (input.byte() % 14);
      const size_t size = input.size();
      void* p = nullptr;
      require(dlposix_memalign(&p, alignment, size) == 0, "posix_memalign failed");
      return keep(slot, p, size, std::max<size_t>(alignment, 16), seed);
    }
    case 7:
    case 8:
      return reallocate(slot, input.size(), seed);
    case 9:
    case 10:
      return release(slot, false, 0);
    case 11:
    case 12:
      return release(slot, true, input.byte());
    case 13:
      dangling[input.byte() % kDangling] = {};
      return;
    case 14:
      return refuse_what_cannot_be(input);
    default:
      switch (input.byte() % 8) {
        case 0:
          require(dlmalloc_revoke() == 0, "a sweep failed");
          return;
        case 1:
          dlmalloc_trim(0);
          return;
        case 2:
          (void)dlmallinfo2();
          return;
        default:
          dlfree(nullptr);
      }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  while (!input.empty()) step(input);
  for (Object& o : objects) release(o, false, 0);
  std::fill(std::begin(dangling), std::end(dangling), Object{});
  return 0;
}
