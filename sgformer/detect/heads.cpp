#include "sgformer/detect/heads.h"

#include "ops/relu/relu.h"
#include "ops/reshape/reshape.h"

namespace sg::sgformer {

RpnHead::RpnHead(const nn::ParameterScope& scope, const DetectorHeads& config)
    : conv_(scope, "rpn_conv", 3, config.channels, config.channels, nn::Init::logits),
      logits_(scope, "rpn_cls", 1, config.channels, config.anchors, nn::Init::logits),
      deltas_(scope, "rpn_reg", 1, config.channels, 4 * config.anchors, nn::Init::logits) {}

RpnHead::Output RpnHead::operator()(const std::vector<Tensor>& maps) const {
  Output out;
  for (const Tensor& map : maps) {
    const Tensor x = relu(conv_(map));
    out.logits.push_back(logits_(x));
    out.deltas.push_back(deltas_(x));
  }
  return out;
}

BoxHead::BoxHead(const nn::ParameterScope& scope, const DetectorHeads& config) {
  const int64_t pixels = config.box_size * config.box_size;
  hidden_[0] = {scope / "shared_fcs",
                {{"0", config.hidden}},
                config.channels * pixels,
                nn::Init::xavier,
                pixels};
  hidden_[1] = {scope / "shared_fcs", "1", config.hidden, config.hidden, nn::Init::xavier};
  logits_ = {scope, "fc_cls", config.hidden, config.classes + 1, nn::Init::logits};
  deltas_ = {scope, "fc_reg", config.hidden, 4 * config.classes, nn::Init::deltas};
}

BoxHead::Output BoxHead::operator()(const Tensor& rois) const {
  check_dims("box head", "rois", rois, 4);
  const int64_t n = rois.dim(0);
  Tensor x = reshape(rois, {n, rois.dim(1) * rois.dim(2) * rois.dim(3)});
  for (const nn::Linear& hidden : hidden_) x = relu(hidden(x));
  return {logits_(x), deltas_(x)};
}

MaskHead::MaskHead(const nn::ParameterScope& scope, const DetectorHeads& config) {
  for (int i = 0; i < 4; ++i)
    convs_.emplace_back(scope / "convs" / fmt::format("{}", i), "conv", 3, config.channels,
                        config.channels, nn::Init::conv);
  upsample_ = {scope, "upsample", config.channels, config.channels};
  logits_ = {scope, "conv_logits", 1, config.channels, config.classes, nn::Init::conv};
}

Tensor MaskHead::operator()(const Tensor& rois) const {
  Tensor x = rois;
  for (const nn::Conv2d& conv : convs_) x = relu(conv(x));
  return logits_(relu(upsample_(x)));
}

}  // namespace sg::sgformer
