// What the launcher wants to know of an executable file before it starts it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace nonreuse::launcher {

struct ElfFile {
  unsigned char file_class = 0;  // ELFCLASS32 or ELFCLASS64
  uint16_t machine = 0;          // EM_X86_64, ...
  uint16_t type = 0;             // ET_EXEC, ET_DYN
  std::string interpreter;       // PT_INTERP; "" in static programs and shared libraries
};

enum class FileKind : uint8_t { unreadable, elf, script, other };

// The beginning of a file, understood as far as that goes.
struct FileHead {
  FileKind kind = FileKind::unreadable;
  ElfFile elf;         // kind elf
  std::string script;  // kind script: the words behind #!, as written
};

// Reads the head of the file; see elf(5) and execve(2). A file that cannot be read (execute permission alone)
// is `unreadable`: nothing is known about it then, and it may well run.
FileHead read_file_head(const std::string& path);

// "x86-64", "aarch64", ...; for others "machine 8".
std::string machine_name(const ElfFile& elf);

}  // namespace nonreuse::launcher
