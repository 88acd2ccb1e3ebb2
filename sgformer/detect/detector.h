// Mask R-CNN: the backbone, a feature pyramid, a region proposal network, and the heads of boxes
// and masks. Names are those of mmdetection's state dicts: backbone, neck, rpn_head,
// roi_head.bbox_head, roi_head.mask_head.
//
//   Detector model({find_config("sgformer_s"), {}});
//   model.parameters().allocate();
//   model.parameters().initialize(seed);
//   const std::vector<Tensor> pyramid = model.pyramid(images, {});
//   const RpnHead::Output anchors = model.rpn(pyramid);
//   const BoxHead::Output boxes = model.boxes(pyramid, rois, levels);
#pragma once
#include <memory>

#include "sgformer/backbone.h"
#include "sgformer/detect/heads.h"
#include "sgformer/fpn.h"

namespace sg::sgformer {

struct DetectorConfig {
  Config backbone;  // its `classes` are not used
  DetectorHeads heads{};
};

class Detector {
 public:
  // Declares all parameters; they are to be allocated next.
  explicit Detector(DetectorConfig config);

  const DetectorConfig& config() const { return config_; }
  const Backbone& backbone() const { return *backbone_; }
  nn::ParameterStore& parameters() { return parameters_; }
  const nn::ParameterStore& parameters() const { return parameters_; }

  // Pixels of an image from one pixel of a map to the next, for each map of the pyramid: 4, 8, 16,
  // 32, 64 for the published backbones.
  std::vector<int64_t> strides() const;

  // images (B, H, W, 3), normalized -> five maps (B, H_l, W_l, channels), the finest first.
  std::vector<Tensor> pyramid(const Tensor& images, const ForwardOptions& options) const;
  RpnHead::Output rpn(const std::vector<Tensor>& pyramid) const { return (*rpn_)(pyramid); }
  // rois (n, 5), levels (n): of ops/roi_align, over all maps but the coarsest.
  BoxHead::Output boxes(const std::vector<Tensor>& pyramid, const Tensor& rois,
                        const Tensor& levels) const;
  // -> logits (n, 2 mask_size, 2 mask_size, classes); there is at least one RoI.
  Tensor masks(const std::vector<Tensor>& pyramid, const Tensor& rois, const Tensor& levels) const;

 private:
  Tensor look_up(const std::vector<Tensor>& pyramid, const Tensor& rois, const Tensor& levels,
                 int64_t size) const;

  DetectorConfig config_;
  nn::ParameterStore parameters_;
  std::unique_ptr<Backbone> backbone_;
  std::unique_ptr<Fpn> neck_;
  std::unique_ptr<RpnHead> rpn_;
  std::unique_ptr<BoxHead> box_head_;
  std::unique_ptr<MaskHead> mask_head_;
};

}  // namespace sg::sgformer
