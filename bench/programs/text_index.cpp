// Words counted, indexed and sorted with the standard containers: strings, hash tables, trees, vectors that
// grow.
#include <algorithm>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "common.hpp"

int main(int argc, char** argv) {
  const long rounds = bench::argument(argc, argv, 1, 15), words = bench::argument(argc, argv, 2, 100000);
  uint64_t sum = 0;
  for (long round = 0; round < rounds; ++round) {
    bench::Random random(static_cast<uint64_t>(round) + 1);
    std::unordered_map<std::string, std::vector<uint32_t>> places;
    std::map<std::string, std::string> dictionary;
    for (long i = 0; i < words; ++i) {
      std::string word;
      const uint64_t length = 3 + random.below(i % 10 == 0 ? 60 : 5);
      for (uint64_t k = 0; k < length; ++k)
        word += static_cast<char>('a' + random.below(i % 10 == 0 ? 26 : 7));
      places[word].push_back(static_cast<uint32_t>(i));
      if (i % 4 == 0) dictionary[word] += word.substr(0, 2) + ",";
      if (i % 5 == 0 && !dictionary.empty()) dictionary.erase(dictionary.begin());
    }
    std::vector<std::string> order;
    for (const auto& [word, where] : places) order.push_back(word + ":" + std::to_string(where.size()));
    std::sort(order.begin(), order.end());
    for (const auto& text : order)
      sum = bench::mix(sum, text.size() * 131 + static_cast<unsigned char>(text[0]));
    for (const auto& [word, text] : dictionary) sum = bench::mix(sum, word.size() * 31 + text.size());
  }
  bench::print_checksum("text_index", sum);
}
