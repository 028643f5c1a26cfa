"""A C++ source that draws in much of the standard library and instantiates many templates."""

HEAD = """#include <algorithm>
#include <array>
#include <chrono>
#include <deque>
#include <functional>
#include <future>
#include <iostream>
#include <list>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>
"""

UNIT = """
template <int N> struct Fold@ { static constexpr unsigned long value = Fold@<N - 1>::value * 31 + N; };
template <> struct Fold@<0> { static constexpr unsigned long value = @; };
struct Record@ {
  std::string name; std::vector<std::pair<int, std::string>> parts;
  std::map<std::string, std::set<int>> index;
  std::variant<int, double, std::string, std::vector<Number@>> extra;
};
unsigned long unit@(const std::vector<std::string>& words) {
  std::map<std::string, Record@> records;
  std::unordered_map<std::string, std::tuple<int, long, std::optional<std::string>>> seen;
  for (const auto& word : words) {
    SPLIT
    auto& [count, sum, last] = seen[word];
    ++count; sum += static_cast<long>(word.size()); last = word;
  }
  std::vector<Record@*> order;
  for (auto& [key, record] : records) {
    record.name = key; record.extra = Number@{@}.values(); order.push_back(&record);
  }
  std::sort(order.begin(), order.end(),
            [](auto* a, auto* b) { return std::tie(a->name, a->parts) < std::tie(b->name, b->parts); });
  std::function<unsigned long(Record@*)> weigh = [&](Record@* r) {
    return std::visit([&](auto& v) -> unsigned long {
      if constexpr (requires { v.size(); }) return v.size() + r->parts.size();
      else return static_cast<unsigned long>(v); }, r->extra);
  };
  return std::accumulate(order.begin(), order.end(), Fold@<@ + 120>::value,
                         [&](unsigned long sum, Record@* r) { return sum * 7 + weigh(r); });
}
"""

SPLIT_BY_PATTERN = """static const std::regex pattern("([a-z]+)-([0-9]*)x?"); std::smatch found;
    if (std::regex_match(word, found, pattern)) records[found[1]].parts.emplace_back(@, found[2]);"""

SPLIT_BY_HAND = """if (auto at = word.find('-'); at != word.npos)
      records[word.substr(0, at)].parts.emplace_back(@, word.substr(at + 1));"""


def make(units: int, ranges: bool, patterns: bool) -> bytes:
    """A source of `units` independent functions; with <ranges> where the compiler takes that header, and with
    regular expressions compiled (several seconds of optimising) where `patterns` is true."""
    out = [HEAD]
    if ranges:
        out.append("#include <ranges>\n")
    for unit in range(1, units + 1):
        number = f"struct Number{unit} {{ int n; std::vector<Number{unit}> values() const {{ return {{*this, *this}}; }} }};"
        body = UNIT.replace("SPLIT", SPLIT_BY_PATTERN if patterns else SPLIT_BY_HAND).replace("@", str(unit))
        out.append(number + body)
        if ranges:
            out.append(
                f"long view{unit}(const std::vector<int>& v) {{ long sum = 0; for (int i : v | std::views::filter([](int i)"
                f" {{ return i % {unit + 1} == 0; }}) | std::views::transform([](int i) {{ return i * {unit}; }})"
                f" | std::views::take(100)) sum += i; return sum; }}\n"
            )
    return "".join(out).encode()
