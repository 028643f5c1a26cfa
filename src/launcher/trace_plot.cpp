#include "launcher/trace_plot.hpp"

#include <fmt/format.h>

#include <vector>

#include "base/report.hpp"
#include "launcher/chart.hpp"
#include "launcher/trace_series.hpp"

namespace nonreuse::launcher {
namespace {

std::string memory_script(const std::vector<MemoryPoint>& points) {
  std::string script = "$memory << EOD\n";
  const uint64_t first = points.empty() ? 0 : points.front().ns;
  constexpr double kMiB = 1048576.0;
  for (const MemoryPoint& p : points) {
    const std::string footprint =
        p.footprint == 0 ? "NaN" : fmt::format("{:.4f}", static_cast<double>(p.footprint) / kMiB);
    script += fmt::format("{:.6f} {:.4f} {:.4f} {:.4f} {}\n", static_cast<double>(p.ns - first) / 1e9,
                          static_cast<double>(p.live) / kMiB, static_cast<double>(p.quarantined) / kMiB,
                          static_cast<double>(p.held) / kMiB, footprint);
  }
  return script + "EOD\n";
}

template <class Name>
std::string bars_script(const char* block, const uint64_t (&counts)[65], Name&& name) {
  size_t first = 0, last = 64;
  while (first < 64 && counts[first] == 0) ++first;
  while (last > first && counts[last] == 0) --last;
  std::string script = fmt::format("${} << EOD\n", block);
  for (size_t i = first; i <= last; ++i) {
    script += fmt::format("\"{}\" {}\n", name(i), counts[i]);
  }
  return script + "EOD\n";
}

}  // namespace

void plot_trace(TraceReader& reader, size_t process, const std::string& file) {
  const TracePicture picture = read_picture(reader);
  const ProcessSeries& series = picture.series.of(process);
  const TracedProcess& of = reader.processes()[process];
  std::string script = memory_script(series.memory.points());
  script += bars_script("sizes", series.sizes,
                        [](size_t i) { return std::string(Line().bytes(uint64_t{1} << i).c_str()); });
  script += bars_script("lifetimes", series.lifetimes,
                        [](size_t i) { return std::string(Line().nanoseconds(uint64_t{1} << i).c_str()); });
  script += fmt::format("set multiplot title {} noenhanced\n",
                        chart_text(fmt::format("{} (process {})", of.command, of.process)));
  script +=
      "set grid\nset key outside right top\nset origin 0,0.45\nset size 1,0.5\n"
      "set xlabel 'seconds'\nset ylabel 'MiB'\nset yrange [0:*]\n"
      "plot $memory using 1:5 with steps lw 1.5 lc 'gray50' title 'footprint', "
      "$memory using 1:2 with steps lw 1.5 lc 'web-blue' title 'live', "
      "$memory using 1:3 with steps lc 'orange-red' title 'quarantined', "
      "$memory using 1:4 with steps lc 'dark-violet' title 'held'\n"
      "set key off\nset style data histograms\nset style fill solid 0.7\nset boxwidth 0.9\n"
      "set xtics rotate by -60 font ',8'\nset origin 0,0\nset size 0.5,0.45\nset xlabel 'size, up to'\n"
      "set ylabel 'blocks'\nset logscale y\nset yrange [0.8:*]\n"
      "plot $sizes using 2:xtic(1) lc 'web-blue'\n"
      "set origin 0.5,0\nset xlabel 'freed within'\n"
      "plot $lifetimes using 2:xtic(1) lc 'orange-red'\nunset multiplot\n";
  draw_chart(script, file, 1200, 900);
}

}  // namespace nonreuse::launcher
