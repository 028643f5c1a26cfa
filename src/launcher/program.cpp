#include "launcher/program.hpp"

#include <elf.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <string_view>
#include <vector>

namespace nonreuse::launcher {
namespace {

constexpr const char* kLibraryName = "libdlmalloc_nonreuse.so";
constexpr const char* kDefaultPath = "/usr/local/bin:/usr/bin:/bin";

bool is_regular_file(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

std::string search_path() {
  const char* path = getenv("PATH");
  return path != nullptr ? path : kDefaultPath;
}

// The first file in PATH that may be executed; "" if there is none. `seen` becomes one that is there and
// may not.
std::string search(const std::string& name, std::string& seen) {
  std::istringstream folders(search_path());
  std::string folder;
  while (std::getline(folders, folder, ':')) {
    std::string candidate = (folder.empty() ? "." : folder) + "/" + name;
    if (!is_regular_file(candidate)) continue;
    if (access(candidate.c_str(), X_OK) == 0) return candidate;
    seen = candidate;
  }
  return "";
}

void require_executable(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0) {
    const int code = errno == ENOENT || errno == ENOTDIR ? kNotFoundStatus : kCannotRunStatus;
    throw Failure(code, fmt::format("{}: {}", path, strerror(errno)));
  }
  if (S_ISDIR(status.st_mode)) throw Failure(kCannotRunStatus, path + ": is a directory");
  if (!S_ISREG(status.st_mode) || access(path.c_str(), X_OK) != 0) {
    throw Failure(kCannotRunStatus, path + ": is not executable");
  }
}

bool filesystem_ignores_setuid(const std::string& path) {
  struct statvfs status;
  return statvfs(path.c_str(), &status) == 0 && (status.f_flag & ST_NOSUID) != 0;
}

// What gives the program more authority than its user has; "" if nothing does.
std::string extra_authority(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0 || filesystem_ignores_setuid(path)) return "";
  if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1) return "";
  if ((status.st_mode & S_ISUID) != 0 && status.st_uid != getuid()) return "setuid";
  // Without group execution the bit means mandatory locking, not authority.
  const bool setgid = (status.st_mode & S_ISGID) != 0 && (status.st_mode & S_IXGRP) != 0;
  if (setgid && status.st_gid != getgid()) return "setgid";
  if (getuid() != 0 && getxattr(path.c_str(), "security.capability", nullptr, 0) > 0) {
    return "file-capability";
  }
  return "";
}

bool is_dynamic_loader(const std::string& path) {
  std::error_code ignored;
  const std::string name = std::filesystem::canonical(path, ignored).filename().string();
  return name.starts_with("ld-linux") || name.starts_with("ld.so") || name.starts_with("ld-2");
}

void check_elf(const std::string& path, const ElfFile& elf, const ElfFile& library) {
  if (elf.machine != library.machine || elf.file_class != library.file_class) {
    throw Failure(kCannotRunStatus, fmt::format("{}: is a program for {}, but the library is for {}", path,
                                                machine_name(elf), machine_name(library)));
  }
  if (elf.interpreter.empty() && !is_dynamic_loader(path)) {
    throw Failure(kCannotRunStatus, path + ": is a static program: a preloaded library cannot protect it");
  }
  if (elf.interpreter.find("ld-musl") != std::string::npos) {
    throw Failure(kCannotRunStatus, path + ": is linked with musl, but the library is for glibc");
  }
  const std::string authority = extra_authority(path);
  if (!authority.empty()) {
    throw Failure(kCannotRunStatus, fmt::format("{}: is a {} program: the loader ignores preloaded libraries "
                                                "in it",
                                                path, authority));
  }
}

std::vector<std::string> words_of(const std::string& line) {
  std::istringstream stream(line);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

void check_file(const std::string& path, const ElfFile& library, int depth);

void check_script(const std::string& path, const std::string& line, const ElfFile& library, int depth) {
  const std::vector<std::string> words = words_of(line);
  if (words.empty()) throw Failure(kCannotRunStatus, path + ": names no interpreter behind #!");
  const std::string& interpreter = words[0];
  try {
    require_executable(interpreter);
    check_file(interpreter, library, depth + 1);
    // "#!/usr/bin/env python3": env is only the way there.
    if (std::filesystem::path(interpreter).filename() == "env" && words.size() > 1 &&
        !words[1].starts_with('-') && words[1].find('=') == std::string::npos) {
      check_file(find_program(words[1]), library, depth + 1);
    }
  } catch (const Failure& failure) {
    throw Failure(failure.status(),
                  fmt::format("{}: its interpreter cannot be used: {}", path, failure.what()));
  }
}

void check_file(const std::string& path, const ElfFile& library, int depth) {
  constexpr int kMostInterpreters = 4;  // the kernel's own limit, execve(2)
  if (depth > kMostInterpreters) throw Failure(kCannotRunStatus, path + ": too many interpreters in a row");
  const FileHead head = read_file_head(path);
  switch (head.kind) {
    case FileKind::elf:
      check_elf(path, head.elf, library);
      break;
    case FileKind::script:
      check_script(path, head.script, library, depth);
      break;
    case FileKind::other:  // execvp(3) hands it to the shell
      check_file("/bin/sh", library, depth + 1);
      break;
    case FileKind::unreadable:
      break;
  }
}

std::vector<std::string> library_places() {
  std::error_code failed;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", failed);
  std::vector<std::string> places;
  if (!failed) {
    const std::filesystem::path folder = self.parent_path();
    places.push_back(folder / kLibraryName);
    places.push_back((folder / "../lib" / kLibraryName).lexically_normal());
  }
  places.push_back(std::filesystem::path(NONREUSE_INSTALL_LIBDIR) / kLibraryName);
  return places;
}

}  // namespace

std::string find_program(const std::string& name) {
  if (name.empty()) throw Failure(kNotFoundStatus, "the program's name is empty");
  if (name.find('/') != std::string::npos) {
    require_executable(name);
    return name;
  }
  std::string seen;
  std::string found = search(name, seen);
  if (!found.empty()) return found;
  if (!seen.empty()) throw Failure(kCannotRunStatus, seen + ": is not executable");
  throw Failure(kNotFoundStatus, name + ": there is no such program in PATH");
}

void check_program(const std::string& program, const ElfFile& library) {
  check_file(program, library, 0);
}

std::string find_library(const std::string& given) {
  if (!given.empty()) {
    if (!is_regular_file(given))
      throw Failure(kCannotRunStatus, "library " + given + ": there is no such file");
    return std::filesystem::canonical(given);
  }
  for (const std::string& place : library_places()) {
    if (is_regular_file(place)) return place;
  }
  throw Failure(kCannotRunStatus, fmt::format("{} is neither beside this command, nor in ../lib, nor in {}; "
                                              "name it with --library",
                                              kLibraryName, NONREUSE_INSTALL_LIBDIR));
}

}  // namespace nonreuse::launcher
