// The heads: maps of the backbone become logits of each pixel of the finest map.
#pragma once
#include "sgformer/fpn.h"
#include "sgformer/segment/config.h"

namespace sg::sgformer {

class DecodeHead {
 public:
  virtual ~DecodeHead() = default;
  // maps (B, H_i, W_i, C_i), the finest first -> logits (B, H_0, W_0, classes). `dropout`: factors
  // (B, channels of the head) of ops/dropout2d; undefined: nothing is dropped.
  virtual Tensor operator()(const std::vector<Tensor>& maps, const Tensor& dropout,
                            const BatchNormSettings& norm) const = 0;
};

// Semantic FPN: each map of a feature pyramid (`neck`) passes convolutions, doubled in size after
// each, until it is as large as the finest; their sum gives the logits (`decode_head`).
class SemanticFpn : public DecodeHead {
 public:
  SemanticFpn(const nn::ParameterScope& scope, const std::vector<int64_t>& in,
              const SegmentorConfig& config);
  Tensor operator()(const std::vector<Tensor>& maps, const Tensor& dropout,
                    const BatchNormSettings& norm) const override;

 private:
  Fpn neck_;
  std::vector<std::vector<nn::ConvBnRelu>> scales_;  // of each map
  nn::Conv2d logits_;
};

// UperNet: the coarsest map is pooled to grids of several sizes, the pyramid goes down from there,
// and all its maps, resized to the finest, are one input of the last convolution.
class UperNet : public DecodeHead {
 public:
  UperNet(const nn::ParameterScope& scope, const std::vector<int64_t>& in,
          const SegmentorConfig& config);
  Tensor operator()(const std::vector<Tensor>& maps, const Tensor& dropout,
                    const BatchNormSettings& norm) const override;

 private:
  Tensor pyramid_pooling(const Tensor& x, const BatchNormSettings& norm) const;

  std::vector<int64_t> pool_scales_;
  std::vector<nn::ConvBnRelu> pooled_, laterals_, outputs_;
  nn::ConvBnRelu bottleneck_, fpn_bottleneck_;
  nn::Conv2d logits_;
};

// One convolution and the logits: the auxiliary head of one map.
class FcnHead {
 public:
  FcnHead(const nn::ParameterScope& scope, int64_t in, int64_t channels, int64_t classes);
  // x (B, H, W, in) -> (B, H, W, classes); `dropout` (B, channels) as that of DecodeHead
  Tensor operator()(const Tensor& x, const Tensor& dropout, const BatchNormSettings& norm) const;

 private:
  nn::ConvBnRelu conv_;
  nn::Conv2d logits_;
};

}  // namespace sg::sgformer
