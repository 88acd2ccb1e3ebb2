// The heads of Mask R-CNN. Names of parameters are those of mmdetection.
#pragma once
#include <vector>

#include "nn/layers.h"

namespace sg::sgformer {

struct DetectorHeads {
  int64_t channels = 256;  // of the feature pyramid and of convolutions
  int64_t anchors = 3;     // of a cell
  int64_t hidden = 1024;   // of the box head
  int64_t box_size = 7;    // sides of the maps that the heads take of a RoI
  int64_t mask_size = 14;
  int64_t classes = 80;  // without the background
};

// Region proposal network: a logit and a change of the box of each anchor of each cell.
class RpnHead {
 public:
  RpnHead(const nn::ParameterScope& scope, const DetectorHeads& config);
  struct Output {
    std::vector<Tensor> logits;  // of each map (B, H, W, anchors)
    std::vector<Tensor> deltas;  // (B, H, W, 4 anchors): dx, dy, dw, dh of each anchor
  };
  // maps (B, H_l, W_l, channels), all by the same weights
  Output operator()(const std::vector<Tensor>& maps) const;

 private:
  nn::Conv2d conv_, logits_, deltas_;
};

class BoxHead {
 public:
  BoxHead(const nn::ParameterScope& scope, const DetectorHeads& config);
  struct Output {
    Tensor logits;  // (n, classes + 1), the background last
    Tensor deltas;  // (n, 4 classes): dx, dy, dw, dh for each class
  };
  // rois (n, box_size, box_size, channels)
  Output operator()(const Tensor& rois) const;

 private:
  nn::Linear hidden_[2], logits_, deltas_;
};

class MaskHead {
 public:
  MaskHead(const nn::ParameterScope& scope, const DetectorHeads& config);
  // rois (n, mask_size, mask_size, channels) -> logits of each class (n, 2 mask_size, 2 mask_size,
  // classes)
  Tensor operator()(const Tensor& rois) const;

 private:
  std::vector<nn::Conv2d> convs_;
  nn::ConvTranspose2x2 upsample_;
  nn::Conv2d logits_;
};

}  // namespace sg::sgformer
