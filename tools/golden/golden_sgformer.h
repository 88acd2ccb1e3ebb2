// Golden files of the published model: its modules and whole networks.
#pragma once
#include "sgformer/config.h"
#include "tools/golden/case.h"

namespace sg::golden {

std::vector<Row> check_module(const Case& c);
std::vector<Row> check_model(const Case& c);

// What a whole network's outputs may be off, where the ranking of tokens is given. Below f64 each
// result is rounded, as often up as down, so that the errors of n roundings in a row add up to
// sqrt(n) of one. In a row are, in a block at most: norm, spatial reduction, its norm, keys and
// values, probabilities, result, LePE, projection and sum, then norm, fc1, GELU, fc2 and sum, and
// of five of them the weights too: 20; and 38 outside of blocks: stem and patch mergings with 9
// each (three times convolution, weights, norm), norm and head.
double model_bound(const sgformer::Config& config, Dtype dtype);
// The bound of gradients of parameters. Backward multiplies by the derivative of each module in
// turn (two a block, the stem, three patch mergings), taken where forward was, which is off by
// model_bound().
double model_gradient_bound(const sgformer::Config& config, Dtype dtype);

}  // namespace sg::golden
