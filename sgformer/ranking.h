// Token merging: how the ranking of the tokens by significance is cut into regions, and each region
// into chunks of r consecutive ranks. SelfGuidedAttention makes one token of a chunk.
#pragma once
#include <cstdint>
#include <vector>

#include "sgformer/config.h"

namespace sg::sgformer {

struct RegionCut {
  int64_t tokens, r;  // chunks of r ranks
};
struct RankingCut {
  std::vector<RegionCut> regions;  // one per RegionShare; a region may have no chunk left
  int64_t virtual_tokens = 0;      // in front of the first remaining chunk's real tokens
};

// The cut of a ranking of `tokens` tokens, least significant first. The ranking is left-padded with
// virtual tokens of zeros to a multiple of ranking_unit(), cut, and chunks of virtual tokens alone
// are left out.
RankingCut cut_ranking(const std::vector<RegionShare>& regions, int64_t tokens);

// The smallest number of tokens that every region cuts into whole chunks; 0 where it is beyond
// 2^31.
int64_t ranking_unit(const std::vector<RegionShare>& regions);

}  // namespace sg::sgformer
