#include "launcher/heap_image.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <gelf.h>
#include <libelf.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "launcher/program.hpp"

namespace nonreuse::launcher {
namespace {

constexpr const char* kSymbol = "nonreuse_heap_descriptor";

// Value of the symbol in a section of symbols, or 0.
uint64_t find_in(Elf* elf, Elf_Scn* section, const GElf_Shdr& header) {
  Elf_Data* data = elf_getdata(section, nullptr);
  if (data == nullptr || header.sh_entsize == 0) return 0;
  for (size_t i = 0; i < header.sh_size / header.sh_entsize; ++i) {
    GElf_Sym symbol;
    if (gelf_getsym(data, static_cast<int>(i), &symbol) == nullptr || symbol.st_shndx == SHN_UNDEF) continue;
    const char* name = elf_strptr(elf, header.sh_link, symbol.st_name);
    if (name != nullptr && strcmp(name, kSymbol) == 0) return symbol.st_value;
  }
  return 0;
}

// The symbol's address in a process where the file's first mapping begins at `begin`, or 0.
uint64_t find_in_file(const std::string& path, uint64_t begin) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  elf_version(EV_CURRENT);
  uint64_t value = 0, lowest = ~uint64_t{0};
  if (Elf* elf = elf_begin(file, ELF_C_READ_MMAP, nullptr); elf != nullptr) {
    size_t count = 0;
    elf_getphdrnum(elf, &count);
    for (size_t i = 0; i < count; ++i) {
      GElf_Phdr segment;
      if (gelf_getphdr(elf, static_cast<int>(i), &segment) != nullptr && segment.p_type == PT_LOAD)
        lowest = std::min(lowest, align_down(segment.p_vaddr, 4096));
    }
    for (Elf_Scn* section = nullptr; value == 0 && (section = elf_nextscn(elf, section)) != nullptr;) {
      GElf_Shdr header;
      if (gelf_getshdr(section, &header) == nullptr) continue;
      if (header.sh_type == SHT_DYNSYM || header.sh_type == SHT_SYMTAB) value = find_in(elf, section, header);
    }
    elf_end(elf);
  }
  close(file);
  return value == 0 || lowest == ~uint64_t{0} ? 0 : value - lowest + begin;
}

}  // namespace

uint64_t find_descriptor(const ObservedProcess& process, const std::vector<ObservedMapping>& mappings) {
  std::vector<std::pair<std::string, uint64_t>> files;  // with where each begins
  for (const ObservedMapping& mapping : mappings) {
    if (mapping.name.empty() || mapping.name[0] != '/') continue;
    const auto is_same = [&](const auto& file) { return file.first == mapping.name; };
    if (std::none_of(files.begin(), files.end(), is_same))
      files.emplace_back(mapping.name, mapping.range.begin);
  }
  const auto is_likely = [](const auto& file) { return file.first.find("nonreuse") != std::string::npos; };
  std::stable_partition(files.begin(), files.end(), is_likely);
  for (const auto& [name, begin] : files) {
    const uint64_t at = find_in_file(fmt::format("/proc/{}/root{}", process.id(), name), begin);
    uint64_t magic = 0;
    if (at != 0 && process.read_value(at, magic) && magic == kDescriptorMagic) return at;
  }
  return 0;
}

HeapImage::HeapImage(const ObservedProcess& process, uint64_t descriptor) : process_(process) {
  if (descriptor == 0 || !process.read_value(descriptor, descriptor_) ||
      descriptor_.magic != kDescriptorMagic || descriptor_.base == 0) {
    throw Failure(kCannotRunStatus, fmt::format("process {} does not run on this heap", process.id()));
  }
  if (descriptor_.version != kDescriptorVersion) {
    throw Failure(kCannotRunStatus,
                  fmt::format("process {} runs on another version of this heap", process.id()));
  }
  process.read_value(descriptor_.top_at, top_);
  decode(process.read_array<uint8_t>(descriptor_.tags, top_));
  own_ = process.read_array<Range>(descriptor_.own_at, descriptor_.own_count);
  own_.push_back(descriptor_.tables);
  blocks_ = process.read_array<uint64_t>(descriptor_.blocks, (top_ >> kBlockShift) + 1);
}

// As src/heap/tag_map.hpp says: 01 to 3f live, 81 to bf freed; 3f in the lower bits: the size is in six
// digits.
void HeapImage::decode(const std::vector<uint8_t>& tags) {
  constexpr uint8_t kLarge = 63, kFreed = 128;
  covered_.resize(tags.size());
  for (Granule at = 0; at < tags.size();) {
    const uint8_t value = tags[at] & 63;
    if ((tags[at] & 64) != 0 || value == 0) {
      ++at;
      continue;
    }
    HeapChunk chunk{at, value, (tags[at] & kFreed) != 0};
    if (value == kLarge) {
      chunk.length = 0;
      for (size_t i = 0; i < 6 && at + 1 + i < tags.size(); ++i)
        chunk.length |= static_cast<Granules>(tags[at + 1 + i] & 63) << (6 * i);
    }
    if (chunk.length == 0 || chunk.length > tags.size() - at) {  // just being written
      ++at;
      continue;
    }
    chunks_.push_back(chunk);
    std::fill_n(covered_.begin() + static_cast<ptrdiff_t>(at), chunk.length, true);
    at += chunk.length;
  }
}

std::optional<size_t> HeapImage::around(uint64_t address) const {
  if (!range().contains(address)) return {};
  const Granule granule = (address - descriptor_.base) >> kGranuleShift;
  if (granule >= covered_.size() || !covered_[granule]) return {};
  const auto above = std::upper_bound(chunks_.begin(), chunks_.end(), granule,
                                      [](Granule at, const HeapChunk& chunk) { return at < chunk.start; });
  if (above == chunks_.begin()) return {};
  return static_cast<size_t>(above - chunks_.begin()) - 1;
}

ChunkRecord HeapImage::record(const HeapChunk& chunk) const {
  const uint64_t block = chunk.start >> kBlockShift;
  ChunkRecord record{};
  if (block >= blocks_.size() || blocks_[block] == 0) return {};
  const uint64_t index = chunk.start & ((uint64_t{1} << kBlockShift) - 1);
  if (!process_.read_value(blocks_[block] + index * sizeof record, record)) return {};
  return record;
}

std::vector<uint64_t> HeapImage::stack(StackId id) const {
  if (id <= kUnknownStack || id >= descriptor_.stack_words) return {};
  uint64_t count = 0;
  if (!process_.read_value(descriptor_.stacks + id * sizeof(uint64_t), count)) return {};
  return process_.read_array<uint64_t>(descriptor_.stacks + (id + 1) * sizeof(uint64_t),
                                       std::min<uint64_t>(count, kMostFrames));
}

}  // namespace nonreuse::launcher
