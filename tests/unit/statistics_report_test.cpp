// Statistics as text, and the page that observers read.
#include "base/statistics_report.hpp"

#include <gmock/gmock.h>

#include <string>
#include <thread>

#include "base/statistics_fields.hpp"
#include "platform/attributes.hpp"
#include "platform/statistics_place.hpp"

namespace nonreuse {
namespace {

using testing::HasSubstr;
using testing::Not;

bool append(void* to, const char* text, size_t size) {
  static_cast<std::string*>(to)->append(text, size);
  return true;
}

template <class Fill>
std::string written(Fill&& fill) {
  std::string text;
  Writer out(append, &text);
  fill(out);
  EXPECT_TRUE(out.finish());
  return text;
}

TEST(Writer, SecondsAreExact) {
  const auto seconds = [](uint64_t ns) { return written([ns](Writer& out) { out.seconds(ns); }); };
  EXPECT_EQ(seconds(0), "0");
  EXPECT_EQ(seconds(1), "0.000000001");
  EXPECT_EQ(seconds(1'250'000), "0.00125");
  EXPECT_EQ(seconds(7'000'000'000), "7");
  EXPECT_EQ(seconds(10'000'000'010), "10.00000001");
  EXPECT_EQ(seconds(~uint64_t{0}), "18446744073.709551615");
}

TEST(Writer, AnyBytesAreQuoted) {
  const auto json = [](const char* s, size_t n = 99) {
    return written([=](Writer& out) { out.json_string(s, n); });
  };
  EXPECT_EQ(json("plain"), R"("plain")");
  EXPECT_EQ(json("a\"b\\c\n\x01\x7f"), R"("a\"b\\c\u000a\u0001\u007f")");
  EXPECT_EQ(json("cut here", 3), R"("cut")");
  EXPECT_EQ(json("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"), "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"");
  // Lone bytes, too long forms, surrogates, beyond the last character, cut in the middle.
  for (const char* bad :
       {"\xff", "\xc0\xaf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\xc3"}) {
    EXPECT_THAT(json(bad), HasSubstr("\xef\xbf\xbd")) << bad;
    EXPECT_THAT(json(bad), Not(HasSubstr(bad)));
  }
  EXPECT_EQ(written([](Writer& out) { out.label_value("a\"b\\c\nd\te", 99); }), "\"a\\\"b\\\\c\\nd\te\"");
}

TEST(Writer, LongTextGoesThroughAndFailuresAreTold) {
  const std::string text(5000, 'x');
  EXPECT_EQ(written([&](Writer& out) { out.text(text.c_str()).number(7); }), text + "7");
  Writer full([](void*, const char*, size_t) { return false; }, nullptr);
  full.text("x");
  EXPECT_FALSE(full.finish());
}

TEST(StatisticsReport, TheNameSaysTheForm) {
  EXPECT_EQ(statistics_form("/a/b.json"), StatisticsForm::json);
  EXPECT_EQ(statistics_form("b.prom"), StatisticsForm::prometheus);
  for (const char* name : {"b.txt", "json", ".json", "a.json.gz", "a.JSON", ""})
    EXPECT_EQ(statistics_form(name), StatisticsForm::text) << name;
}

StatsPage page_of(uint64_t process, uint64_t scale) {
  StatsPage page = {};
  page.process_id = process;
  page.command[0] = 'p';
  page.statistics.sweeps = 7 * scale;
  page.statistics.held_chunks = 5 * scale;
  page.statistics.sweep_histogram[9] = 3 * scale;
  page.statistics.sweep_histogram[35] = 4 * scale;
  page.statistics.sweep_ns_total = 2'500'000'000;
  return page;
}

TEST(StatisticsReport, ChildrenCountFromTheirBeginning) {
  StatsPage page = page_of(1, 10);
  page.inherited = page_of(1, 1).statistics;
  const nonreuse_statistics own = less_inherited(page.statistics, page.inherited);
  EXPECT_EQ(own.sweeps, 63u);
  EXPECT_EQ(own.held_chunks, 50u) << "a gauge is what it is";
  EXPECT_EQ(own.sweep_histogram[9], 27u);
  page.inherited.sweeps = 1000;
  EXPECT_EQ(less_inherited(page.statistics, page.inherited).sweeps, 0u) << "never below nothing";
  page.statistics.pause_ns_max = 5'000'000;
  page.inherited = page.statistics;
  EXPECT_EQ(less_inherited(page.statistics, page.inherited).pause_ns_max, 0u) << "the parent's";
  ++page.statistics.pause_histogram[12];
  EXPECT_EQ(less_inherited(page.statistics, page.inherited).pause_ns_max, 8192u) << "its bucket's end";
}

TEST(StatisticsReport, ProcessesShareOneExposition) {
  const StatsPage pages[] = {page_of(1, 1), page_of(2, 10)};
  const std::string text =
      written([&](Writer& out) { write_statistics(out, StatisticsForm::prometheus, pages, true); });
  EXPECT_THAT(text, HasSubstr("# TYPE nonreuse_sweeps_total counter\n"
                              "nonreuse_sweeps_total{command=\"p\",pid=\"1\"} 7\n"
                              "nonreuse_sweeps_total{command=\"p\",pid=\"2\"} 70\n# HELP"));
  EXPECT_THAT(text,
              HasSubstr("nonreuse_sweep_seconds_bucket{command=\"p\",pid=\"2\",le=\"0.000001023\"} 30\n"));
  EXPECT_THAT(text,
              HasSubstr("nonreuse_sweep_seconds_bucket{command=\"p\",pid=\"2\",le=\"34.359738367\"} 30\n"
                        "nonreuse_sweep_seconds_bucket{command=\"p\",pid=\"2\",le=\"+Inf\"} 70\n"
                        "nonreuse_sweep_seconds_sum{command=\"p\",pid=\"2\"} 2.5\n"
                        "nonreuse_sweep_seconds_count{command=\"p\",pid=\"2\"} 70\n"));
}

TEST(StatsPageTest, ReadersCanTellACopyThatIsNotWhole) {
  StatsPage page = {};
  nonreuse_statistics now = {};
  for (const uint64_t value : {1u, 2u}) {
    now.sweeps = now.sweep_histogram[35] = value;
    EXPECT_TRUE(write_statistics(page, now));
    EXPECT_EQ(page.sequence, 2 * value);
    EXPECT_EQ(page.statistics.sweep_histogram[35], value);
  }
  page.sequence = 5;  // somebody writes
  now.sweeps = 9;
  EXPECT_FALSE(write_statistics(page, now));
  EXPECT_EQ(page.statistics.sweeps, 2u);
}

// The C library keeps the stacks of threads that have ended, with what the last calls left on them.
[[gnu::noinline]] void wipe_what_calls_left() {
  volatile char frames[32 * 1024];
  for (volatile char& byte : frames) byte = 0;
}

// A number there that looks like an address must not hold memory back.
TEST(StatsPageTest, ThePlaceIsNoRoot) {
  if (NONREUSE_SANITIZED)
    GTEST_SKIP() << "what instrumented code leaves on an ended thread's stack holds chunks";
  StatsPage& place = statistics_place();
  EXPECT_EQ(place.magic, kStatsPageMagic);
  static void* volatile root;
  // Bytes held with a word at `at` that points to a freed chunk. The thread that sweeps never saw the
  // address.
  const auto held_by = [](void* volatile* at, size_t size) {
    std::thread([=] {
      *at = dlmalloc(size);
      dlfree(*at);
      wipe_what_calls_left();
    }).join();
    EXPECT_EQ(dlmalloc_revoke(), 0);
    nonreuse_statistics now;
    nonreuse_get_statistics(&now);
    *at = nullptr;
    return now.held_bytes;
  };
  EXPECT_GE(held_by(&root, 50'000), 50'000u);
  EXPECT_LT(held_by(reinterpret_cast<void* volatile*>(place.command + 16), 500'000), 500'000u);
}

}  // namespace
}  // namespace nonreuse
