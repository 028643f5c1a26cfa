// Statistics as text: for people, as JSON, and in Prometheus' text format. Used by the library at exit and by
// the launcher for what it reads from other processes; docs/statistics.md describes the forms.
// Thread-safe; allocates nothing.
#pragma once

#include <span>

#include "base/report.hpp"
#include "base/stats_page.hpp"

namespace nonreuse {

enum class StatisticsForm : uint8_t { text, json, prometheus };

// By the end of the file's name: .json, .prom, anything else.
StatisticsForm statistics_form(const char* file);

// Five lines that begin with "nonreuse: ".
void write_statistics_text(Writer& out, const nonreuse_statistics& statistics);

// What each process did itself, less what a fork's child has inherited. JSON: one object, or an array where
// `several`. Prometheus: each metric once, with a sample for every process.
void write_statistics(Writer& out, StatisticsForm form, std::span<const StatsPage> pages, bool several);

}  // namespace nonreuse
