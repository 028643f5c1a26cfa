// Files that are part of the launcher; the build puts them into it (cmake/assets.cpp.in).
#pragma once

#include <string_view>

namespace nonreuse::launcher::assets {

std::string_view style();
std::string_view common_script();
std::string_view dangling_script();
std::string_view trace_script();
std::string_view chart_library();  // Chart.js; "" where it was missing

}  // namespace nonreuse::launcher::assets
