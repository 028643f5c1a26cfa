#include "launcher/live_statistics.hpp"

#include <elf.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <sstream>
#include <string_view>

#include "base/statistics_report.hpp"
#include "launcher/process_memory.hpp"
#include "launcher/program.hpp"
#include "launcher/summary.hpp"

namespace nonreuse::launcher {
namespace {

constexpr size_t kHeadBytes = 4096;  // of a module: its header and program headers
constexpr size_t kMostNotes = 64 * 1024;

struct Module {
  Address begin;
  bool ours_by_name;
};

std::string proc(pid_t process, const char* file) {
  return fmt::format("/proc/{}/{}", process, file);
}

// The first mapping of every file that is mapped. 0, or the errno of why the list may not be read.
int read_modules(const ProcessMemory& memory, std::vector<Module>& modules) {
  return memory.each_mapping([&](const Mapping& mapping) {
    if (!mapping.readable || mapping.offset != 0 || mapping.device == 0) return;
    const std::string_view name(mapping.name, mapping.name_size);
    modules.push_back({mapping.range.begin, name.find("libdlmalloc_nonreuse") != name.npos});
  });
}

// The page's address in the number that follows the note's name, or 0.
Address find_note(std::span<const std::byte> notes, Address at, size_t alignment) {
  const auto up = [&](size_t size) { return static_cast<size_t>(align_up(size, alignment)); };
  for (size_t i = 0; i + sizeof(Elf64_Nhdr) <= notes.size();) {
    Elf64_Nhdr header;
    memcpy(&header, &notes[i], sizeof header);
    const size_t name = i + sizeof header;
    if (header.n_namesz > notes.size() || header.n_descsz > notes.size()) return 0;
    const size_t content = i + up(sizeof header + header.n_namesz);
    const size_t next = content + up(header.n_descsz);
    if (content + header.n_descsz > notes.size()) return 0;
    int64_t difference = 0;
    if (header.n_type == kPlaceNoteType && header.n_namesz == sizeof kPlaceNoteOwner &&
        header.n_descsz == sizeof difference &&
        memcmp(&notes[name], kPlaceNoteOwner, sizeof kPlaceNoteOwner) == 0) {
      memcpy(&difference, &notes[content], sizeof difference);
      return at + content + static_cast<uint64_t>(difference);
    }
    i = next;
  }
  return 0;
}

// The address of the page of the module that is mapped at `begin`, or 0.
Address find_page(const ProcessMemory& memory, Address begin) {
  alignas(8) std::byte head[kHeadBytes];
  const size_t got = memory.read(begin, head, sizeof head);
  Elf64_Ehdr header;
  if (got < sizeof header) return 0;
  memcpy(&header, head, sizeof header);
  if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
      header.e_phentsize != sizeof(Elf64_Phdr))
    return 0;
  std::vector<Elf64_Phdr> segments(header.e_phnum);
  const size_t bytes = segments.size() * sizeof(Elf64_Phdr);
  if (header.e_phoff > got || bytes > got - header.e_phoff) return 0;
  memcpy(segments.data(), head + header.e_phoff, bytes);
  Address bias = begin;
  for (const Elf64_Phdr& segment : segments) {
    if (segment.p_type == PT_LOAD && segment.p_offset == 0) bias = begin - segment.p_vaddr;
  }
  for (const Elf64_Phdr& segment : segments) {
    if (segment.p_type != PT_NOTE || segment.p_memsz > kMostNotes) continue;
    const auto notes = memory.read_array<std::byte>(bias + segment.p_vaddr, segment.p_memsz);
    const Address page = find_note(notes, bias + segment.p_vaddr, segment.p_align == 8 ? 8 : 4);
    if (page != 0) return page;
  }
  return 0;
}

// A copy that nobody wrote to meanwhile, if one can be had soon.
bool read_page(const ProcessMemory& memory, Address at, StatsPage& page) {
  for (int attempt = 0; attempt < 50; ++attempt) {
    uint64_t sequence = 0;
    if (!memory.read_value(at, page) || page.magic != kStatsPageMagic) return false;
    if (!memory.read_value(at + offsetof(StatsPage, sequence), sequence)) return false;
    if (page.sequence == sequence && sequence % 2 == 0) return true;
    usleep(200);
  }
  return true;
}

// As the process itself sees its number: the last one of "NSpid:" (proc_pid_status(5)).
uint64_t own_number(pid_t process) {
  std::ifstream status(proc(process, "status"));
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with("NSpid:")) continue;
    const size_t last = line.find_last_of("\t ");
    return std::strtoull(line.c_str() + last + 1, nullptr, 10);
  }
  return static_cast<uint64_t>(process);
}

std::vector<pid_t> all_processes() {
  std::vector<pid_t> processes;
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", failed)) {
    const std::string name = entry.path().filename();
    pid_t process = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), process);
    if (error == std::errc() && end == name.data() + name.size()) processes.push_back(process);
  }
  std::sort(processes.begin(), processes.end());
  return processes;
}

std::string why(pid_t process, Sight sight) {
  switch (sight) {
    case Sight::protected_here:
      break;
    case Sight::not_protected:
      return fmt::format("process {}: is not protected (it runs without the library)", process);
    case Sight::not_permitted:
    case Sight::hidden:
      return fmt::format(
          "process {}: its memory may not be read (it belongs to somebody else, is not dumpable, or "
          "kernel.yama.ptrace_scope forbids it); root may",
          process);
    case Sight::gone:
      return fmt::format("process {}: there is no such process", process);
  }
  return "";
}

}  // namespace

Sight observe(pid_t process, StatsPage& page) {
  const ProcessMemory memory(process);
  std::vector<Module> modules;
  if (const int error = read_modules(memory, modules); error != 0)
    return error == ENOENT || error == ESRCH ? Sight::gone : Sight::not_permitted;
  const bool ours =
      std::any_of(modules.begin(), modules.end(), [](const Module& m) { return m.ours_by_name; });
  // The preloaded library is looked at first; a program that is linked with it has the note itself.
  std::stable_partition(modules.begin(), modules.end(), [](const Module& m) { return m.ours_by_name; });
  for (const Module& module : modules) {
    errno = 0;
    const Address at = find_page(memory, module.begin);
    if (errno == EPERM || errno == EACCES) return ours ? Sight::hidden : Sight::not_permitted;
    if (errno == ESRCH) return Sight::gone;
    if (at == 0 || !read_page(memory, at, page)) continue;
    // Who shares the memory of another process (vfork), or is a copy that the library does not know of, is
    // not what the page tells of.
    if (page.process_id != own_number(process)) return Sight::not_protected;
    page.process_id = static_cast<uint64_t>(process);
    return Sight::protected_here;
  }
  return Sight::not_protected;
}

// Fields 14 and 15 of /proc/PID/stat, in ticks; the command in the second may hold anything.
std::optional<uint64_t> cpu_ns_of(pid_t process) {
  std::ifstream file(proc(process, "stat"));
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const size_t behind = text.rfind(')');
  if (behind == std::string::npos) return {};
  std::istringstream fields(text.substr(behind + 1));
  std::string skipped;
  for (int i = 3; i < 14; ++i) fields >> skipped;
  uint64_t user = 0, system = 0;
  if (!(fields >> user >> system)) return {};
  return (user + system) * (1'000'000'000 / static_cast<uint64_t>(sysconf(_SC_CLK_TCK)));
}

Sighted observe_all() {
  Sighted seen;
  for (const pid_t process : all_processes()) {
    StatsPage page;
    switch (observe(process, page)) {
      case Sight::protected_here:
        seen.pages.push_back(page);
        break;
      case Sight::hidden:
        ++seen.hidden;
        break;
      case Sight::not_permitted:
        ++seen.not_permitted;
        break;
      case Sight::not_protected:
      case Sight::gone:
        break;
    }
  }
  return seen;
}

std::string nothing_seen(const Sighted& seen) {
  if (seen.hidden != 0)
    return fmt::format(
        "{} protected processes may not be read (somebody else's, not dumpable, or "
        "kernel.yama.ptrace_scope forbids it); root may",
        seen.hidden);
  if (seen.not_permitted != 0)
    return fmt::format("no protected process is seen; {} processes may not be looked at by this user",
                       seen.not_permitted);
  return "no process is protected (nonreuse run -- PROGRAM starts one)";
}

int run_stats(const StatsRequest& request) {
  std::vector<StatsPage> pages;
  int status = 0;
  if (!request.folder.empty()) {
    pages = read_pages(request.folder, 0);
    if (pages.empty()) throw Failure(1, fmt::format("folder {}: holds no statistics page", request.folder));
  } else if (request.all) {
    const Sighted seen = observe_all();
    pages = seen.pages;
    if (pages.empty()) throw Failure(1, nothing_seen(seen));
  } else if (request.processes.empty()) {
    throw Failure(kUsageStatus, "no process given (nonreuse stats PID..., or --all)");
  }
  for (const pid_t process : request.processes) {
    StatsPage page;
    const Sight sight = observe(process, page);
    if (sight == Sight::protected_here) {
      pages.push_back(page);
    } else {
      fmt::print(stderr, "nonreuse: {}\n", why(process, sight));
      status = 1;
    }
  }
  if (pages.empty()) return status;
  const StatisticsForm form = request.json         ? StatisticsForm::json
                              : request.prometheus ? StatisticsForm::prometheus
                                                   : StatisticsForm::text;
  Writer out([](void*, const char* text, size_t size) { return std::fwrite(text, 1, size, stdout) == size; },
             nullptr);
  write_statistics(out, form, pages, request.all || !request.folder.empty() || request.processes.size() > 1);
  return out.finish() && std::fflush(stdout) == 0 ? status : 1;
}

}  // namespace nonreuse::launcher
