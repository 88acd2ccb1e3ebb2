#include "tests/sgformer/literal_segmentor.h"

#include <cmath>
#include <numeric>

#include "tests/sgformer/literal_layers.h"
#include "tests/support/naive.h"

namespace sg::test {
namespace {

using namespace naive;
using sgformer::Head, sgformer::Segmentor, sgformer::SegmentorConfig;

// (C) to every pixel of a map.
Tensor broadcast(const Tensor& v, const Shape& map) {
  Index index(size_t(map.numel()));
  for (size_t i = 0; i < index.size(); ++i) index[i] = int64_t(i) % v.numel();
  return gather(v, index, map);
}

Tensor side_by_side(const std::vector<Tensor>& maps) {
  Tensor all = maps[0];
  for (size_t k = 1; k < maps.size(); ++k) {
    const int64_t a = all.dim(3), b = maps[k].dim(3);
    const Shape shape{all.dim(0), all.dim(1), all.dim(2), a + b};
    Index index;
    for (int64_t i = 0; i < shape.numel(); ++i) {
      const int64_t pixel = i / (a + b), channel = i % (a + b);
      index.push_back(channel < a ? pixel * a + channel : all.numel() + pixel * b + channel - a);
    }
    all = gather(concat({all, maps[k]}, {all.numel() + maps[k].numel()}), index, shape);
  }
  return all;
}

struct Heads {
  LiteralWeights w;
  const nn::ParameterStore& parameters;
  bool training;
  std::map<std::string, Tensor>& after;

  Heads in(const std::string& name) const { return {w.in(name), parameters, training, after}; }

  Tensor buffer(const std::string& name) const {
    for (const nn::Buffer& b : parameters.named_buffers())
      if (b.name == w.prefix + name) return b.value.clone();
    fail(ExitCode::failure, "no buffer {}{}", w.prefix, name);
  }

  Tensor conv_bn_relu(const std::string& name, const Tensor& x) const {
    const Tensor y = conv(w, name + ".conv", x);
    const int64_t c = y.dim(3), rows = y.numel() / c;
    Tensor mean = buffer(name + ".bn.running_mean"), var = buffer(name + ".bn.running_var");
    Tensor z;
    if (training) {
      const Tensor channels = permute(reshape(y, {rows, c}), {1, 0});
      z = reshape(permute(standardize(channels, 1e-5), {1, 0}), y.shape());
      for (int64_t i = 0; i < c; ++i) {
        double m = 0, squares = 0;
        for (int64_t r = 0; r < rows; ++r) m += y.data<double>()[r * c + i] / double(rows);
        for (int64_t r = 0; r < rows; ++r) squares += std::pow(y.data<double>()[r * c + i] - m, 2);
        mean.data<double>()[i] = 0.9 * mean.data<double>()[i] + 0.1 * m;
        var.data<double>()[i] = 0.9 * var.data<double>()[i] + 0.1 * squares / double(rows - 1);
      }
      after[w.prefix + name + ".bn.running_mean"] = mean;
      after[w.prefix + name + ".bn.running_var"] = var;
    } else {
      Tensor rstd = var.clone();
      for (double& v : rstd.span<double>()) v = 1 / std::sqrt(v + 1e-5);
      z = multiply(add(y, scale(broadcast(mean, y.shape()), -1)), broadcast(rstd, y.shape()));
    }
    return relu(affine(z, w(name + ".bn.weight"), w(name + ".bn.bias")));
  }

  Tensor logits(const Tensor& x, const Tensor& dropout) const {
    if (!dropout) return conv(w, "conv_seg", x);
    Index index;
    const int64_t c = x.dim(3), pixels = x.dim(1) * x.dim(2);
    for (int64_t i = 0; i < x.numel(); ++i) index.push_back(i / c / pixels * c + i % c);
    return conv(w, "conv_seg", multiply(x, gather(dropout, index, x.shape())));
  }
};

Tensor semantic_fpn(const Heads& root, const std::vector<Tensor>& maps, const Tensor& dropout) {
  const Heads head = root.in("decode_head");
  const std::vector<Tensor> pyramid = literal_fpn(root.w.in("neck"), maps);
  Tensor sum = head.conv_bn_relu("scale_heads.0.0", pyramid[0]);
  for (size_t i = 1; i < 4; ++i) {
    Tensor x = pyramid[i];
    for (size_t j = 0; j < i; ++j) {
      x = head.conv_bn_relu(fmt::format("scale_heads.{}.{}", i, 2 * j), x);
      x = resize(bilinear, x, 2 * x.dim(1), 2 * x.dim(2));
    }
    sum = add(sum, resize(bilinear, x, sum.dim(1), sum.dim(2)));
  }
  return head.logits(sum, dropout);
}

Tensor upernet(const Heads& head, const std::vector<Tensor>& maps, const Tensor& dropout,
               const std::vector<int64_t>& pool_scales) {
  std::vector<Tensor> pools{maps[3]};
  for (size_t i = 0; i < pool_scales.size(); ++i) {
    const Tensor x = head.conv_bn_relu(fmt::format("psp_modules.{}.1", i),
                                       resize(pooled, maps[3], pool_scales[i], pool_scales[i]));
    pools.push_back(resize(bilinear, x, maps[3].dim(1), maps[3].dim(2)));
  }
  std::vector<Tensor> laterals;
  for (size_t i = 0; i < 3; ++i)
    laterals.push_back(head.conv_bn_relu(fmt::format("lateral_convs.{}", i), maps[i]));
  laterals.push_back(head.conv_bn_relu("bottleneck", side_by_side(pools)));
  for (size_t i = 3; i > 0; --i)
    laterals[i - 1] = add(laterals[i - 1], resize(bilinear, laterals[i], laterals[i - 1].dim(1),
                                                  laterals[i - 1].dim(2)));
  for (size_t i = 0; i < 3; ++i)
    laterals[i] = head.conv_bn_relu(fmt::format("fpn_convs.{}", i), laterals[i]);
  for (size_t i = 1; i < 4; ++i)
    laterals[i] = resize(bilinear, laterals[i], laterals[0].dim(1), laterals[0].dim(2));
  return head.logits(head.conv_bn_relu("fpn_bottleneck", side_by_side(laterals)), dropout);
}

}  // namespace

LiteralSegmentation run_literal(const Segmentor& model, const Tensor& images,
                                const Segmentor::ForwardOptions& options, const Tensor& upstream,
                                const Tensor& aux_upstream) {
  const SegmentorConfig& config = model.config();
  LiteralSegmentation result;
  const LiteralWeights w = literal_weights(model.parameters());
  const Heads root{w, model.parameters(), options.training, result.buffers};
  const Tensor image = autograd::leaf(images);
  const std::vector<Tensor> maps = literal_backbone(config.backbone, w.in("backbone"), image).maps;
  result.logits = config.head == Head::semantic_fpn
                      ? semantic_fpn(root, maps, options.dropout)
                      : upernet(root.in("decode_head"), maps, options.dropout, config.pool_scales);
  std::vector<Tensor> outputs{result.logits}, gradients{upstream};
  if (options.training && config.auxiliary_channels > 0) {
    const Heads head = root.in("auxiliary_head");
    result.aux_logits = head.logits(head.conv_bn_relu("convs.0", maps[2]), options.aux_dropout);
    outputs.push_back(result.aux_logits), gradients.push_back(aux_upstream);
  }
  autograd::backward(outputs, gradients);
  for (const auto& [name, leaf] : w.leaves) result.gradients[name] = autograd::grad_of(leaf);
  result.image_gradient = autograd::grad_of(image);
  return result;
}

}  // namespace sg::test
