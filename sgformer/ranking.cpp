#include "sgformer/ranking.h"

#include <algorithm>
#include <numeric>

namespace sg::sgformer {

int64_t ranking_unit(const std::vector<RegionShare>& regions) {
  constexpr int64_t most = int64_t{1} << 31;
  int64_t unit = 1;
  for (const RegionShare& r : regions) {
    const int64_t whole = r.r * r.denominator, own = whole / std::gcd(whole, r.numerator);
    const int64_t factor = own / std::gcd(own, unit);
    if (factor > most / unit) return 0;
    unit *= factor;
  }
  return unit;
}

RankingCut cut_ranking(const std::vector<RegionShare>& regions, int64_t tokens) {
  const int64_t unit = ranking_unit(regions);
  const int64_t padded = (tokens + unit - 1) / unit * unit;
  RankingCut cut;
  cut.virtual_tokens = padded - tokens;
  bool leading = true;
  for (const RegionShare& share : regions) {
    RegionCut region{padded / share.denominator * share.numerator / share.r, share.r};
    if (leading) {  // chunks of virtual tokens alone stand in front
      const int64_t dropped = std::min(region.tokens, cut.virtual_tokens / region.r);
      region.tokens -= dropped;
      cut.virtual_tokens -= dropped * region.r;
      leading = region.tokens == 0;
    }
    cut.regions.push_back(region);
  }
  return cut;
}

}  // namespace sg::sgformer
