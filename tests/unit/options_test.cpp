// The option table: parsing, limits, messages, the ancestor's variables, mallopt codes.
#include "base/options.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <climits>
#include <string>
#include <vector>

#include "base/settings.hpp"

namespace nonreuse {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

std::vector<std::string> reported;

void keep(const char* line) {
  reported.emplace_back(line);
}

class OptionsTest : public testing::Test {
 protected:
  void SetUp() override { reported.clear(); }

  int parse(const char* text) { return parse_options(text, options, keep); }
  int environment(std::vector<const char*> variables) {
    variables.push_back(nullptr);
    return parse_environment(variables.data(), options, keep);
  }
  std::string value_of(const std::string& name) {
    size_t count = 0;
    const OptionSpec* table = option_table(&count);
    for (size_t i = 0; i < count; ++i) {
      if (table[i].name != name) continue;
      char text[600];
      option_value_text(options, table[i], text, sizeof(text));
      return text;
    }
    return "no such option";
  }

  Options options = default_options();
};

TEST_F(OptionsTest, DefaultsAreTheSettings) {
  EXPECT_EQ(options.percent, kDefaultFreebufPercent);
  EXPECT_FALSE(options.percent_set);
  EXPECT_FALSE(options.readers_set);
  EXPECT_EQ(options.sweep_size, kDefaultSweepSize);
  EXPECT_EQ(options.stats, kSweepStats);
  EXPECT_EQ(options.min, 0u);
  EXPECT_EQ(options.max, 0u);
  EXPECT_EQ(options.unmap, 32u << 20);
  EXPECT_EQ(options.stop_timeout, 1000u);
  EXPECT_EQ(options.stop, StopChoice::automatic);
  EXPECT_EQ(options.kernel, KernelChoice::automatic);
  EXPECT_TRUE(options.sweep);
  EXPECT_FALSE(options.unaligned);
  EXPECT_STREQ(options.stats_dir, "");
}

// Not given is not none: after memory was read beside the threads there is one then.
TEST_F(OptionsTest, NoReadersCanBeAskedFor) {
  EXPECT_EQ(parse("pause=1000:readers=0"), 0);
  EXPECT_EQ(options.readers, 0u);
  EXPECT_TRUE(options.readers_set);
}

TEST_F(OptionsTest, EveryOptionIsSet) {
  EXPECT_EQ(
      parse("percent=30:min=8M:max=1G:sweep_size=100:unmap=64K:stop_timeout=50:stop=signal:kernel=scalar:"
            "sweep=0:stats=1:unaligned=1:stats_dir=/run/pages"),
      0);
  EXPECT_THAT(reported, IsEmpty());
  EXPECT_EQ(options.percent, 30u);
  EXPECT_TRUE(options.percent_set);
  EXPECT_EQ(options.min, 8u << 20);
  EXPECT_EQ(options.max, 1u << 30);
  EXPECT_EQ(options.sweep_size, 100u);
  EXPECT_EQ(options.unmap, 64u << 10);
  EXPECT_EQ(options.stop_timeout, 50u);
  EXPECT_EQ(options.stop, StopChoice::signal);
  EXPECT_EQ(options.kernel, KernelChoice::scalar);
  EXPECT_FALSE(options.sweep);
  EXPECT_TRUE(options.stats);
  EXPECT_TRUE(options.unaligned);
  EXPECT_STREQ(options.stats_dir, "/run/pages");
}

TEST_F(OptionsTest, EveryChoiceHasItsValue) {
  EXPECT_EQ(parse("stop=ptrace:kernel=avx2"), 0);
  EXPECT_EQ(options.stop, StopChoice::ptrace);
  EXPECT_EQ(options.kernel, KernelChoice::avx2);
  EXPECT_EQ(parse("stop=auto:kernel=auto"), 0);
  EXPECT_EQ(options.stop, StopChoice::automatic);
  EXPECT_EQ(options.kernel, KernelChoice::automatic);
}

TEST_F(OptionsTest, SizesTakeUnitsOfEitherCase) {
  for (const auto& [text, bytes] : std::vector<std::pair<const char*, uint64_t>>{{"min=12", 12},
                                                                                 {"min=3k", 3 << 10},
                                                                                 {"min=3K", 3 << 10},
                                                                                 {"min=5m", 5 << 20},
                                                                                 {"min=2G", 2ULL << 30},
                                                                                 {"min=1T", 1ULL << 40},
                                                                                 {"min=64T", 64ULL << 40}}) {
    EXPECT_EQ(parse(text), 0) << text;
    EXPECT_EQ(options.min, bytes) << text;
  }
  EXPECT_THAT(reported, IsEmpty());
}

TEST_F(OptionsTest, UnknownNameIsSaidWithTheKnownOnes) {
  EXPECT_EQ(parse("percnt=30:min=1M"), 1);
  ASSERT_EQ(reported.size(), 1u);
  EXPECT_THAT(reported[0],
              StartsWith("nonreuse: option 'percnt' is unknown; it is ignored (known: percent, min,"));
  EXPECT_THAT(reported[0], HasSubstr("stats_dir)"));
  EXPECT_EQ(options.min, 1u << 20) << "what follows still counts";
}

TEST_F(OptionsTest, OutOfRangeKeepsTheValue) {
  options.percent = 25;
  EXPECT_EQ(parse("percent=0"), 1);
  EXPECT_EQ(parse("percent=10001"), 1);
  EXPECT_EQ(parse("percent=99999999999999999999999"), 1);
  EXPECT_EQ(options.percent, 25u);
  EXPECT_FALSE(options.percent_set);
  EXPECT_THAT(
      reported,
      ElementsAre(
          "nonreuse: option percent=0 is out of range (1 to 10000); 25 is used",
          "nonreuse: option percent=10001 is out of range (1 to 10000); 25 is used",
          "nonreuse: option percent=99999999999999999999999 is out of range (1 to 10000); 25 is used"));
}

TEST_F(OptionsTest, LimitsAreInclusive) {
  EXPECT_EQ(parse("percent=1"), 0);
  EXPECT_EQ(options.percent, 1u);
  EXPECT_EQ(parse("percent=10000"), 0);
  EXPECT_EQ(options.percent, 10000u);
  EXPECT_EQ(parse("unmap=32767"), 1);
  EXPECT_EQ(parse("unmap=32768"), 0);
  EXPECT_EQ(options.unmap, 32768u);
  EXPECT_EQ(parse("min=65T"), 1);
  EXPECT_EQ(parse("min=18446744073709551615G"), 1) << "an overflow by the unit";
}

TEST_F(OptionsTest, SizeRangeIsSaidInUnits) {
  EXPECT_EQ(parse("unmap=1"), 1);
  EXPECT_THAT(reported, ElementsAre("nonreuse: option unmap=1 is out of range (32K to 64T); 32M is used"));
}

TEST_F(OptionsTest, MalformedValuesAreRefused) {
  const Options before = options;
  for (const char* text :
       {"percent=",     "percent=x",        "percent=-1",  "percent=+1",  "percent= 1", "percent=1 ",
        "percent=0x10", "percent=1K",       "percent=1.5", "min=K",       "min=1KK",    "min=1KB",
        "min=M1",       "stats=2",          "stats=yes",   "stats=",      "stop=",      "stop=sig",
        "stop=signals", "stop=auto|ptrace", "stop=|",      "kernel=AVX2", "sweep=-0"}) {
    EXPECT_EQ(parse(text), 1) << text;
  }
  EXPECT_EQ(memcmp(&before, &options, sizeof(options)), 0);
  EXPECT_EQ(reported.size(), 23u);
  for (const std::string& line : reported) EXPECT_THAT(line, HasSubstr(" is used"));
}

TEST_F(OptionsTest, MessagesNameTheKindOfValue) {
  parse("percent=x:min=x:stop=x:stats=x");
  options.percent = 25;
  EXPECT_THAT(reported[0], HasSubstr("option percent=x is not a number; "));
  EXPECT_THAT(reported[1],
              HasSubstr("option min=x is not a size (a number, with K, M, G or T behind it); 0 is used"));
  EXPECT_THAT(reported[2], HasSubstr("option stop=x is not one of auto|ptrace|signal; auto is used"));
  EXPECT_THAT(reported[3], HasSubstr("stats=x is not 0, 1 or the name of a file (with a . or / in it); "));
  EXPECT_THAT(reported[3], HasSubstr(kSweepStats ? "; 1 is used" : "; 0 is used"));
}

TEST_F(OptionsTest, StatisticsGoToStandardErrorOrToAFile) {
  EXPECT_EQ(parse("stats=1"), 0);
  EXPECT_TRUE(options.stats);
  EXPECT_EQ(parse("stats=/a/b%p.json"), 0);
  EXPECT_FALSE(options.stats);
  EXPECT_STREQ(options.stats_file, "/a/b%p.json");
  EXPECT_EQ(parse("stats=2"), 1);
  EXPECT_STREQ(options.stats_file, "/a/b%p.json") << "what is wrong changes nothing";
  EXPECT_EQ(parse(("stats=/" + std::string(sizeof(options.stats_file), 'x')).c_str()), 1);
  EXPECT_THAT(reported.back(), HasSubstr("is too long (at most 511 bytes); /a/b%p.json is used"));
  EXPECT_EQ(parse("stats=x.txt:stats=0"), 0);
  EXPECT_FALSE(options.stats);
  EXPECT_STREQ(options.stats_file, "");
}

TEST_F(OptionsTest, NameWithoutValueIsRefused) {
  EXPECT_EQ(parse("stats"), 1);
  EXPECT_THAT(reported,
              ElementsAre("nonreuse: option 'stats' has no value; it is ignored (write stats=VALUE)"));
  EXPECT_EQ(options.stats, kSweepStats);
}

TEST_F(OptionsTest, EmptyItemsAreNothing) {
  EXPECT_EQ(parse(""), 0);
  EXPECT_EQ(parse(":"), 0);
  EXPECT_EQ(parse("::percent=7::"), 0);
  EXPECT_EQ(options.percent, 7u);
  EXPECT_EQ(parse("=5"), 1) << "an empty name is no name";
}

TEST_F(OptionsTest, TheLastOfSeveralWins) {
  EXPECT_EQ(parse("percent=7:percent=8"), 0);
  EXPECT_EQ(options.percent, 8u);
}

TEST_F(OptionsTest, AValueMayHoldAnEqualsSign) {
  EXPECT_EQ(parse("stats_dir=/a=b"), 0);
  EXPECT_STREQ(options.stats_dir, "/a=b");
}

TEST_F(OptionsTest, TextFitsOrIsRefused) {
  const std::string longest(sizeof(options.stats_dir) - 1, 'd');
  EXPECT_EQ(parse(("stats_dir=" + longest).c_str()), 0);
  EXPECT_EQ(options.stats_dir, longest);
  EXPECT_EQ(parse(("stats_dir=" + longest + "d").c_str()), 1);
  EXPECT_EQ(options.stats_dir, longest);
  EXPECT_THAT(reported[0], HasSubstr("is too long (at most 511 bytes)"));
}

TEST_F(OptionsTest, MessagesAreOneShortPrintableLine) {
  const std::string garbage = std::string(5000, 'x');
  EXPECT_EQ(parse((garbage + "=1:percent=1\n2\033[31m:percent=" + garbage).c_str()), 3);
  for (const std::string& line : reported) {
    EXPECT_LT(line.size(), 513u);
    for (const char c : line) EXPECT_TRUE(c >= ' ' && c <= '~') << line;
  }
  EXPECT_THAT(reported[1], HasSubstr("percent=1?2?[31m is not a number"));
  EXPECT_THAT(reported[2], HasSubstr("xxx... is not a number"));
}

TEST_F(OptionsTest, TheAncestorsVariablesCount) {
  EXPECT_EQ(environment({"HOME=/", "MALLOC_MIN_FREEBUF_BYTES=1M", "MALLOC_MAX_FREEBUF_BYTES=2097152",
                         "MALLOC_MAX_FREEBUF_PERCENT=40", "MALLOC_UNMAP_THRESHOLD=128K"}),
            0);
  EXPECT_EQ(options.min, 1u << 20);
  EXPECT_EQ(options.max, 2u << 20);
  EXPECT_EQ(options.percent, 40u);
  EXPECT_EQ(options.unmap, 128u << 10);
}

TEST_F(OptionsTest, OwnVariableWinsWhateverTheOrder) {
  EXPECT_EQ(environment({"NONREUSE_OPTIONS=percent=50", "MALLOC_MAX_FREEBUF_PERCENT=40"}), 0);
  EXPECT_EQ(options.percent, 50u);
}

TEST_F(OptionsTest, TheFirstOfEqualVariablesCounts) {
  EXPECT_EQ(environment({"NONREUSE_OPTIONS=percent=50", "NONREUSE_OPTIONS=percent=60"}), 0);
  EXPECT_EQ(options.percent, 50u);
}

TEST_F(OptionsTest, SimilarVariablesAreOthers) {
  EXPECT_EQ(environment({"NONREUSE_OPTIONS_=percent=50", "XNONREUSE_OPTIONS=percent=51", "NONREUSE_OPTIONS",
                         "NONREUSE_OPTION=percent=52"}),
            0);
  EXPECT_EQ(options.percent, kDefaultFreebufPercent);
}

TEST_F(OptionsTest, ProblemsOfTheAncestorsVariablesNameThem) {
  options.percent = 25;
  EXPECT_EQ(
      environment({"MALLOC_MAX_FREEBUF_PERCENT=abc", "MALLOC_UNMAP_THRESHOLD=1", "NONREUSE_OPTIONS=foo=1"}),
      3);
  EXPECT_EQ(reported[0], "nonreuse: MALLOC_MAX_FREEBUF_PERCENT=abc is not a number; 25 is used");
  EXPECT_EQ(reported[1], "nonreuse: MALLOC_UNMAP_THRESHOLD=1 is out of range (32K to 64T); 32M is used");
  EXPECT_THAT(reported[2], StartsWith("nonreuse: option 'foo' is unknown"));
}

TEST_F(OptionsTest, MalloptCodesOfThisHeap) {
  EXPECT_TRUE(set_mallopt(M_FREEBUF_PERCENT, 33, options));
  EXPECT_TRUE(set_mallopt(M_MIN_FREEBUF, 1000, options));
  EXPECT_TRUE(set_mallopt(M_MAX_FREEBUF, 2000, options));
  EXPECT_TRUE(set_mallopt(M_UNMAP_THRESHOLD, 65536, options));
  EXPECT_TRUE(set_mallopt(M_SWEEP_SIZE, 5, options));
  EXPECT_EQ(options.percent, 33u);
  EXPECT_TRUE(options.percent_set);
  EXPECT_EQ(options.min, 1000u);
  EXPECT_EQ(options.max, 2000u);
  EXPECT_EQ(options.unmap, 65536u);
  EXPECT_EQ(options.sweep_size, 5u);
}

TEST_F(OptionsTest, MalloptRefusesWhatIsOutOfRange) {
  const Options before = options;
  EXPECT_FALSE(set_mallopt(M_FREEBUF_PERCENT, 0, options));
  EXPECT_FALSE(set_mallopt(M_FREEBUF_PERCENT, -1, options));
  EXPECT_FALSE(set_mallopt(M_FREEBUF_PERCENT, 10001, options));
  EXPECT_FALSE(set_mallopt(M_UNMAP_THRESHOLD, 1, options));
  EXPECT_FALSE(set_mallopt(M_MIN_FREEBUF, INT_MIN, options));
  EXPECT_FALSE(set_mallopt(0, 1, options));
  EXPECT_FALSE(set_mallopt(-99, 1, options));
  EXPECT_FALSE(set_mallopt(INT_MIN, 1, options));
  EXPECT_EQ(memcmp(&before, &options, sizeof(options)), 0);
}

TEST_F(OptionsTest, MalloptTakesTheStandardCodes) {
  EXPECT_TRUE(set_mallopt(-3, 65536, options)) << "M_MMAP_THRESHOLD";
  EXPECT_EQ(options.unmap, 65536u);
  const Options before = options;
  for (const int code : {-1, -2, -4, -5, -6, -7, -8, 1}) EXPECT_TRUE(set_mallopt(code, 4, options)) << code;
  EXPECT_EQ(memcmp(&before, &options, sizeof(options)), 0) << "they have no effect";
}

TEST_F(OptionsTest, TheTableDescribesItself) {
  size_t count = 0;
  const OptionSpec* table = option_table(&count);
  ASSERT_EQ(count, 18u);
  for (size_t i = 0; i < count; ++i) {
    const OptionSpec& spec = table[i];
    EXPECT_NE(spec.help, nullptr);
    EXPECT_GT(strlen(spec.help), 10u) << spec.name;
    EXPECT_EQ(spec.choices != nullptr, spec.type == OptionType::choice) << spec.name;
    EXPECT_LE(spec.minimum, spec.maximum) << spec.name;
    for (size_t other = 0; other < i; ++other) {
      EXPECT_STRNE(spec.name, table[other].name);
      EXPECT_TRUE(spec.mallopt_code == 0 || spec.mallopt_code != table[other].mallopt_code) << spec.name;
    }
  }
}

TEST_F(OptionsTest, PrintedValuesAreReadBack) {
  parse(
      "percent=30:readers=2:min=8M:max=1000:sweep_size=100:unmap=64K:stop=signal:kernel=avx2:sweep=0:stats=1:"
      "stats_dir="
      "/x");
  EXPECT_EQ(value_of("min"), "8M");
  EXPECT_EQ(value_of("max"), "1000");
  EXPECT_EQ(value_of("stop"), "signal");
  EXPECT_EQ(value_of("stats_dir"), "/x");
  std::string text;
  size_t count = 0;
  const OptionSpec* table = option_table(&count);
  for (size_t i = 0; i < count; ++i) text += std::string(table[i].name) + "=" + value_of(table[i].name) + ":";
  const Options before = options;
  options = default_options();
  EXPECT_EQ(parse(text.c_str()), 0) << text;
  EXPECT_EQ(memcmp(&before, &options, sizeof(options)), 0) << text;
}

TEST_F(OptionsTest, PrintingRespectsTheBuffer) {
  size_t count = 0;
  const OptionSpec* table = option_table(&count);
  parse("percent=1234");
  char text[4] = {'x', 'x', 'x', 'x'};
  option_value_text(options, table[0], text, 0);
  EXPECT_EQ(text[0], 'x');
  option_value_text(options, table[0], text, 3);
  EXPECT_STREQ(text, "12");
  EXPECT_EQ(text[3], 'x');
}

}  // namespace
}  // namespace nonreuse
