// `nonreuse top`: all protected processes in a table that is refreshed.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "launcher/live_statistics.hpp"

namespace nonreuse::launcher {

enum class TopKey : uint8_t {
  process,
  command,
  heap,
  quarantine,
  held,
  footprint,
  sweeps,
  rate,
  cpu,
  pause_p99,
  pause_max,
  count
};

struct TopColumn {
  const char* title;
  const char* name;  // for --sort
  char key;          // for the keyboard
  int width;         // negative: to the left
};
extern const TopColumn kTopColumns[static_cast<size_t>(TopKey::count)];

struct TopRow {
  pid_t process;
  std::string command;
  uint64_t heap, quarantine, held, footprint, sweeps, pause_p99_ns, pause_max_ns;
  double sweeps_a_second, cpu_share;  // since the sample before, or since the process started
};

// Takes samples; remembers the last one for rates.
class TopSampler {
 public:
  std::vector<TopRow> sample();
  const Sighted& seen() const { return seen_; }

 private:
  struct Before {
    uint64_t started_ns, now_ns, sweeps, sweep_cpu_ns, cpu_ns;
  };
  TopRow row_of(const StatsPage& page, uint64_t now_ns, std::map<pid_t, Before>& samples);
  std::map<pid_t, Before> before_;
  Sighted seen_;
};

void sort_rows(std::vector<TopRow>& rows, TopKey key, bool reverse);
std::string top_heading();
std::string top_line(const TopRow& row);

struct TopRequest {
  bool once = false;
  double delay = 2;  // seconds
  std::string sort = "heap";
};
// The exit status. Throws Failure.
int run_top(const TopRequest& request);

// top_screen.cpp: the terminal, until the user quits.
void show_top(TopKey key, double delay);

}  // namespace nonreuse::launcher
