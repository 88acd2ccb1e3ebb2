#include "sgformer/ranking.h"

#include <doctest/doctest.h>

#include <tuple>

using namespace sg::sgformer;

TEST_CASE("ranking: at 224 the cut is the published one, without virtual tokens") {
  for (const auto& [s, tokens, expected] : {std::tuple{8, 3136, std::vector<int64_t>{4, 28, 28}},
                                            {4, 784, {4, 28, 28}},
                                            {2, 196, {49, 98}}}) {
    const RankingCut cut = cut_ranking(published_regions(s), tokens);
    CHECK(cut.virtual_tokens == 0);
    for (size_t i = 0; i < expected.size(); ++i) CHECK(cut.regions[i].tokens == expected[i]);
  }
}

TEST_CASE("ranking: the cut holds every token once, whatever their number") {
  for (const int s : {8, 4, 2})
    for (int64_t n = 1; n <= 4000; ++n) {
      const RankingCut cut = cut_ranking(published_regions(s), n);
      int64_t ranks = 0, first_r = 0;
      for (const RegionCut& r : cut.regions) {
        ranks += r.tokens * r.r;
        if (first_r == 0 && r.tokens > 0) first_r = r.r;
      }
      REQUIRE(ranks == n + cut.virtual_tokens);
      REQUIRE(cut.virtual_tokens < first_r);  // no chunk of virtual tokens alone
    }
}
