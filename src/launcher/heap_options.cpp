#include "launcher/heap_options.hpp"

#include <fmt/format.h>
#include <stdlib.h>

#include "launcher/program.hpp"

namespace nonreuse::launcher {

std::span<const OptionSpec> option_specs() {
  size_t size = 0;
  const OptionSpec* first = option_table(&size);
  return {first, size};
}

std::string default_text(const OptionSpec& spec) {
  char text[sizeof(Options::stats_dir)];
  option_value_text(default_options(), spec, text, sizeof(text));
  return text;
}

namespace {

// A number as the table shows it: sizes with their unit.
std::string limit_text(const OptionSpec& spec, uint64_t value) {
  if (spec.type != OptionType::size) return fmt::format("{}", value);
  constexpr const char* kUnits[] = {"", "K", "M", "G", "T"};
  size_t unit = 0;
  for (; value != 0 && value % 1024 == 0 && unit < 4; ++unit) value /= 1024;
  return fmt::format("{}{}", value, kUnits[unit]);
}

}  // namespace

// "1 to 10000", "0|1", "auto|ptrace|signal", "text".
std::string values_text(const OptionSpec& spec) {
  switch (spec.type) {
    case OptionType::number:
    case OptionType::size:
      return fmt::format("{} to {}", limit_text(spec, spec.minimum), limit_text(spec, spec.maximum));
    case OptionType::flag:
      return "0|1";
    case OptionType::choice:
      return spec.choices;
    case OptionType::flag_or_file:
      return "0|1|FILE";
    case OptionType::text:
      return "text";
  }
  return "";
}

namespace {

std::vector<std::string> problems_found;

void keep_problem(const char* line) {
  problems_found.emplace_back(line);
}

}  // namespace

// Refuses what the library would only warn of: the person is here to correct it.
void check_options(const std::string& text) {
  Options scratch = default_options();
  problems_found.clear();
  if (parse_options(text.c_str(), scratch, keep_problem) == 0) return;
  std::string line = problems_found.front();
  constexpr std::string_view kPrefix = "nonreuse: ";
  if (line.starts_with(kPrefix)) line.erase(0, kPrefix.size());
  // The library's line goes on to say what it does instead; the launcher does not go on.
  const size_t consequence = line.rfind("; ");
  if (consequence != std::string::npos) line.erase(consequence);
  throw Failure(kUsageStatus, line + " (see: nonreuse options)");
}

std::string HeapOptions::text() const {
  check_options(raw);
  std::string all = raw;
  size_t index = 0;
  for (const OptionSpec& spec : option_specs()) {
    const size_t i = index++;
    if (!given[i]) continue;
    const std::string& value = values[i];
    if (value.find(':') != std::string::npos) {
      throw Failure(kUsageStatus,
                    fmt::format("option {}={} has a colon, which separates options", spec.name, value));
    }
    const std::string item = fmt::format("{}={}", spec.name, value);
    check_options(item);
    all += (all.empty() ? "" : ":") + item;
  }
  return all;
}

void print_option_table() {
  fmt::print(
      "Options of the heap: `nonreuse run --NAME VALUE -- PROGRAM`, or {}=\"NAME=VALUE:NAME=VALUE\".\n"
      "Sizes take K, M, G or T.\n\n",
      kOptionsVariable);
  fmt::print("{:<13} {:<10} {:<20} {}\n", "name", "default", "values", "meaning");
  for (const OptionSpec& spec : option_specs()) {
    const std::string standard = default_text(spec);
    fmt::print("{:<13} {:<10} {:<20} {}\n", spec.name, standard.empty() ? "-" : standard, values_text(spec),
               spec.help);
    if (spec.environment != nullptr) fmt::print("{:<45} also {}\n", "", spec.environment);
    if (spec.mallopt_code != 0) fmt::print("{:<45} also mallopt({}, value)\n", "", spec.mallopt_code);
  }
}

std::string joined(const std::string& first, const std::string& second) {
  if (first.empty() || second.empty()) return first + second;
  return first + ":" + second;
}

std::string variable(const char* name) {
  const char* value = getenv(name);
  return value != nullptr ? value : "";
}

}  // namespace nonreuse::launcher
