#include "base/options.hpp"

#include <array>
#include <cstddef>
#include <cstring>
#include <string_view>

#include "base/report.hpp"
#include "base/settings.hpp"

namespace nonreuse {
namespace {

constexpr uint64_t kKiB = 1024;
constexpr uint64_t kMiB = 1024 * kKiB;
constexpr uint64_t kLargestSize = kMiB * kMiB * 64;  // 2^46: what can be reserved at all
constexpr uint64_t kMostChunks = kMiB * kMiB;

constexpr const char* kVariable = "NONREUSE_OPTIONS";

// One row: what the world sees, and where the value lives in Options.
struct Row {
  OptionSpec spec;
  size_t offset;
};

constexpr std::array kRows = {
    Row{{"percent", OptionType::number, "MALLOC_MAX_FREEBUF_PERCENT", M_FREEBUF_PERCENT, 1, 10000, nullptr,
         "sweep when quarantine exceeds this percentage of live heap and roots; not given: adapts"},
        offsetof(Options, percent)},
    Row{{"min", OptionType::size, "MALLOC_MIN_FREEBUF_BYTES", M_MIN_FREEBUF, 0, kLargestSize, nullptr,
         "never sweep for less quarantine than this; 0: adapt"},
        offsetof(Options, min)},
    Row{{"max", OptionType::size, "MALLOC_MAX_FREEBUF_BYTES", M_MAX_FREEBUF, 0, kLargestSize, nullptr,
         "always sweep at this much quarantine; 0: no maximum"},
        offsetof(Options, max)},
    Row{{"sweep_size", OptionType::number, nullptr, M_SWEEP_SIZE, 0, kMostChunks, nullptr,
         "sweep at most this many chunks in one pass; 0: all"},
        offsetof(Options, sweep_size)},
    Row{{"unmap", OptionType::size, "MALLOC_UNMAP_THRESHOLD", M_UNMAP_THRESHOLD, 32 * kKiB, kLargestSize,
         nullptr, "chunks of at least this size give their pages back at free"},
        offsetof(Options, unmap)},
    Row{{"pause", OptionType::number, nullptr, 0, 0, 60000000, nullptr,
         "microseconds that a sweep may stop threads, if it can; longer ones read beside them (0: any)"},
        offsetof(Options, pause)},
    Row{{"readers", OptionType::number, nullptr, 0, 0, 15, nullptr,
         "processes that may help to read in a stop, if processors are free; see docs/settings.md"},
        offsetof(Options, readers)},
    Row{{"cpu", OptionType::number, nullptr, 0, 1, 100, nullptr,
         "percent of CPU time that sweeping may take while memory allows it"},
        offsetof(Options, cpu)},
    Row{{"stop_timeout", OptionType::number, nullptr, 0, 1, 600000, nullptr,
         "milliseconds that a sweep waits for threads to stop"},
        offsetof(Options, stop_timeout)},
    Row{{"stop", OptionType::choice, nullptr, 0, 0, 0, "auto|ptrace|signal", "how threads are stopped"},
        offsetof(Options, stop)},
    Row{{"kernel", OptionType::choice, nullptr, 0, 0, 0, "auto|scalar|avx2|neon|avx512",
         "which code scans memory for pointers"},
        offsetof(Options, kernel)},
    Row{{"sweep", OptionType::flag, nullptr, 0, 0, 1, nullptr,
         "0: never sweep; freed addresses are never used again"},
        offsetof(Options, sweep)},
    Row{{"stats", OptionType::flag_or_file, nullptr, 0, 0, sizeof(Options::stats_file) - 1, nullptr,
         "1: print statistics on standard error at exit; or the file for them (.json, .prom, else text)"},
        offsetof(Options, stats)},
    Row{{"unaligned", OptionType::flag, nullptr, 0, 0, 1, nullptr,
         "1: also look for pointers at addresses that are not multiples of 8"},
        offsetof(Options, unaligned)},
    Row{{"stacks", OptionType::flag, nullptr, 0, 0, 1, nullptr,
         "1: record where each chunk is allocated and freed, for reports of misuse and of dangling pointers"},
        offsetof(Options, stacks)},
    Row{{"trace", OptionType::text, nullptr, 0, 0, sizeof(Options::trace) - 1, nullptr,
         "file to which every call is recorded, for nonreuse trace and nonreuse replay"},
        offsetof(Options, trace)},
    Row{{"report_socket", OptionType::text, nullptr, 0, 0, sizeof(Options::report_socket) - 1, nullptr,
         "socket at which a reporter listens for processes that end or misuse the heap"},
        offsetof(Options, report_socket)},
    Row{{"stats_dir", OptionType::text, nullptr, 0, 0, sizeof(Options::stats_dir) - 1, nullptr,
         "directory in which each process keeps a page of statistics"},
        offsetof(Options, stats_dir)},
};

constexpr auto kTable = [] {
  std::array<OptionSpec, kRows.size()> table{};
  for (size_t i = 0; i < table.size(); ++i) table[i] = kRows[i].spec;
  return table;
}();

// mallopt(3) codes that tune what this heap does not have. A program that sets one has done nothing wrong.
constexpr int kCodesWithoutEffect[] = {
    -1,  // M_TRIM_THRESHOLD
    -2,  // M_TOP_PAD
    -4,  // M_MMAP_MAX
    -5,  // M_CHECK_ACTION
    -6,  // M_PERTURB
    -7,  // M_ARENA_TEST
    -8,  // M_ARENA_MAX
    1,   // M_MXFAST
};
constexpr int kCodeMmapThreshold = -3;

enum class Verdict : uint8_t { good, malformed, out_of_range };

template <class T>
T& field(Options& options, const Row& row) {
  return *reinterpret_cast<T*>(reinterpret_cast<char*>(&options) + row.offset);
}

const Row* find_row(std::string_view name) {
  for (const Row& row : kRows) {
    if (name == row.spec.name) return &row;
  }
  return nullptr;
}

const Row* row_of(const OptionSpec& spec) {
  return find_row(spec.name);
}

uint64_t unit_of(char suffix) {
  switch (suffix) {
    case 'K':
    case 'k':
      return kKiB;
    case 'M':
    case 'm':
      return kMiB;
    case 'G':
    case 'g':
      return kKiB * kMiB;
    case 'T':
    case 't':
      return kMiB * kMiB;
    default:
      return 0;
  }
}

// Decimal digits, with a unit behind them if `with_unit`. Too large for 64 bits counts as out of range.
Verdict parse_number(std::string_view text, bool with_unit, uint64_t& value) {
  uint64_t unit = 1;
  if (with_unit && !text.empty() && unit_of(text.back()) != 0) {
    unit = unit_of(text.back());
    text.remove_suffix(1);
  }
  if (text.empty()) return Verdict::malformed;
  uint64_t sum = 0;
  bool overflow = false;
  for (const char c : text) {
    if (c < '0' || c > '9') return Verdict::malformed;
    overflow |= __builtin_mul_overflow(sum, uint64_t{10}, &sum);
    overflow |= __builtin_add_overflow(sum, static_cast<uint64_t>(c - '0'), &sum);
  }
  overflow |= __builtin_mul_overflow(sum, unit, &sum);
  if (overflow) return Verdict::out_of_range;
  value = sum;
  return Verdict::good;
}

// Takes the next word off `list`, up to `separator`.
std::string_view take_word(std::string_view& list, char separator) {
  size_t length = 0;
  while (length < list.size() && list[length] != separator) ++length;
  const std::string_view word(list.data(), length);
  list.remove_prefix(length < list.size() ? length + 1 : length);
  return word;
}

Verdict parse_choice(std::string_view text, const char* choices, uint8_t& value) {
  std::string_view rest(choices);
  for (uint8_t index = 0; !rest.empty(); ++index) {
    if (take_word(rest, '|') == text) {
      value = index;
      return Verdict::good;
    }
  }
  return Verdict::malformed;
}

Verdict store_text(std::string_view text, uint64_t longest, char* to) {
  if (text.size() > longest) return Verdict::out_of_range;
  memcpy(to, text.data(), text.size());
  to[text.size()] = '\0';
  return Verdict::good;
}

// The one option of this kind. What is neither looks like a mistake, not like a file's name.
Verdict parse_flag_or_file(std::string_view text, uint64_t longest, Options& options) {
  const bool flag = text == "0" || text == "1";
  if (!flag && text.find_first_of("./") == std::string_view::npos) return Verdict::malformed;
  const Verdict verdict = store_text(flag ? "" : text, longest, options.stats_file);
  if (verdict == Verdict::good) options.stats = text == "1";
  return verdict;
}

void note_set(const Row& row, Options& options) {
  if (row.offset == offsetof(Options, percent)) options.percent_set = true;
  if (row.offset == offsetof(Options, readers)) options.readers_set = true;
}

// Stores `text` as the value of `row`, or leaves the value as it was.
Verdict assign(const Row& row, std::string_view text, Options& options) {
  const OptionSpec& spec = row.spec;
  switch (spec.type) {
    case OptionType::choice:
      return parse_choice(text, spec.choices, field<uint8_t>(options, row));
    case OptionType::text:
      return store_text(text, spec.maximum, &field<char>(options, row));
    case OptionType::flag_or_file:
      return parse_flag_or_file(text, spec.maximum, options);
    case OptionType::number:
    case OptionType::size:
    case OptionType::flag:
      break;
  }
  uint64_t value = 0;
  const Verdict verdict = parse_number(text, spec.type == OptionType::size, value);
  if (verdict != Verdict::good) return verdict;
  if (value < spec.minimum || value > spec.maximum) return Verdict::out_of_range;
  if (spec.type == OptionType::flag) {
    field<bool>(options, row) = value != 0;
  } else {
    field<uint64_t>(options, row) = value;
    note_set(row, options);
  }
  return Verdict::good;
}

// What a user wrote, fit for a message: cut to a sensible length, nothing unprintable.
class Quote {
 public:
  explicit Quote(std::string_view text) {
    const bool cut = text.size() > kLongest;
    size_t length = 0;
    for (; length < (cut ? kLongest : text.size()); ++length) {
      const char c = text[length];
      buffer_[length] = c >= ' ' && c <= '~' ? c : '?';
    }
    memcpy(buffer_ + length, "...", 3);
    buffer_[length + (cut ? 3 : 0)] = '\0';
  }
  const char* c_str() const { return buffer_; }

 private:
  static constexpr size_t kLongest = 60;
  char buffer_[kLongest + 4];
};

// Writes `value` with the largest unit that divides it: 262144 is "256K", which parse_number reads back.
class SizeText {
 public:
  explicit SizeText(uint64_t value) {
    static constexpr char kUnits[] = {'\0', 'K', 'M', 'G', 'T'};
    size_t unit = 0;
    while (value != 0 && value % kKiB == 0 && unit + 1 < sizeof(kUnits)) {
      value /= kKiB;
      ++unit;
    }
    char* at = buffer_ + sizeof(buffer_) - 1;
    *at = '\0';
    if (unit != 0) *--at = kUnits[unit];
    do {
      *--at = static_cast<char>('0' + value % 10);
      value /= 10;
    } while (value != 0);
    start_ = at;
  }
  SizeText(const SizeText&) = delete;
  SizeText& operator=(const SizeText&) = delete;
  const char* c_str() const { return start_; }

 private:
  char buffer_[24];
  const char* start_;
};

void add_limits(Line& line, const OptionSpec& spec) {
  if (spec.type == OptionType::size) {
    line.text(SizeText(spec.minimum).c_str()).text(" to ").text(SizeText(spec.maximum).c_str());
  } else {
    line.number(spec.minimum).text(" to ").number(spec.maximum);
  }
}

void report_value(const Row& row, const char* variable, std::string_view text, Verdict verdict,
                  const Options& options, ProblemSink problem) {
  Line line;
  line.text("nonreuse: ");
  if (variable != nullptr) {
    line.text(variable);
  } else {
    line.text("option ").text(row.spec.name);
  }
  line.text("=").text(Quote(text).c_str());
  if (row.spec.type == OptionType::flag_or_file && verdict == Verdict::malformed) {
    line.text(" is not 0, 1 or the name of a file (with a . or / in it)");
  } else if (row.spec.type == OptionType::text || row.spec.type == OptionType::flag_or_file) {
    line.text(" is too long (at most ").number(row.spec.maximum).text(" bytes)");
  } else if (row.spec.type == OptionType::choice) {
    line.text(" is not one of ").text(row.spec.choices);
  } else if (verdict == Verdict::out_of_range) {
    line.text(" is out of range (");
    add_limits(line, row.spec);
    line.text(")");
  } else if (row.spec.type == OptionType::size) {
    line.text(" is not a size (a number, with K, M, G or T behind it)");
  } else {
    line.text(" is not a number");
  }
  char used[sizeof(Options::stats_dir)];
  option_value_text(options, row.spec, used, sizeof(used));
  line.text("; ").text(used[0] == '\0' ? "nothing" : Quote(used).c_str()).text(" is used");
  problem(line.c_str());
}

void report_unknown(std::string_view name, ProblemSink problem) {
  Line line;
  line.text("nonreuse: option '").text(Quote(name).c_str()).text("' is unknown; it is ignored (known: ");
  const char* separator = "";
  for (const OptionSpec& spec : kTable) {
    line.text(separator).text(spec.name);
    separator = ", ";
  }
  line.text(")");
  problem(line.c_str());
}

void report_no_value(std::string_view name, ProblemSink problem) {
  Line line;
  line.text("nonreuse: option '").text(Quote(name).c_str()).text("' has no value; it is ignored (write ");
  line.text(Quote(name).c_str()).text("=VALUE)");
  problem(line.c_str());
}

// One "name=value". Returns false after reporting a problem.
bool parse_item(std::string_view item, Options& options, ProblemSink problem) {
  std::string_view value = item;
  const std::string_view name = take_word(value, '=');
  const Row* row = find_row(name);
  if (row == nullptr) {
    report_unknown(name, problem);
    return false;
  }
  if (name.size() == item.size()) {
    report_no_value(name, problem);
    return false;
  }
  const Verdict verdict = assign(*row, value, options);
  if (verdict == Verdict::good) return true;
  report_value(*row, nullptr, value, verdict, options, problem);
  return false;
}

// The value of `name`, or nullptr. The first of several wins, as with getenv(3).
const char* lookup(const char* const* environment, std::string_view name) {
  for (; *environment != nullptr; ++environment) {
    if (strncmp(*environment, name.data(), name.size()) == 0 && (*environment)[name.size()] == '=') {
      return *environment + name.size() + 1;
    }
  }
  return nullptr;
}

const Row* row_of_code(int code) {
  if (code == kCodeMmapThreshold) code = M_UNMAP_THRESHOLD;
  for (const Row& row : kRows) {
    if (row.spec.mallopt_code != 0 && row.spec.mallopt_code == code) return &row;
  }
  return nullptr;
}

}  // namespace

Options default_options() {
  Options options;
  memset(&options, 0, sizeof(options));
  options.percent = kDefaultFreebufPercent;
  options.sweep_size = kDefaultSweepSize;
  options.unmap = 32 * 1024 * kKiB;
  options.pause = 0;
  options.readers = 0;
  options.cpu = 5;
  options.stop_timeout = 1000;
  options.stop = StopChoice::automatic;
  options.kernel = KernelChoice::automatic;
  options.sweep = true;
  options.stats = kSweepStats;
  memcpy(options.trace, kDefaultTrace, sizeof kDefaultTrace);
  return options;
}

const OptionSpec* option_table(size_t* count) {
  *count = kTable.size();
  return kTable.data();
}

void option_value_text(const Options& options, const OptionSpec& spec, char* out, size_t size) {
  if (size == 0) return;
  const Row& row = *row_of(spec);
  Options& values = const_cast<Options&>(options);
  const auto write = [out, size](std::string_view what) {
    const size_t length = what.size() < size - 1 ? what.size() : size - 1;
    memcpy(out, what.data(), length);
    out[length] = '\0';
  };
  Line line;
  switch (spec.type) {
    case OptionType::number:
      write(line.number(field<uint64_t>(values, row)).c_str());
      break;
    case OptionType::size:
      write(SizeText(field<uint64_t>(values, row)).c_str());
      break;
    case OptionType::flag:
      write(field<bool>(values, row) ? "1" : "0");
      break;
    case OptionType::choice: {
      std::string_view rest(spec.choices);
      for (unsigned skip = field<uint8_t>(values, row); skip > 0; --skip) take_word(rest, '|');
      write(take_word(rest, '|'));
      break;
    }
    case OptionType::flag_or_file:
      write(values.stats_file[0] != '\0' ? values.stats_file : values.stats ? "1" : "0");
      break;
    case OptionType::text:
      write(&field<char>(values, row));
      break;
  }
}

int parse_options(const char* text, Options& options, ProblemSink problem) {
  int problems = 0;
  std::string_view rest(text);
  while (!rest.empty()) {
    const std::string_view item = take_word(rest, ':');
    if (!item.empty() && !parse_item(item, options, problem)) ++problems;
  }
  return problems;
}

int parse_environment(const char* const* environment, Options& options, ProblemSink problem) {
  int problems = 0;
  for (const Row& row : kRows) {
    if (row.spec.environment == nullptr) continue;
    const char* text = lookup(environment, row.spec.environment);
    if (text == nullptr) continue;
    const Verdict verdict = assign(row, text, options);
    if (verdict == Verdict::good) continue;
    report_value(row, row.spec.environment, text, verdict, options, problem);
    ++problems;
  }
  if (const char* text = lookup(environment, kVariable)) problems += parse_options(text, options, problem);
  return problems;
}

bool set_mallopt(int code, int value, Options& options) {
  for (const int known : kCodesWithoutEffect) {
    if (code == known) return true;
  }
  const Row* row = row_of_code(code);
  if (row == nullptr || value < 0) return false;
  const auto number = static_cast<uint64_t>(value);
  if (number < row->spec.minimum || number > row->spec.maximum) return false;
  field<uint64_t>(options, *row) = number;
  note_set(*row, options);
  return true;
}

}  // namespace nonreuse
