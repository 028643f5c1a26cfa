// A shadow over tables of its own.
#pragma once

#include <vector>

#include "revoke/shadow.hpp"

namespace nonreuse {

struct ShadowTables {
  explicit ShadowTables(Granule granules)
      : painted(granules / 64 + 64),
        hits(granules / 64 + 64),
        expanded(granules / 64 + 64),
        summary((granules >> kSummaryShift) / 64 + 1),
        hit_summary(summary.size()),
        news(summary.size()) {
    shadow.attach(
        {painted.data(), summary.data(), hits.data(), hit_summary.data(), expanded.data(), news.data()});
  }
  bool all_clear() const {
    for (const auto* table : {&painted, &hits, &expanded, &summary, &hit_summary, &news}) {
      for (const uint64_t word : *table) {
        if (word != 0) return false;
      }
    }
    return true;
  }

  std::vector<uint64_t> painted, hits, expanded, summary, hit_summary, news;
  Shadow shadow;
};

}  // namespace nonreuse
