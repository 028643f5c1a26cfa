// Pages for a browser: each is one file with its data, style, scripts and the charting library in it, so that
// it opens without a network.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace nonreuse::launcher {

// The page of a report on dangling pointers: the object of a process (tests/report/sample.json is one), or an
// array of them.
// Throws Failure where this launcher was built without the charting library.
std::string report_html(const nlohmann::json& dangling);

// A page that runs `script` over `data`, which scripts find in the element "data".
std::string html_page(const std::string& title, std::string_view script, const std::string& data);

}  // namespace nonreuse::launcher
