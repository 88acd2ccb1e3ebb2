// Feature pyramid and heads of segmentation, and what checks of heads share: outputs, gradients,
// running statistics.
#pragma once
#include <functional>

#include "tools/golden/case.h"

namespace sg::golden {

// The longest way through a module: what follows each other on it.
struct Chain {
  int convolutions;
  int others;  // norms, resizes, sums, pooling
  int relus;
};
inline constexpr Chain kFpn{2, 3, 0}, kSemanticFpn{6, 12, 3}, kUperNet{5, 10, 4}, kFcnHead{2, 1, 1};

// What such a module may be off over maps of so many pixels, where its input is off by `input`.
Bounds chain_bounds(Dtype dtype, const nn::ParameterStore& store, const Chain& chain,
                    int64_t pixels, double input = 0);

// A module of `store` from maps to maps or rows: fills it, and compares outputs, gradients, and
// what buffers are after it.
using MapsForward = std::function<std::vector<Tensor>(const std::vector<Tensor>& maps)>;
std::vector<Row> check_maps(const Case& c, nn::ParameterStore& store, const Chain& chain,
                            const MapsForward& forward);

std::vector<Row> check_fpn(const Case& c);
std::vector<Row> check_semantic_fpn(const Case& c);
std::vector<Row> check_upernet(const Case& c);
std::vector<Row> check_fcn_head(const Case& c);

}  // namespace sg::golden
