// The report on dangling pointers: one JSON object for each process (docs/finding-dangling-pointers.md has
// the format, tests/report/sample.json an example), and the text made of it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "base/heap_descriptor.hpp"
#include "launcher/observed.hpp"

namespace nonreuse::launcher {

// Stops the process, looks, and lets it go on. `descriptor` is where the library told its own to be, or 0.
// `reporter` is the thread that asked for the report, whose frames inside the library are left out, or 0.
// Throws Failure with a line that says why it cannot be done.
nlohmann::json report_on(pid_t process, uint64_t descriptor = 0, pid_t reporter = 0);

// For a person.
std::string report_text(const nlohmann::json& report);

std::string json_text(const nlohmann::json& report);

// What follows the line of a misuse: lines with the prefix of messages.
std::string history_text(const ReportMessage& message);

// By the file's name: .json and .html are what they say, everything else is text. `reports` has one object
// for each process; a JSON file with several holds an array.
void write_report(const std::string& path, const std::vector<nlohmann::json>& reports);
std::string reports_text(const std::vector<nlohmann::json>& reports);

}  // namespace nonreuse::launcher
