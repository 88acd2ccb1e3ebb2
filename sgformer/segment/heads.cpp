#include "sgformer/segment/heads.h"

#include "ops/adaptive_avg_pool/adaptive_avg_pool.h"
#include "ops/bilinear_resize/bilinear_resize.h"
#include "ops/dropout2d/dropout2d.h"

namespace sg::sgformer {
namespace {

nn::Conv2d logits_layer(const nn::ParameterScope& scope, int64_t in, int64_t classes) {
  return {scope, "conv_seg", 1, in, classes, nn::Init::logits};
}

Tensor logits_of(const nn::Conv2d& layer, const Tensor& x, const Tensor& dropout) {
  return layer(dropout ? dropout2d(x, dropout) : x);
}

std::string number(size_t i) { return fmt::format("{}", i); }

}  // namespace

SemanticFpn::SemanticFpn(const nn::ParameterScope& scope, const std::vector<int64_t>& in,
                         const SegmentorConfig& config)
    : neck_(scope / "neck", in, config.neck_channels, in.size()) {
  const nn::ParameterScope head = scope / "decode_head";
  for (size_t i = 0; i < in.size(); ++i) {
    auto& scale = scales_.emplace_back();
    // Numbers count what doubles the size, too, which has no parameters.
    for (size_t j = 0; j < std::max<size_t>(i, 1); ++j)
      scale.emplace_back(head / "scale_heads" / number(i), number(2 * j), 3,
                         j == 0 ? config.neck_channels : config.channels, config.channels);
  }
  logits_ = logits_layer(head, config.channels, config.classes);
}

Tensor SemanticFpn::operator()(const std::vector<Tensor>& maps, const Tensor& dropout,
                               const BatchNormSettings& norm) const {
  const std::vector<Tensor> pyramid = neck_(maps);
  Tensor sum = scales_[0][0](pyramid[0], norm);
  const int64_t height = sum.dim(1), width = sum.dim(2);
  for (size_t i = 1; i < pyramid.size(); ++i) {
    Tensor x = pyramid[i];
    for (const nn::ConvBnRelu& conv : scales_[i]) {
      x = conv(x, norm);
      const int64_t doubled[] = {2 * x.dim(1), 2 * x.dim(2)};
      // The last doubling, where it is exact, and the sum are one pass.
      if (&conv == &scales_[i].back() && doubled[0] == height && doubled[1] == width) break;
      x = bilinear_resize(x, doubled[0], doubled[1]);
    }
    sum = bilinear_resize(x, height, width, sum);
  }
  return logits_of(logits_, sum, dropout);
}

UperNet::UperNet(const nn::ParameterScope& scope, const std::vector<int64_t>& in,
                 const SegmentorConfig& config)
    : pool_scales_(config.pool_scales) {
  const int64_t width = config.channels;
  for (size_t i = 0; i < pool_scales_.size(); ++i)
    pooled_.emplace_back(scope / "psp_modules" / number(i), "1", 1, in.back(), width);
  bottleneck_ = {scope, "bottleneck", 3, in.back() + int64_t(pool_scales_.size()) * width, width};
  for (size_t i = 0; i + 1 < in.size(); ++i)
    laterals_.emplace_back(scope / "lateral_convs", number(i), 1, in[i], width);
  for (size_t i = 0; i + 1 < in.size(); ++i)
    outputs_.emplace_back(scope / "fpn_convs", number(i), 3, width, width);
  fpn_bottleneck_ = {scope, "fpn_bottleneck", 3, int64_t(in.size()) * width, width};
  logits_ = logits_layer(scope, width, config.classes);
}

Tensor UperNet::pyramid_pooling(const Tensor& x, const BatchNormSettings& norm) const {
  std::vector<Tensor> parts{x};
  for (size_t i = 0; i < pooled_.size(); ++i)
    parts.push_back(pooled_[i](adaptive_avg_pool(x, pool_scales_[i]), norm));
  return bottleneck_(bilinear_resize_concat(parts, x.dim(1), x.dim(2)), norm);
}

Tensor UperNet::operator()(const std::vector<Tensor>& maps, const Tensor& dropout,
                           const BatchNormSettings& norm) const {
  check(maps.size() == laterals_.size() + 1, "upernet: expected {} maps, found {}",
        laterals_.size() + 1, maps.size());
  std::vector<Tensor> pyramid(maps.size());
  Tensor x = pyramid.back() = pyramid_pooling(maps.back(), norm);
  for (size_t i = laterals_.size(); i-- > 0;) {
    const Tensor lateral = laterals_[i](maps[i], norm);
    x = bilinear_resize(x, lateral.dim(1), lateral.dim(2), lateral);
    pyramid[i] = outputs_[i](x, norm);
  }
  const int64_t height = x.dim(1), width = x.dim(2);
  x = bilinear_resize_concat(pyramid, height, width);
  pyramid.clear();
  x = fpn_bottleneck_(x, norm);
  return logits_of(logits_, x, dropout);
}

FcnHead::FcnHead(const nn::ParameterScope& scope, int64_t in, int64_t channels, int64_t classes)
    : conv_(scope / "convs", "0", 3, in, channels),
      logits_(logits_layer(scope, channels, classes)) {}

Tensor FcnHead::operator()(const Tensor& x, const Tensor& dropout,
                           const BatchNormSettings& norm) const {
  return logits_of(logits_, conv_(x, norm), dropout);
}

}  // namespace sg::sgformer
