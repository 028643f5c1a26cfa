#include "launcher/chart.hpp"

#include <fmt/format.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdio>

#include "launcher/program.hpp"

namespace nonreuse::launcher {

std::string chart_text(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("''") : std::string(1, c);
  return quoted + "'";
}

void draw_chart(const std::string& script, const std::string& file, int size_x, int size_y) {
  const bool svg = file.ends_with(".svg");
  if (!svg && !file.ends_with(".png"))
    throw Failure(kUsageStatus, file + ": a chart's name ends in .svg or .png");
  try {
    find_program("gnuplot");
  } catch (const Failure&) {
    throw Failure(kUsageStatus, "charts need gnuplot (Debian: gnuplot-nox)");
  }
  std::FILE* pipe = popen("gnuplot - 2>/dev/null", "w");
  if (pipe == nullptr) throw Failure(kUsageStatus, "gnuplot cannot be started");
  std::string whole = fmt::format("set terminal {} size {},{} {}background rgb 'white'\nset output {}\n",
                                  svg ? "svg" : "pngcairo", size_x, size_y,
                                  svg ? "dynamic mouse standalone " : "", chart_text(file));
  whole += script;
  whole += "\nunset output\n";
  std::fwrite(whole.data(), 1, whole.size(), pipe);
  const int status = pclose(pipe);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    throw Failure(1, fmt::format("gnuplot could not draw {}", file));
  }
}

}  // namespace nonreuse::launcher
