// The table of the heap's options as command-line options, and as text for people.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/options.hpp"

namespace nonreuse::launcher {

inline constexpr const char* kOptionsVariable = "NONREUSE_OPTIONS";
inline constexpr const char* kPreloadVariable = "LD_PRELOAD";

// What one command was given of them.
struct HeapOptions {
  std::vector<std::string> values;  // of each table entry, in the table's order; "" where not given
  std::vector<bool> given;
  std::string raw;  // several as one text

  // The command line's part of NONREUSE_OPTIONS, checked: throws Failure for what the library would only warn
  // of.
  std::string text() const;
};

// The table, and an entry's default and values as people read them.
std::span<const OptionSpec> option_specs();
std::string default_text(const OptionSpec& spec);
std::string values_text(const OptionSpec& spec);

// Throws Failure unless all of "name=value:name=value" is good.
void check_options(const std::string& text);
// Joins with ":"; either part may be empty.
std::string joined(const std::string& first, const std::string& second);
// The environment variable, or "".
std::string variable(const char* name);
void print_option_table();

}  // namespace nonreuse::launcher
