#include "launcher/symbols.hpp"

#include <cxxabi.h>
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string_view>

#include "platform/linux_registers.hpp"

namespace nonreuse::launcher {
namespace {

// Names of C are left alone: many a short one is a type's in the mangled form ("i" is int).
std::string demangled(const char* name) {
  if (!std::string_view(name).starts_with("_Z")) return name;
  int status = 0;
  const std::unique_ptr<char, decltype(&free)> text(abi::__cxa_demangle(name, nullptr, nullptr, &status),
                                                    free);
  return status == 0 && text ? text.get() : name;
}

std::string path_of(Dwfl_Module* module) {
  const char* file = nullptr;
  const char* name = dwfl_module_info(module, nullptr, nullptr, nullptr, nullptr, nullptr, &file, nullptr);
  const char* path = name != nullptr && name[0] == '/' ? name : file != nullptr ? file : name;
  return path == nullptr ? "" : path;
}

std::string last_part(const std::string& path) {
  return path.substr(path.find_last_of('/') + 1);
}

struct Walk {
  std::vector<LiveFrame> frames;
};

int on_frame(Dwfl_Frame* state, void* argument) {
  constexpr size_t kMost = 256;
  auto& walk = *static_cast<Walk*>(argument);
  Dwarf_Addr counter = 0;
  bool activation = false;
  Dwarf_Word stack_pointer = 0;
  if (!dwfl_frame_pc(state, &counter, &activation)) return DWARF_CB_ABORT;
  if (dwfl_frame_reg(state, kRegisterLayout.dwarf_stack_pointer, &stack_pointer) != 0) return DWARF_CB_ABORT;
  walk.frames.push_back({stack_pointer, counter, activation});
  return walk.frames.size() < kMost ? DWARF_CB_OK : DWARF_CB_ABORT;
}

}  // namespace

Symbols::Symbols(pid_t process) : process_(process) {
  static char* debug_path = nullptr;  // the standard one
  static const Dwfl_Callbacks callbacks = {dwfl_linux_proc_find_elf, dwfl_standard_find_debuginfo, nullptr,
                                           &debug_path};
  dwfl_ = dwfl_begin(&callbacks);
  if (dwfl_ == nullptr) return;
  dwfl_report_begin(dwfl_);
  dwfl_linux_proc_report(dwfl_, process);
  dwfl_report_end(dwfl_, nullptr, nullptr);
}

Symbols::~Symbols() {
  if (dwfl_ != nullptr) dwfl_end(dwfl_);
}

Dwfl_Module* Symbols::module(uint64_t address) const {
  return dwfl_ == nullptr ? nullptr : dwfl_addrmodule(dwfl_, address);
}

namespace {

std::string name_of(Dwarf_Die* function) {
  Dwarf_Attribute attribute;
  for (const unsigned which : {DW_AT_linkage_name, DW_AT_MIPS_linkage_name, DW_AT_name}) {
    const char* name = dwarf_formstring(dwarf_attr_integrate(function, which, &attribute));
    if (name != nullptr) return demangled(name);
  }
  return "";
}

// Where the inlined function was called.
void note_call(Dwarf_Die* unit, Dwarf_Die* inlined, CodeFrame& frame) {
  Dwarf_Attribute attribute;
  Dwarf_Word file = 0, line = 0;
  Dwarf_Files* files = nullptr;
  if (dwarf_formudata(dwarf_attr(inlined, DW_AT_call_file, &attribute), &file) != 0 ||
      dwarf_formudata(dwarf_attr(inlined, DW_AT_call_line, &attribute), &line) != 0 ||
      dwarf_getsrcfiles(unit, &files, nullptr) != 0)
    return;
  const char* name = dwarf_filesrc(files, file, nullptr, nullptr);
  frame.file = name == nullptr ? "" : name;
  frame.line = static_cast<int>(line);
}

// `frames` has one, of the function in the symbol table with the place of the instruction; those of functions
// that were inlined there are put before it.
void add_inlined(Dwfl_Module* module, uint64_t address, std::vector<CodeFrame>& frames) {
  Dwarf_Addr bias = 0;
  Dwarf_Die* unit = dwfl_module_addrdie(module, address, &bias);
  if (unit == nullptr) return;
  Dwarf_Die* scopes = nullptr;
  int count = dwarf_getscopes(unit, address - bias, &scopes);
  if (count <= 0) return;
  Dwarf_Die innermost = scopes[0];  // the scopes around it in the source; wanted are those in the code
  free(scopes);
  scopes = nullptr;
  count = dwarf_getscopes_die(&innermost, &scopes);
  CodeFrame outer = frames.back();
  const std::string function = outer.symbol;
  frames.clear();
  for (int i = 0; i < count && dwarf_tag(&scopes[i]) != DW_TAG_subprogram; ++i) {
    if (dwarf_tag(&scopes[i]) != DW_TAG_inlined_subroutine) continue;
    outer.symbol = name_of(&scopes[i]);
    frames.push_back(outer);
    note_call(unit, &scopes[i], outer);
  }
  free(scopes);
  outer.symbol = function;
  frames.push_back(outer);
}

}  // namespace

const std::vector<CodeFrame>& Symbols::frames_at(uint64_t address, bool exact) {
  const auto [place, fresh] = known_.try_emplace({address, exact});
  std::vector<CodeFrame>& frames = place->second;
  if (!fresh) return frames;
  CodeFrame& frame = frames.emplace_back();
  frame.address = address;
  const uint64_t at = exact ? address : address - 1;
  Dwfl_Module* in = module(at);
  if (in == nullptr) return frames;
  frame.module = path_of(in);
  GElf_Addr bias = 0;
  frame.offset = dwfl_module_getelf(in, &bias) == nullptr ? address : address - bias;
  if (const Symbol* symbol = find(in, at, true); symbol != nullptr)
    frame.symbol = demangled(symbol->name.c_str());
  if (Dwfl_Line* line = dwfl_module_getsrc(in, at); line != nullptr) {
    const char* file = dwfl_lineinfo(line, nullptr, &frame.line, nullptr, nullptr, nullptr);
    if (file != nullptr) frame.file = file;
  }
  add_inlined(in, at, frames);
  return frames;
}

DataName Symbols::data(uint64_t address, uint64_t inside) {
  DataName name;
  Dwfl_Module* in = module(inside);
  if (in == nullptr) return name;
  name.module = path_of(in);
  Dwarf_Addr begin = 0;
  dwfl_module_info(in, nullptr, &begin, nullptr, nullptr, nullptr, nullptr, nullptr);
  name.offset = address - begin;
  if (const Symbol* symbol = find(in, address, false); symbol != nullptr) {
    name.symbol = demangled(symbol->name.c_str());
    name.offset = address - symbol->begin;
  }
  return name;
}

const std::vector<Symbols::Symbol>& Symbols::table_of(Dwfl_Module* module) {
  const auto [place, fresh] = tables_.try_emplace(module);
  std::vector<Symbol>& table = place->second;
  if (!fresh) return table;
  const int count = dwfl_module_getsymtab(module);
  for (int i = 1; i < count; ++i) {
    GElf_Sym symbol;
    GElf_Addr value = 0;
    const char* name = dwfl_module_getsym_info(module, i, &symbol, &value, nullptr, nullptr, nullptr);
    if (name == nullptr || name[0] == '\0' || symbol.st_shndx == SHN_UNDEF || symbol.st_shndx == SHN_ABS)
      continue;
    const int type = GELF_ST_TYPE(symbol.st_info), binding = GELF_ST_BIND(symbol.st_info);
    const bool function = type == STT_FUNC || type == STT_GNU_IFUNC;
    if (!function && type != STT_OBJECT && type != STT_NOTYPE) continue;
    const std::string text(name);
    table.push_back({value, value + symbol.st_size,
                     binding == STB_GLOBAL ? 2
                     : binding == STB_WEAK ? 1
                                           : 0,
                     function || type == STT_NOTYPE, text.substr(0, text.find('@', 1))});
  }
  std::sort(table.begin(), table.end(), [](const Symbol& a, const Symbol& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.preference < b.preference;
  });
  return table;
}

// The best symbol around `address`.
const Symbols::Symbol* Symbols::find(Dwfl_Module* module, uint64_t address, bool function) {
  constexpr int kLooks = 64;  // symbols may lie in one another, and have aliases
  const std::vector<Symbol>& table = table_of(module);
  auto at = std::upper_bound(table.begin(), table.end(), address,
                             [](uint64_t value, const Symbol& symbol) { return value < symbol.begin; });
  for (int look = 0; look < kLooks && at != table.begin(); ++look) {
    --at;
    if (at->is_function == function && address - at->begin < std::max<uint64_t>(at->end - at->begin, 1))
      return &*at;
    if (at->is_function == function && at->begin == at->end && look == 0) return &*at;  // written in assembly
  }
  return nullptr;
}

namespace {
struct ThreadLocal {
  size_t number;
  DataName name;
  uint64_t offset;
};

bool has_thread_locals(Dwfl_Module* module) {
  GElf_Addr bias;
  Elf* elf = dwfl_module_getelf(module, &bias);
  size_t count = 0;
  if (elf == nullptr || elf_getphdrnum(elf, &count) != 0) return false;
  for (size_t i = 0; i < count; ++i) {
    GElf_Phdr segment;
    if (gelf_getphdr(elf, static_cast<int>(i), &segment) != nullptr && segment.p_type == PT_TLS) return true;
  }
  return false;
}

// Modules come in ascending order of addresses; the program is numbered first by the loader, the order of the
// others is its own. Only the program's are told.
int look_at_module(Dwfl_Module* module, void**, const char*, Dwarf_Addr, void* argument) {
  auto& wanted = *static_cast<ThreadLocal*>(argument);
  if (!has_thread_locals(module)) return DWARF_CB_OK;
  wanted.name.module = path_of(module);
  wanted.name.offset = wanted.offset;
  const int count = dwfl_module_getsymtab(module);
  for (int i = 1; i < count; ++i) {
    GElf_Sym symbol;
    GElf_Addr value;
    const char* name = dwfl_module_getsym_info(module, i, &symbol, &value, nullptr, nullptr, nullptr);
    if (name == nullptr || GELF_ST_TYPE(symbol.st_info) != STT_TLS || symbol.st_shndx == SHN_UNDEF) continue;
    if (wanted.offset - symbol.st_value >= symbol.st_size) continue;
    wanted.name.symbol = demangled(name);
    wanted.name.offset = wanted.offset - symbol.st_value;
    return DWARF_CB_ABORT;
  }
  return DWARF_CB_ABORT;
}
}  // namespace

DataName Symbols::thread_local_data(size_t number, uint64_t offset) const {
  ThreadLocal wanted{number, {}, offset};
  if (dwfl_ != nullptr && number == 1) dwfl_getmodules(dwfl_, look_at_module, &wanted, 0);
  return wanted.name;
}

std::vector<LiveFrame> Symbols::frames(pid_t thread) {
  if (dwfl_ == nullptr) return {};
  if (!attached_) attached_ = dwfl_linux_proc_attach(dwfl_, process_, true) == 0;
  if (!attached_) return {};
  Walk walk;
  dwfl_getthread_frames(dwfl_, thread, on_frame, &walk);
  return walk.frames;
}

std::string frame_text(const CodeFrame& frame) {
  if (frame.symbol.empty() && frame.file.empty() && !frame.module.empty())
    return fmt::format("{}+0x{:x}", last_part(frame.module), frame.offset);
  std::string what = frame.symbol.empty() ? fmt::format("0x{:x}", frame.address) : frame.symbol;
  if (!frame.file.empty()) return fmt::format("{} ({}:{})", what, last_part(frame.file), frame.line);
  if (!frame.module.empty()) return fmt::format("{} in {}", what, last_part(frame.module));
  return what;
}

}  // namespace nonreuse::launcher
