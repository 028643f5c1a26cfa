#include "launcher/elf_file.hpp"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstring>
#include <string_view>
#include <vector>

namespace nonreuse::launcher {
namespace {

class File {
 public:
  explicit File(const std::string& path) : descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~File() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  bool is_open() const { return descriptor_ >= 0; }
  // Up to `size` bytes at `offset`; fewer at the end of the file.
  std::vector<char> read(uint64_t offset, size_t size) const {
    std::vector<char> bytes(size);
    const ssize_t got = pread(descriptor_, bytes.data(), size, static_cast<off_t>(offset));
    bytes.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return bytes;
  }

 private:
  int descriptor_;
};

// The text of PT_INTERP. Header is Elf64_Ehdr or Elf32_Ehdr, Segment the program header that goes with it.
template <class Header, class Segment>
std::string find_interpreter(const File& file, const Header& header) {
  // Bounds on what a broken file may ask for, not page sizes; no path is longer than PATH_MAX.
  constexpr size_t kMostSegments = 4096, kLongestPath = 4096;
  if (header.e_phentsize != sizeof(Segment) || header.e_phnum > kMostSegments) return "";
  const std::vector<char> table = file.read(header.e_phoff, header.e_phnum * sizeof(Segment));
  for (size_t at = 0; at + sizeof(Segment) <= table.size(); at += sizeof(Segment)) {
    Segment segment;
    memcpy(&segment, table.data() + at, sizeof(segment));
    if (segment.p_type != PT_INTERP || segment.p_filesz > kLongestPath) continue;
    const std::vector<char> text = file.read(segment.p_offset, segment.p_filesz);
    return {text.data(), strnlen(text.data(), text.size())};
  }
  return "";
}

template <class Header, class Segment>
bool read_elf(const File& file, const std::vector<char>& head, ElfFile& elf) {
  Header header;
  if (head.size() < sizeof(header)) return false;
  memcpy(&header, head.data(), sizeof(header));
  elf.machine = header.e_machine;
  elf.type = header.e_type;
  elf.interpreter = find_interpreter<Header, Segment>(file, header);
  return true;
}

std::string script_words(const std::vector<char>& head) {
  std::string_view line(head.data() + 2, head.size() - 2);
  line = line.substr(0, line.find('\n'));
  const size_t begin = line.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return "";
  return std::string(line.substr(begin, line.find_last_not_of(" \t\r") - begin + 1));
}

}  // namespace

FileHead read_file_head(const std::string& path) {
  FileHead result;
  const File file(path);
  if (!file.is_open()) return result;
  constexpr size_t kHeadBytes = 512;
  const std::vector<char> head = file.read(0, kHeadBytes);
  result.kind = FileKind::other;
  if (head.size() >= 2 && head[0] == '#' && head[1] == '!') {
    result.kind = FileKind::script;
    result.script = script_words(head);
    return result;
  }
  if (head.size() < EI_NIDENT || memcmp(head.data(), ELFMAG, SELFMAG) != 0) return result;
  result.elf.file_class = static_cast<unsigned char>(head[EI_CLASS]);
  const bool good = result.elf.file_class == ELFCLASS64
                        ? read_elf<Elf64_Ehdr, Elf64_Phdr>(file, head, result.elf)
                        : read_elf<Elf32_Ehdr, Elf32_Phdr>(file, head, result.elf);
  if (good) result.kind = FileKind::elf;
  return result;
}

std::string machine_name(const ElfFile& elf) {
  switch (elf.machine) {
    case EM_X86_64:
      return elf.file_class == ELFCLASS64 ? "x86-64" : "x32";
    case EM_386:
      return "32-bit x86";
    case EM_AARCH64:
      return "aarch64";
    case EM_ARM:
      return "32-bit ARM";
    case EM_RISCV:
      return elf.file_class == ELFCLASS64 ? "riscv64" : "riscv32";
    default:
      return fmt::format("machine {}", elf.machine);
  }
}

}  // namespace nonreuse::launcher
