// The figures that protected processes leave in their statistics pages, and the text made of them.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/stats_page.hpp"

namespace nonreuse::launcher {

// The pages in `folder`, oldest process first; files that are no whole statistics page are passed over.
// Pages of processes that started before `not_before_ns` (CLOCK_REALTIME) are left out.
std::vector<StatsPage> read_pages(const std::string& folder, uint64_t not_before_ns);

// The summary for a person: the main process first, then all together if there are more.
std::string summary_text(const std::vector<StatsPage>& pages, pid_t main_process);

// Sums and maxima over the pages: counters (less what a fork's child inherited) and gauges are added, the
// longest times are the largest. footprint_max is the sum of each process's maximum: an upper bound.
nonreuse_statistics total_of(const std::vector<StatsPage>& pages);

}  // namespace nonreuse::launcher
