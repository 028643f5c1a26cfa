// Charts, drawn by gnuplot(1).
#pragma once

#include <string>

namespace nonreuse::launcher {

// Runs a script. `file` decides the form: .svg or .png. The script finds `size_x` and `size_y` in pixels
// applied. Throws Failure where gnuplot is missing, or fails, or the name has another ending.
void draw_chart(const std::string& script, const std::string& file, int size_x, int size_y);

// Text for a script, in quotes.
std::string chart_text(const std::string& text);

}  // namespace nonreuse::launcher
