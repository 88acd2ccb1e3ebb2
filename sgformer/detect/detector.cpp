#include "sgformer/detect/detector.h"

#include "ops/roi_align/roi_align.h"

namespace sg::sgformer {

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

std::vector<int64_t> Detector::strides() const {
  int64_t stride = 1;
  for (const int s : config_.backbone.stem_strides) stride *= s;
  std::vector<int64_t> strides;
  for (size_t i = 0; i < config_.backbone.stages.size() + 1; ++i, stride *= 2)
    strides.push_back(stride);
  return strides;
}

Tensor Detector::look_up(const std::vector<Tensor>& pyramid, const Tensor& rois,
                         const Tensor& levels, int64_t size) const {
  const std::vector<int64_t> all = strides();
  check(pyramid.size() == all.size(), "detector: pyramid: expected {} maps, found {}", all.size(),
        pyramid.size());
  std::vector<double> scales;
  for (size_t i = 0; i + 1 < all.size(); ++i) scales.push_back(1 / double(all[i]));
  return roi_align({pyramid.begin(), pyramid.end() - 1}, rois, levels, scales, size);
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
