// Feature pyramid and heads of segmentation: outputs, gradients, running statistics.
#pragma once
#include "tools/golden/case.h"

namespace sg::golden {

// What a head may be off, whose input is off by `input`, over maps of so many pixels: `links`
// convolutions and norms follow each other on the longest way through it, and in backward as many
// again. Of those here 9 do at most.
Bounds head_bounds(Dtype dtype, const nn::ParameterStore& store, int links, int64_t pixels,
                   double input = 0);

std::vector<Row> check_fpn(const Case& c);
std::vector<Row> check_semantic_fpn(const Case& c);
std::vector<Row> check_upernet(const Case& c);
std::vector<Row> check_fcn_head(const Case& c);

}  // namespace sg::golden
