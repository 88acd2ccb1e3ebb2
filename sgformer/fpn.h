// Feature pyramid network: maps of all strides with as many channels each, to each of which the
// next coarser one is added. Names are those of mmdetection and mmsegmentation.
#pragma once
#include <vector>

#include "nn/layers.h"

namespace sg::sgformer {

class Fpn {
 public:
  // `in`: channels of the maps, the finest first. `outputs`: as many as maps, or one more.
  Fpn(const nn::ParameterScope& scope, const std::vector<int64_t>& in, int64_t out, size_t outputs);
  // maps (B, H_i, W_i, C_i) -> `outputs` maps of `out` channels and the same sizes. One more has
  // every second row and column of the coarsest.
  std::vector<Tensor> operator()(const std::vector<Tensor>& maps) const;

 private:
  std::vector<nn::Conv2d> laterals_, outputs_;
  bool one_more_;
};

}  // namespace sg::sgformer
