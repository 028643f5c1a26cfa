// Two-level logic minimising in the manner of espresso (Brayton and others 1984): complement by Shannon
// expansion, expand against the off-set, make irredundant, reduce, and again. Covers are arrays of cubes that
// are blocks of their own: many small blocks of one size class with short lives, arrays that grow by realloc.
#include <algorithm>

#include "common.hpp"

namespace {

int inputs;  // variables of the function
int words;   // 64-bit words of a cube: two bits a variable, 01 = must be 0, 10 = must be 1, 11 = any

using Cube = uint64_t;

Cube* copy(const Cube* cube) {
  auto* fresh = static_cast<Cube*>(std::malloc(static_cast<size_t>(words) * sizeof(Cube)));
  if (fresh == nullptr) std::abort();
  std::memcpy(fresh, cube, static_cast<size_t>(words) * sizeof(Cube));
  return fresh;
}
int get(const Cube* cube, int variable) {
  return static_cast<int>(cube[variable / 32] >> variable % 32 * 2 & 3);
}
void set(Cube* cube, int variable, int value) {
  Cube& word = cube[variable / 32];
  word = (word & ~(Cube{3} << variable % 32 * 2)) | Cube(value) << variable % 32 * 2;
}
Cube* universe() {
  auto* cube = static_cast<Cube*>(std::calloc(static_cast<size_t>(words), sizeof(Cube)));
  if (cube == nullptr) std::abort();
  for (int i = 0; i < inputs; ++i) set(cube, i, 3);
  return cube;
}
// True if a covers b.
bool covers(const Cube* a, const Cube* b) {
  for (int i = 0; i < words; ++i) {
    if ((b[i] & ~a[i]) != 0) return false;
  }
  return true;
}
bool disjoint(const Cube* a, const Cube* b) {
  for (int i = 0; i < words; ++i) {
    const uint64_t both = a[i] & b[i];
    const uint64_t used = ((a[i] | a[i] >> 1) & 0x5555555555555555ULL);
    if (((both | both >> 1) & 0x5555555555555555ULL) != used) return true;
  }
  return false;
}
int literals(const Cube* cube) {
  int count = 0;
  for (int i = 0; i < inputs; ++i) count += get(cube, i) != 3;
  return count;
}

// A list of cubes that owns them.
class Cover {
 public:
  Cover() = default;
  Cover(Cover&& other) noexcept : cubes_(other.cubes_), count_(other.count_), room_(other.room_) {
    other.cubes_ = nullptr;
    other.count_ = other.room_ = 0;
  }
  Cover& operator=(Cover&& other) noexcept {
    std::swap(cubes_, other.cubes_);
    std::swap(count_, other.count_);
    std::swap(room_, other.room_);
    return *this;
  }
  ~Cover() {
    for (int i = 0; i < count_; ++i) std::free(cubes_[i]);
    std::free(cubes_);
  }
  void add(Cube* cube) {
    if (count_ == room_) {
      room_ = room_ == 0 ? 2 : room_ + room_ / 2 + 1;
      cubes_ = static_cast<Cube**>(std::realloc(cubes_, static_cast<size_t>(room_) * sizeof(Cube*)));
      if (cubes_ == nullptr) std::abort();
    }
    cubes_[count_++] = cube;
  }
  Cover clone() const {
    Cover fresh;
    for (int i = 0; i < count_; ++i) fresh.add(copy(cubes_[i]));
    return fresh;
  }
  // Removes what `drop` is true for.
  template <typename Drop>
  void remove(Drop drop) {
    int kept = 0;
    for (int i = 0; i < count_; ++i) {
      if (drop(i)) {
        std::free(cubes_[i]);
      } else {
        cubes_[kept++] = cubes_[i];
      }
    }
    count_ = kept;
  }
  void sort() {
    std::sort(cubes_, cubes_ + count_, [](const Cube* a, const Cube* b) {
      const int first = literals(a), second = literals(b);
      return first != second ? first < second : std::lexicographical_compare(a, a + words, b, b + words);
    });
  }
  int count() const { return count_; }
  Cube* operator[](int i) const { return cubes_[i]; }

 private:
  Cube** cubes_ = nullptr;
  int count_ = 0, room_ = 0;
};

// What is left of the cover where the variable has the value (1: zero, 2: one).
Cover cofactor(const Cover& cover, int variable, int value) {
  Cover part;
  for (int i = 0; i < cover.count(); ++i) {
    if ((get(cover[i], variable) & value) == 0) continue;
    Cube* cube = copy(cover[i]);
    set(cube, variable, 3);
    part.add(cube);
  }
  return part;
}

// The variable that most cubes depend on, -1 if none does.
int busiest(const Cover& cover) {
  int best = -1, most = 0;
  for (int variable = 0; variable < inputs; ++variable) {
    int count = 0;
    for (int i = 0; i < cover.count(); ++i) count += get(cover[i], variable) != 3;
    if (count > most) {
      most = count;
      best = variable;
    }
  }
  return best;
}

bool has_universe(const Cover& cover) {
  for (int i = 0; i < cover.count(); ++i) {
    if (literals(cover[i]) == 0) return true;
  }
  return false;
}

// Drops cubes that another covers.
void absorb(Cover& cover) {
  cover.sort();
  bool* gone = static_cast<bool*>(std::calloc(static_cast<size_t>(cover.count()) + 1, 1));
  for (int i = 0; i < cover.count(); ++i) {
    for (int j = i + 1; j < cover.count() && !gone[i]; ++j) {
      if (!gone[j] && covers(cover[i], cover[j])) gone[j] = true;
    }
  }
  cover.remove([gone](int i) { return gone[i]; });
  std::free(gone);
}

Cover complement(const Cover& cover) {
  Cover result;
  if (cover.count() == 0) {
    result.add(universe());
    return result;
  }
  if (has_universe(cover)) return result;
  if (cover.count() == 1) {
    for (int variable = 0; variable < inputs; ++variable) {
      if (get(cover[0], variable) == 3) continue;
      Cube* cube = universe();
      set(cube, variable, 3 ^ get(cover[0], variable));
      result.add(cube);
    }
    return result;
  }
  const int variable = busiest(cover);
  for (int value = 1; value <= 2; ++value) {
    const Cover part = complement(cofactor(cover, variable, value));
    for (int i = 0; i < part.count(); ++i) {
      Cube* cube = copy(part[i]);
      set(cube, variable, value);
      bool merged = false;
      for (int j = 0; j < result.count() && value == 2 && !merged; ++j) {
        set(cube, variable, 1);
        if (std::equal(cube, cube + words, result[j])) {
          set(result[j], variable, 3);
          merged = true;
        }
        set(cube, variable, 2);
      }
      if (merged) {
        std::free(cube);
      } else {
        result.add(cube);
      }
    }
  }
  absorb(result);
  return result;
}

bool tautology(const Cover& cover) {
  if (has_universe(cover)) return true;
  const int variable = busiest(cover);
  if (variable < 0) return false;
  return tautology(cofactor(cover, variable, 1)) && tautology(cofactor(cover, variable, 2));
}

// True if the cover without cube `except` covers the cube.
bool covered_by_rest(const Cover& cover, int except, const Cube* cube) {
  Cover rest;
  for (int i = 0; i < cover.count(); ++i) {
    if (i == except || disjoint(cover[i], cube)) continue;
    Cube* part = copy(cover[i]);
    for (int variable = 0; variable < inputs; ++variable) {
      if (get(cube, variable) != 3) set(part, variable, 3);
    }
    rest.add(part);
  }
  return tautology(rest);
}

void expand(Cover& cover, const Cover& off) {
  for (int i = 0; i < cover.count(); ++i) {
    for (int step = 0; step < inputs; ++step) {
      const int variable = (step * 7 + i) % inputs;
      const int before = get(cover[i], variable);
      if (before == 3) continue;
      set(cover[i], variable, 3);
      for (int j = 0; j < off.count(); ++j) {
        if (disjoint(cover[i], off[j])) continue;
        set(cover[i], variable, before);
        break;
      }
    }
  }
  absorb(cover);
}

void irredundant(Cover& cover) {
  for (int i = cover.count() - 1; i >= 0; --i) {
    if (covered_by_rest(cover, i, cover[i])) cover.remove([i](int j) { return j == i; });
  }
}

void reduce(Cover& cover) {
  for (int i = 0; i < cover.count(); ++i) {
    for (int variable = 0; variable < inputs; ++variable) {
      if (get(cover[i], variable) != 3) continue;
      for (int value = 1; value <= 2; ++value) {
        Cube* half = copy(cover[i]);
        set(half, variable, value);
        const bool removable = covered_by_rest(cover, i, half);
        std::free(half);
        if (removable) {
          set(cover[i], variable, 3 ^ value);
          break;
        }
      }
    }
  }
}

uint64_t weigh(const Cover& cover) {
  uint64_t sum = static_cast<uint64_t>(cover.count());
  for (int i = 0; i < cover.count(); ++i) {
    for (int j = 0; j < words; ++j) sum = bench::mix(sum, cover[i][j]);
  }
  return sum;
}

}  // namespace

int main(int argc, char** argv) {
  const long functions = bench::argument(argc, argv, 1, 3);
  for (long number = 0; number < functions; ++number) {
    inputs = 10 + static_cast<int>(number % 3) * 13;
    words = (inputs + 31) / 32;
    bench::Random random(static_cast<uint64_t>(number) + 5);
    Cover cover;
    for (int i = 0; i < 90; ++i) {
      Cube* cube = universe();
      for (int variable = 0; variable < 10; ++variable) {
        const int place = inputs == 10 ? variable : (variable * 3 + i % 2) % inputs;
        set(cube, place, random.below(5) == 0 ? 3 : 1 + static_cast<int>(random.below(2)));
      }
      cover.add(cube);
    }
    const Cover off = complement(cover);
    const int before = cover.count();
    for (int pass = 0; pass < 3; ++pass) {
      expand(cover, off);
      irredundant(cover);
      if (pass < 2) reduce(cover);
    }
    cover.sort();
    std::printf("function %ld: %d inputs, %d cubes, off-set %d, minimised %d, %016llx\n", number, inputs,
                before, off.count(), cover.count(), static_cast<unsigned long long>(weigh(cover)));
  }
}
