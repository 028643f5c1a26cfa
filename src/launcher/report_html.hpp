// The report on dangling pointers as one self-contained page.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace nonreuse::launcher {

// `report` is the object for a process (tests/report/sample.json), or an array of them.
std::string report_html(const nlohmann::json& report);

}  // namespace nonreuse::launcher
