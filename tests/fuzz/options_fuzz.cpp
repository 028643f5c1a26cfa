// Any text as NONREUSE_OPTIONS: never outside the limits, every message one printable line, and what is
// accepted can be printed and read back.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/options.hpp"

namespace {

using namespace nonreuse;

void require(bool condition) {
  if (!condition) abort();
}

void check_line(const char* line) {
  require(strncmp(line, "nonreuse: ", 10) == 0);
  for (; *line != '\0'; ++line) require(*line >= ' ' && *line <= '~');
}

void ignore(const char*) {}

void check_limits(const Options& options) {
  require(options.percent >= 1 && options.percent <= 10000);
  require(options.unmap >= 4096);
  require(options.stop_timeout >= 1);
  require(options.stop <= StopChoice::signal);
  require(options.kernel <= KernelChoice::avx512);
  require(memchr(options.stats_dir, '\0', sizeof(options.stats_dir)) != nullptr);
}

std::string printed(const Options& options) {
  std::string text;
  size_t count = 0;
  const OptionSpec* table = option_table(&count);
  for (size_t i = 0; i < count; ++i) {
    char value[sizeof(Options::stats_dir)];
    option_value_text(options, table[i], value, sizeof(value));
    text += std::string(table[i].name) + "=" + value + ":";
  }
  return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  Options options = default_options();
  const int problems = parse_options(text.c_str(), options, check_line);
  require(problems >= 0);
  check_limits(options);

  Options again = default_options();
  require(parse_options(printed(options).c_str(), again, check_line) == 0);
  require(printed(options) == printed(again));

  const std::string own = "NONREUSE_OPTIONS=" + text;
  const std::string older = "MALLOC_UNMAP_THRESHOLD=" + text;
  const char* environment[] = {text.c_str(), own.c_str(), older.c_str(), nullptr};
  parse_environment(environment, options, ignore);
  check_limits(options);
  return 0;
}
