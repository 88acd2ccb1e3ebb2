#include "sgformer/detect/detector.h"

#include "ops/roi_align/roi_align.h"

namespace sg::sgformer {

// RoIs are looked up in the four maps that the backbone's strides have; the fifth is for anchors.
constexpr int64_t kStrides[] = {4, 8, 16, 32};

Detector::Detector(DetectorConfig config) : config_(std::move(config)) {
  validate(config_.backbone);
  const nn::ParameterScope root(parameters_), roi_head = root / "roi_head";
  const DetectorHeads& heads = config_.heads;
  backbone_ = std::make_unique<Backbone>(root / "backbone", config_.backbone);
  std::vector<int64_t> widths;
  for (const StageConfig& stage : config_.backbone.stages) widths.push_back(stage.dim);
  neck_ = std::make_unique<Fpn>(root / "neck", widths, heads.channels, widths.size() + 1);
  rpn_ = std::make_unique<RpnHead>(root / "rpn_head", heads);
  box_head_ = std::make_unique<BoxHead>(roi_head / "bbox_head", heads);
  mask_head_ = std::make_unique<MaskHead>(roi_head / "mask_head", heads);
}

std::vector<Tensor> Detector::pyramid(const Tensor& images, const ForwardOptions& options) const {
  return (*neck_)(backbone_->forward(images, options).maps);
}

Tensor Detector::look_up(const std::vector<Tensor>& pyramid, const Tensor& rois,
                         const Tensor& levels, int64_t size) const {
  check(pyramid.size() > std::size(kStrides), "detector: pyramid: expected {} maps, found {}",
        std::size(kStrides) + 1, pyramid.size());
  std::vector<Tensor> maps;
  std::vector<double> scales;
  for (size_t i = 0; i < std::size(kStrides); ++i) {
    maps.push_back(pyramid[i]);
    scales.push_back(1.0 / double(kStrides[i]));
  }
  return roi_align(maps, rois, levels, scales, size);
}

BoxHead::Output Detector::boxes(const std::vector<Tensor>& pyramid, const Tensor& rois,
                                const Tensor& levels) const {
  return (*box_head_)(look_up(pyramid, rois, levels, config_.heads.box_size));
}

Tensor Detector::masks(const std::vector<Tensor>& pyramid, const Tensor& rois,
                       const Tensor& levels) const {
  return (*mask_head_)(look_up(pyramid, rois, levels, config_.heads.mask_size));
}

}  // namespace sg::sgformer
