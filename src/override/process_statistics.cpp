#include "override/process_statistics.hpp"

#include <cstring>

#include "base/statistics_report.hpp"
#include "override/process_heap.hpp"
#include "platform/output_file.hpp"
#include "platform/statistics_place.hpp"

namespace nonreuse {
namespace {

// What no later call changes. The magic is set by who knows that the statistics are there, too.
void describe(StatsPage& page, bool child) {
  page.sequence = 0;
  page.process_id = static_cast<uint64_t>(os::process_id());
  page.started_ns = os::wall_clock_ns();
  page.finished = 0;
  os::command_name(page.command);
  page.inherited = {};
  if (child) process_heap.statistics(page.inherited);
}

void attach_pages(bool child) {
  StatsPage* place = &statistics_place();
  describe(*place, child);
  StatsPage* shared = nullptr;
  if (const Options& options = process_heap.options(); options.stats_dir[0] != '\0')
    shared = static_cast<StatsPage*>(os::map_shared_file(options.stats_dir, kStatsPageBytes));
  if (shared != nullptr) describe(*shared, child);
  process_heap.attach_stats_pages(place, shared);
  process_heap.publish_statistics();
  for (StatsPage* page : {place, shared}) {
    if (page != nullptr) std::atomic_ref<uint64_t>(page->magic).store(kStatsPageMagic);
  }
}

bool to_standard_error(void*, const char* text, size_t size) {
  os::write_error(text, size);
  return true;
}

// `pattern` with the process id for every %p, and % for %%. False: it does not fit.
bool expand_name(const char* pattern, char* out, size_t capacity) {
  size_t size = 0;
  const auto add = [&](const char* text, size_t length) {
    if (size + length >= capacity) return false;
    memcpy(out + size, text, length);
    size += length;
    return true;
  };
  Line process;
  process.number(static_cast<uint64_t>(os::process_id()));
  for (const char* at = pattern; *at != '\0'; ++at) {
    const bool special = at[0] == '%' && (at[1] == 'p' || at[1] == '%');
    if (special) ++at;
    const bool fits = special && *at == 'p' ? add(process.c_str(), process.size()) : add(at, 1);
    if (!fits) return false;
  }
  out[size] = '\0';
  return true;
}

void write_file(const char* pattern) {
  char name[544];
  OutputFile file;
  bool written = expand_name(pattern, name, sizeof name) && file.open(name);
  if (written) {
    Writer out([](void* to, const char* text,
                  size_t size) { return static_cast<OutputFile*>(to)->write(text, size); },
               &file);
    // A copy, since other threads may go on.
    StatsPage page = {};
    const StatsPage& place = statistics_place();
    page.process_id = place.process_id;
    page.started_ns = place.started_ns;
    page.finished = 1;
    memcpy(page.command, place.command, sizeof page.command);
    memcpy(&page.inherited, &place.inherited, sizeof page.inherited);
    process_heap.statistics(page.statistics);
    write_statistics(out, statistics_form(name), {&page, 1}, false);
    out.finish();
    written = file.close();
  }
  if (written) return;
  Line line;
  line.text("nonreuse: statistics ").text(pattern).text(": cannot be written");
  if (file.error() != 0) line.text(" (error ").number(static_cast<uint64_t>(file.error())).text(")");
  line.text("\n");
  os::write_error(line.c_str(), line.size());
}

}  // namespace

void start_statistics() {
  Options& options = process_heap.options();
  // Of the moment, as every shell has it: the program may go elsewhere.
  if (options.stats_file[0] != '\0') make_absolute(options.stats_file, sizeof options.stats_file);
  attach_pages(false);
}

void restart_statistics_in_child() {
  if (StatsPage* page = process_heap.shared_page(); page != nullptr) os::unmap(page, kStatsPageBytes);
  attach_pages(true);
}

void finish_statistics() {
  StatsPage& place = statistics_place();
  process_heap.publish_statistics();
  os::command_name(place.command);  // programs rename themselves
  place.finished = 1;
  if (StatsPage* page = process_heap.shared_page(); page != nullptr) page->finished = 1;
  if (process_heap.options().stats) print_statistics();
  if (process_heap.options().stats_file[0] != '\0') write_file(process_heap.options().stats_file);
}

void print_statistics() {
  nonreuse_statistics now;
  process_heap.statistics(now);
  Writer out(to_standard_error, nullptr);
  write_statistics_text(out, now);
  out.finish();
}

}  // namespace nonreuse
