#include "launcher/trace_plot.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <vector>

#include "base/report.hpp"
#include "launcher/chart.hpp"
#include "launcher/trace_blocks.hpp"

namespace nonreuse::launcher {
namespace {

using trace::Rare;

constexpr size_t kMostPoints = 4000;
constexpr size_t kShortest = 12;  // 4 us: the clock of processes with one thread is no finer

struct Point {
  uint64_t ns, live, quarantined, held, footprint;
};

// Keeps at most kMostPoints: where there are too many, every second one goes, and fewer are taken from then
// on.
class Series {
 public:
  void add(const Point& point, bool important) {
    if (!important && ++skipped_ < every_) return;
    skipped_ = 0;
    points_.push_back(point);
    if (points_.size() < kMostPoints) return;
    for (size_t i = 0; 2 * i < points_.size(); ++i) points_[i] = points_[2 * i];
    points_.resize(points_.size() / 2);
    every_ *= 2;
  }
  const std::vector<Point>& points() const { return points_; }

 private:
  std::vector<Point> points_;
  uint64_t every_ = 1, skipped_ = 0;
};

class Painter : public BlockVisitor {
 public:
  explicit Painter(size_t process) : process_(process) {}

  void born(size_t process, uint64_t ns, const std::vector<TracedBlock>& inherited) override {
    if (process != process_) return;
    for (const TracedBlock& block : inherited) now_.live += block.size;
    add(ns, true);
  }
  void made(size_t process, size_t, const TracedBlock& block) override {
    if (process != process_) return;
    now_.live += block.size;
    ++sizes[static_cast<size_t>(std::bit_width(block.size - (block.size != 0)))];
    add(block.made_ns, false);
  }
  void resized(size_t process, size_t, const TracedBlock& now, const TracedBlock& before) override {
    if (process == process_) now_.live += now.size - before.size;
  }
  void freed(size_t process, size_t, const TracedBlock& block, uint64_t ns) override {
    if (process != process_) return;
    now_.live -= block.size;
    const uint64_t age = ns > block.made_ns ? ns - block.made_ns : 0;
    ++lifetimes[std::max(kShortest, static_cast<size_t>(std::bit_width(age)))];
    add(ns, false);
  }
  void noted(const TraceEvent& event) override {
    if (event.process != process_) return;
    const uint64_t* f = event.record.fields;
    if (event.record.rare == Rare::seal) {
      now_.quarantined += f[1];
      add(event.record.time, true);
    } else if (event.record.rare == Rare::gauges) {
      now_.quarantined = f[1];
      now_.held = f[2];
      now_.footprint = f[3];
      add(event.record.time, true);
    }
  }

  const std::vector<Point>& points() const { return series_.points(); }
  uint64_t sizes[65] = {}, lifetimes[65] = {};

 private:
  void add(uint64_t ns, bool important) {
    now_.ns = ns;
    series_.add(now_, important);
  }
  size_t process_;
  Point now_{};
  Series series_;
};

std::string memory_script(const Painter& painter) {
  std::string script = "$memory << EOD\n";
  const uint64_t first = painter.points().empty() ? 0 : painter.points().front().ns;
  constexpr double kMiB = 1048576.0;
  for (const Point& p : painter.points()) {
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
  Painter painter(process);
  BlockTracker tracker(reader.processes().size(), painter);
  reader.rewind();
  TraceEvent event;
  while (reader.next(event)) tracker.take(reader, event);

  const TracedProcess& of = reader.processes()[process];
  std::string script = memory_script(painter);
  script += bars_script("sizes", painter.sizes,
                        [](size_t i) { return std::string(Line().bytes(uint64_t{1} << i).c_str()); });
  script += bars_script("lifetimes", painter.lifetimes,
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
