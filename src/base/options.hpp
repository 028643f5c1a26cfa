// The one table of run-time options: NONREUSE_OPTIONS="percent=25:min=8M:stats=1", the ancestor's
// MALLOC_* variables, and mallopt codes. The launcher prints its help from this table.
#pragma once

#include "base/types.hpp"

namespace nonreuse {

enum class StopChoice : uint8_t { automatic, ptrace, signal };
enum class KernelChoice : uint8_t { automatic, scalar, avx2, neon, avx512 };

// The values in force. Sizes in bytes.
struct Options {
  uint64_t percent;         // sweep when quarantine exceeds this share of live heap + roots
  bool percent_set;         // by somebody: a bound then, else where adapting begins
  uint64_t min;             // never sweep below this much quarantine; 0: adaptive
  uint64_t max;             // always sweep at this much quarantine; 0: no maximum
  uint64_t sweep_size;      // chunks of one pass; 0: all
  uint64_t unmap;           // chunks of at least this size give their pages back at free
  uint64_t pause;           // microseconds that threads may stand still, if it can be had; 0: any
  uint64_t readers;         // processes that may help to read in a stop; 0: none
  bool readers_set;         // by somebody; else 1 where there is a pause to keep to
  uint64_t cpu;             // percent of CPU time that sweeping may take while memory allows it
  uint64_t stop_timeout;    // milliseconds a sweep waits for threads to stop
  StopChoice stop;          // how threads are stopped
  KernelChoice kernel;      // which scan kernel
  bool sweep;               // false: never sweep; quarantined addresses are spent, their pages given back
  bool stats;               // print statistics on standard error at exit
  char stats_file[512];     // or write them to this file; "" for none
  bool unaligned;           // also scan words at odd addresses
  bool stacks;              // record where chunks are allocated and freed
  char trace[512];          // file to which calls are recorded; "" for none
  char stats_dir[512];      // directory in which each process keeps its statistics page; "" for none
  char report_socket[108];  // where a reporter listens; "" for none
};

// The defaults, from the compile-time settings.
Options default_options();

enum class OptionType : uint8_t {
  number,
  size,
  flag,
  choice,
  text,
  flag_or_file,  // 0, 1, or a file's name, which has a '.' or a '/' in it
};

struct OptionSpec {
  const char* name;  // in NONREUSE_OPTIONS
  OptionType type;
  const char* environment;  // the ancestor's variable, or nullptr
  int mallopt_code;         // 0: none
  uint64_t minimum, maximum;
  const char* choices;  // for choice: "auto|ptrace|signal"
  const char* help;     // one line
};

// The table; count in *count. The order is the order of the help.
const OptionSpec* option_table(size_t* count);

// Text of the option's current value in `options`, written to `out` (at most size bytes with the NUL).
void option_value_text(const Options& options, const OptionSpec& spec, char* out, size_t size);

// Where parse problems go: one complete line without the newline.
using ProblemSink = void (*)(const char* line);

// Parses "name=value:name=value". What is unknown or out of range is reported, one line each, and leaves the
// default; everything else takes effect. Returns the number of problems. Allocates nothing.
int parse_options(const char* text, Options& options, ProblemSink problem);

// Applies NONREUSE_OPTIONS and the ancestor's variables found in `environment` (NULL-terminated, as environ).
// NONREUSE_OPTIONS wins over the ancestor's variables.
int parse_environment(const char* const* environment, Options& options, ProblemSink problem);

// mallopt(3): true if `code` is known and the value was in range.
bool set_mallopt(int code, int value, Options& options);

}  // namespace nonreuse
