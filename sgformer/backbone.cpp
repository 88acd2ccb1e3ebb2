#include "sgformer/backbone.h"

#include "autograd/recompute.h"
#include "nn/trace.h"
#include "ops/add_pos_embed/add_pos_embed.h"
#include "ops/bicubic_resize/bicubic_resize.h"
#include "ops/drop_path/drop_path.h"

namespace sg::sgformer {

std::vector<double> drop_path_rates(const Config& config) {
  int blocks = 0;
  for (const StageConfig& s : config.stages) blocks += s.depth;
  std::vector<double> rates(size_t(blocks), 0.0);
  for (int i = 1; i < blocks; ++i) rates[size_t(i)] = config.drop_path * i / (blocks - 1);
  return rates;
}

Tensor draw_drop_paths(const Config& config, int64_t batch, uint64_t seed, uint64_t step,
                       int64_t first_sample, Dtype dtype, Tensor out) {
  const std::vector<double> rates = drop_path_rates(config);
  const Shape shape{2 * int64_t(rates.size()), batch};
  Tensor factors = out ? out : empty(shape, acc_dtype(dtype));
  check_shape("draw_drop_paths", "out", factors, shape);
  for (int64_t row = 0; row < shape[0]; ++row) {
    Tensor keep = factors.slice(row, row + 1).view({batch});
    draw_drop_path(rates[size_t(row / 2)], seed, step, uint32_t(row + 1), first_sample, keep);
  }
  return factors;
}

namespace {

// The map given in place of `computed`, that of block `block` of stage `stage`.
Tensor given_map(const std::vector<SignificanceMap>& given, size_t at, int stage, int block,
                 const Tensor& computed) {
  check(at < given.size() && given[at].stage == stage && given[at].block == block,
        "sgformer: given_significance: expected map {} to be that of block {}.{}", at, stage,
        block);
  check_shape("sgformer", "given_significance", given[at].map, computed.shape());
  check_like("sgformer", "given_significance", given[at].map, computed);
  return given[at].map;
}

}  // namespace

Backbone::Backbone(const nn::ParameterScope& scope, Config config) : config_(std::move(config)) {
  validate(config_);
  const int64_t side = config_.pos_embed_side, dim = config_.stages[0].dim;
  pos_embed_ =
      scope.add({{"pos_embed", {1, side * side, dim}, nn::Layout::same, nn::Init::position}},
                {side, side, dim});
  stem_ = std::make_unique<Stem>(scope / "patch_embed1", dim, config_.stem_strides);
  for (size_t i = 0; i < config_.stages.size(); ++i) {
    const StageConfig& s = config_.stages[i];
    Stage stage;
    if (i > 0)
      stage.embed = std::make_unique<PatchMerging>(scope / fmt::format("patch_embed{}", i + 1),
                                                   config_.stages[i - 1].dim, s.dim);
    for (int j = 0; j < s.depth; ++j) {
      const BlockKind kind = s.scales.empty() ? BlockKind::full
                             : j % 2 == 0     ? BlockKind::hybrid
                                              : BlockKind::self_guided;
      stage.blocks.push_back(std::make_unique<Block>(
          scope / fmt::format("block{}", i + 1) / fmt::format("{}", j), config_, s, kind));
    }
    stage.norm = nn::LayerNorm(scope, fmt::format("norm{}", i + 1), s.dim, 1e-6);
    stages_.push_back(std::move(stage));
  }
}

nn::Residual Backbone::run_block(const Block& block, const nn::Residual& x, Tensor& significance,
                                 const DropPathFactors& keep) const {
  if (!config_.recompute) return block(x, significance, keep);
  // The significance map is detached, so it is an input or output without gradient.
  const auto out = autograd::recompute(
      [&block, keep, before = x.keep](const std::vector<Tensor>& in) -> std::vector<Tensor> {
        Tensor map = in[2];
        const nn::Residual y = block({in[0], in[1], before}, map, keep);
        return {y.x, y.branch, map};
      },
      {x.x, x.branch, block.kind() == BlockKind::self_guided ? significance : Tensor()}, 2);
  significance = out[2];
  return {out[0], out[1], keep.mlp};
}

Features Backbone::forward(const Tensor& images, const ForwardOptions& options) const {
  check_dims("sgformer", "images", images, 4);
  check(images.dim(3) == 3 && images.numel() > 0,
        "sgformer: images: expected (B, H, W, 3) with B, H, W at least 1, found {}",
        images.shape().str());
  const std::vector<double> rates = drop_path_rates(config_);
  const Tensor& factors = options.drop_paths;
  if (factors)
    check_shape("sgformer", "drop_paths", factors, {2 * int64_t(rates.size()), images.dim(0)});
  // The drop-path factors of one residual branch (0: attention, 1: MLP) of a block; undefined where
  // nothing is dropped. A frozen block computes as at evaluation.
  const auto keep = [&](const Block& block, size_t index, int64_t branch) {
    if (!factors || rates[index] == 0 || block.frozen()) return Tensor();
    const int64_t row = 2 * int64_t(index) + branch;
    return factors.slice(row, row + 1).view({images.dim(0)});
  };
  Features features;
  const auto& given = options.given_significance;
  size_t next_given = 0;
  Tensor x = (*stem_)(images), significance;
  const Tensor table = bicubic_resize(pos_embed_->value, x.dim(1), x.dim(2));
  x = add_pos_embed(x, table);
  nn::trace("pos_embed", "position", x, pos_embed_->shape.numel());
  size_t index = 0;
  for (size_t i = 0; i < stages_.size(); ++i) {
    const Stage& stage = stages_[i];
    if (stage.embed) x = (*stage.embed)(x);
    nn::Residual map{x};
    for (size_t j = 0; j < stage.blocks.size(); ++j, ++index) {
      const Block& block = *stage.blocks[j];
      map = run_block(block, map, significance, {keep(block, index, 0), keep(block, index, 1)});
      if (options.significance && block.kind() == BlockKind::hybrid)
        features.significance.push_back({int(i), int(j), significance});
      if (!given.empty() && block.kind() == BlockKind::hybrid)
        significance = given_map(given, next_given++, int(i), int(j), significance);
    }
    x = stage.norm.add_and_norm(map).norm;
    features.maps.push_back(x);
  }
  check(next_given == given.size(), "sgformer: given_significance: expected {} maps, found {}",
        next_given, given.size());
  return features;
}

}  // namespace sg::sgformer
