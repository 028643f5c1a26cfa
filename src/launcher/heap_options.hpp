// The table of the heap's options as command-line options, and as text for people.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace nonreuse::launcher {

inline constexpr const char* kOptionsVariable = "NONREUSE_OPTIONS";
inline constexpr const char* kPreloadVariable = "LD_PRELOAD";

// What one command was given of them.
class HeapOptions {
 public:
  // One command-line option for each entry of the table, and --options: the help is the table.
  void add_to(CLI::App& command);
  // The command line's part of NONREUSE_OPTIONS, checked: throws Failure for what the library would only warn
  // of.
  std::string text() const;

 private:
  std::vector<std::string> values_;  // of each table entry, in the table's order; "" where not given
  std::vector<bool> given_;
  std::string raw_;
};

// Throws Failure unless all of "name=value:name=value" is good.
void check_options(const std::string& text);
// Joins with ":"; either part may be empty.
std::string joined(const std::string& first, const std::string& second);
// The environment variable, or "".
std::string variable(const char* name);
void print_option_table();

}  // namespace nonreuse::launcher
