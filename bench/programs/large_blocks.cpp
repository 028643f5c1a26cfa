// Multi-MiB blocks: a few slots are filled with blocks of 1 to 16 MiB that are written in part, grown and
// shrunk by realloc, and freed. What was written must still be there after each move.
#include <vector>

#include "common.hpp"

namespace {

constexpr size_t kMiB = size_t{1} << 20;
struct Slot {
  unsigned char* block = nullptr;
  size_t size = 0;
  uint64_t mark = 0;
};

// Writes a word every 4096 bytes of the first part of the block.
void fill(Slot& slot, uint64_t mark, size_t from) {
  slot.mark = mark;
  for (size_t at = from; at + 8 <= slot.size; at += 4096) std::memcpy(slot.block + at, &mark, 8);
}

uint64_t verify(const Slot& slot, size_t size) {
  uint64_t sum = 0;
  for (size_t at = 0; at + 8 <= size; at += 4096) {
    uint64_t word;
    std::memcpy(&word, slot.block + at, 8);
    if (word != slot.mark) {
      std::fprintf(stderr, "a block of %zu bytes lost its contents at %zu\n", slot.size, at);
      std::exit(1);
    }
    sum += word;
  }
  return sum;
}

void resize(Slot& slot, size_t size) {
  auto* moved = static_cast<unsigned char*>(std::realloc(slot.block, size));
  if (moved == nullptr) {
    std::perror("realloc");
    std::exit(1);
  }
  slot.block = moved;
  slot.size = size;
}

}  // namespace

int main(int argc, char** argv) {
  const long steps = bench::argument(argc, argv, 1, 4000);
  bench::Random random(5);
  std::vector<Slot> slots(12);
  uint64_t sum = 0;
  for (long step = 0; step < steps; ++step) {
    Slot& slot = slots[random.below(slots.size())];
    if (slot.block == nullptr) {
      resize(slot, kMiB + random.below(15 * kMiB));
      fill(slot, random.next(), 0);
      continue;
    }
    const uint64_t kind = random.below(4);
    if (kind == 0) {
      sum = bench::mix(sum, verify(slot, slot.size));
      std::free(slot.block);
      slot = Slot{};
    } else if (kind == 1) {
      resize(slot, slot.size / 2 + 4096);
      sum = bench::mix(sum, verify(slot, slot.size));
    } else {
      const size_t before = slot.size;
      resize(slot, slot.size + 256 * 1024 + random.below(kMiB));
      sum = bench::mix(sum, verify(slot, before));
      fill(slot, slot.mark, (before + 4087) / 4096 * 4096);
      if (slot.size > 24 * kMiB) {
        std::free(slot.block);
        slot = Slot{};
      }
    }
  }
  for (Slot& slot : slots) {
    if (slot.block != nullptr) sum = bench::mix(sum, verify(slot, slot.size));
    std::free(slot.block);
  }
  bench::print_checksum("large_blocks", sum);
}
