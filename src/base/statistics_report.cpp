#include "base/statistics_report.hpp"

#include <cstring>

#include "base/histogram.hpp"
#include "base/statistics_fields.hpp"

namespace nonreuse {
namespace {

// ---- for people

void print_line(Writer& out, Line& line) {
  out.line(line.text("\n"));
}

void write_page_text(Writer& out, const StatsPage& page) {
  char command[sizeof page.command + 1] = {};
  memcpy(command, page.command, sizeof page.command);
  Line heading;
  heading.text("nonreuse: ").text(command).text(" (process ").number(page.process_id).text(")");
  if (page.finished != 0) heading.text(", at its end");
  print_line(out, heading);
  write_statistics_text(out, less_inherited(page.statistics, page.inherited));
}

// ---- JSON

void write_page_json(Writer& out, const StatsPage& page) {
  const nonreuse_statistics own = less_inherited(page.statistics, page.inherited);
  out.text("{\"process\":").number(page.process_id).text(",\"command\":");
  out.json_string(page.command, sizeof page.command).text(",\"started\":").seconds(page.started_ns);
  out.text(",\"finished\":").text(page.finished != 0 ? "true" : "false");
  out.text(",\"statistics\":{\"version\":").number(own.version);
  for (const Figure& figure : kFigures)
    out.text(",\n\"").text(figure.name).text("\":").number(own.*figure.field);
  for (const FigureHistogram& histogram : kFigureHistograms) {
    out.text(",\n\"").text(histogram.name).text("\":[");
    for (size_t i = 0; i < kHistogramBuckets; ++i)
      out.text(i == 0 ? "" : ",").number((own.*histogram.counts)[i]);
    out.text("]");
  }
  out.text(",\n\"pause_ns_p99\":").number(histogram_percentile(own.pause_histogram, 99));
  out.text(",\n\"sweep_ns_p99\":").number(histogram_percentile(own.sweep_histogram, 99));
  out.text("}}");
}

void write_json(Writer& out, std::span<const StatsPage> pages, bool several) {
  if (several) out.text("[");
  for (size_t i = 0; i < pages.size(); ++i) {
    if (i != 0) out.text(",\n");
    write_page_json(out, pages[i]);
  }
  out.text(several ? "]\n" : "\n");
}

// ---- Prometheus (its text-based exposition format, version 0.0.4)

void write_help(Writer& out, const char* metric, const char* help, const char* type) {
  out.text("# HELP ").text(metric).text(" ").text(help).text(".\n");
  out.text("# TYPE ").text(metric).text(" ").text(type).text("\n");
}

// A sample's name and labels; `limit_ns` for the bucket of a histogram, 0 for the one without end.
constexpr uint64_t kNoBucket = ~uint64_t{0};
void write_sample(Writer& out, const char* metric, const char* suffix, const StatsPage& page,
                  uint64_t limit_ns = kNoBucket) {
  out.text(metric).text(suffix).text("{command=").label_value(page.command, sizeof page.command);
  out.text(",pid=\"").number(page.process_id).text("\"");
  if (limit_ns == 0) out.text(",le=\"+Inf\"");
  if (limit_ns != 0 && limit_ns != kNoBucket) out.text(",le=\"").seconds(limit_ns).text("\"");
  out.text("} ");
}

// From 1 us on; what is shorter is in the first. Durations are whole nanoseconds, and the library's buckets
// exclude their upper end: a limit is a nanosecond below it.
constexpr size_t kFirstBucket = 9;
void write_histogram(Writer& out, const FigureHistogram& histogram, const StatsPage& page,
                     const nonreuse_statistics& own) {
  const auto& counts = own.*histogram.counts;
  uint64_t seen = 0;
  for (size_t i = 0; i + 1 < kHistogramBuckets; ++i) {
    seen += counts[i];
    if (i < kFirstBucket) continue;
    write_sample(out, histogram.metric, "_bucket", page, (uint64_t{2} << i) - 1);
    out.number(seen).text("\n");
  }
  seen += counts[kHistogramBuckets - 1];
  write_sample(out, histogram.metric, "_bucket", page, 0);
  out.number(seen).text("\n");
  write_sample(out, histogram.metric, "_sum", page);
  out.seconds(own.*histogram.total_ns).text("\n");
  write_sample(out, histogram.metric, "_count", page);
  out.number(seen).text("\n");
}

void write_prometheus(Writer& out, std::span<const StatsPage> pages) {
  for (const Figure& figure : kFigures) {
    if (figure.metric == nullptr) continue;
    write_help(out, figure.metric, figure.help, figure.kind == FigureKind::counter ? "counter" : "gauge");
    for (const StatsPage& page : pages) {
      write_sample(out, figure.metric, "", page);
      const uint64_t value = less_inherited(page.statistics, page.inherited).*figure.field;
      if (figure.unit == FigureUnit::nanoseconds)
        out.seconds(value);
      else
        out.number(value);
      out.text("\n");
    }
  }
  for (const FigureHistogram& histogram : kFigureHistograms) {
    write_help(out, histogram.metric, histogram.help, "histogram");
    for (const StatsPage& page : pages)
      write_histogram(out, histogram, page, less_inherited(page.statistics, page.inherited));
  }
  write_help(out, "nonreuse_start_time_seconds", "When the process started, since the epoch", "gauge");
  for (const StatsPage& page : pages) {
    write_sample(out, "nonreuse_start_time_seconds", "", page);
    out.seconds(page.started_ns).text("\n");
  }
}

bool ends_with(const char* text, const char* end) {
  const size_t length = strlen(text), end_length = strlen(end);
  return length > end_length && strcmp(text + length - end_length, end) == 0;
}

}  // namespace

StatisticsForm statistics_form(const char* file) {
  if (ends_with(file, ".json")) return StatisticsForm::json;
  if (ends_with(file, ".prom")) return StatisticsForm::prometheus;
  return StatisticsForm::text;
}

void write_statistics_text(Writer& out, const nonreuse_statistics& s) {
  Line heap, quarantine, sweeps, scanned, pauses;
  heap.text("nonreuse: heap: ").bytes(s.live_bytes).text(" live, ").bytes(s.heap_bytes).text(" in use, ");
  heap.text("footprint ").bytes(s.footprint_bytes).text(" (at most ").bytes(s.footprint_max).text(")");
  print_line(out, heap);
  quarantine.text("nonreuse: quarantine: ").number(s.frees).text(" chunks freed (").bytes(s.freed_bytes);
  quarantine.text("), ").bytes(s.quarantined_bytes).text(" waiting, ").bytes(s.decommitted_bytes);
  quarantine.text(" given back, held ").number(s.held_chunks).text(" chunks (").bytes(s.held_bytes);
  print_line(out, quarantine.text(")"));
  sweeps.text("nonreuse: sweeps: ").number(s.sweeps).text(" (").number(s.sweeps_abandoned);
  sweeps.text(" abandoned), ").number(s.swept_chunks).text(" chunks (").bytes(s.swept_bytes);
  sweeps.text(") swept, ").number(s.bits_painted).text(" bits painted, ").number(s.bits_cleared);
  print_line(out, sweeps.text(" cleared, ").bytes(s.released_bytes).text(" released"));
  scanned.text("nonreuse: scanned: ").bytes(s.scanned_heap_bytes).text(" of heap, ");
  scanned.bytes(s.scanned_root_bytes).text(" of roots; sweep time ").nanoseconds(s.sweep_ns_total);
  print_line(out, scanned.text(", longest ").nanoseconds(s.sweep_ns_max));
  pauses.text("nonreuse: pauses: ").number(s.stops).text(" stops, ").nanoseconds(s.pause_ns_total);
  pauses.text(" in all, 99 % below ").nanoseconds(histogram_percentile(s.pause_histogram, 99));
  pauses.text(", longest ").nanoseconds(s.pause_ns_max).text("; ").number(s.concurrent_sweeps);
  pauses.text(" sweeps beside threads, ").bytes(s.reread_bytes).text(" read again in their stops");
  print_line(out, pauses);
}

void write_statistics(Writer& out, StatisticsForm form, std::span<const StatsPage> pages, bool several) {
  switch (form) {
    case StatisticsForm::text:
      for (const StatsPage& page : pages) write_page_text(out, page);
      break;
    case StatisticsForm::json:
      write_json(out, pages, several);
      break;
    case StatisticsForm::prometheus:
      write_prometheus(out, pages);
      break;
  }
}

}  // namespace nonreuse
