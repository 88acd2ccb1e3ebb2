#include "sgformer/attention.h"

#include "nn/trace.h"
#include "ops/aggregate/aggregate.h"
#include "ops/argsort/argsort.h"
#include "sgformer/ranking.h"

namespace sg::sgformer {

AttentionBase::AttentionBase(const nn::ParameterScope& scope,
                             std::vector<nn::Linear::Output> projections, int64_t dim, int heads)
    : dim_(dim), heads_(heads), name_(scope.name("products")) {
  for (const nn::Linear::Output& p : projections) lepe_column_ += p.size;
  projections.push_back({"lepe_linear", dim});
  in_ = nn::Linear(scope, projections, dim);
  lepe_ = nn::DepthwiseWeights(scope, "lepe_conv", dim);
  proj_ = nn::Linear(scope, "proj", dim, dim);
}

AttentionResult AttentionBase::attend(const Tensor& x, const std::vector<Tensor>& kv,
                                      std::vector<HeadGroup> groups) const {
  const AttentionSpec spec{int(dim_ / heads_), std::move(groups), lepe_column_};
  AttentionResult r = attention(in_(x), kv, lepe_.w->value, lepe_.b->value, spec);
  nn::trace(name_, "attention+lepe", r.out, lepe_.w->shape.numel() + lepe_.b->shape.numel());
  r.out = proj_(r.out);
  return r;
}

FullAttention::FullAttention(const nn::ParameterScope& scope, int64_t dim, int heads)
    : AttentionBase(scope, {{"q", dim}, {"kv", 2 * dim}}, dim, heads) {}

Tensor FullAttention::operator()(const Tensor& x) const {
  return attend(x, {}, {{.heads = heads_, .column = dim_}}).out;
}

namespace {

// [q1 .. qn | kv of the groups that take keys from x itself]; LePE is added by the base.
std::vector<nn::Linear::Output> hybrid_projections(const StageConfig& stage) {
  const int64_t width = stage.dim / int64_t(stage.scales.size());
  std::vector<nn::Linear::Output> outputs;
  for (size_t i = 0; i < stage.scales.size(); ++i)
    outputs.push_back({fmt::format("q{}", i + 1), width});
  for (size_t i = 0; i < stage.scales.size(); ++i)
    if (stage.scales[i].scale == 1) outputs.push_back({fmt::format("kv{}", i + 1), 2 * width});
  return outputs;
}

}  // namespace

HybridAttention::HybridAttention(const nn::ParameterScope& scope, const Config& config,
                                 const StageConfig& stage)
    : AttentionBase(scope, hybrid_projections(stage), stage.dim, stage.heads),
      scales_(stage.scales),
      window_(config.window),
      guidance_(config.guidance),
      balance_(config.balance_significance) {
  const int64_t width = stage.dim / int64_t(scales_.size());
  for (size_t i = 0; i < scales_.size(); ++i) {
    if (scales_[i].scale == 1) continue;
    // The published model has one spatial reduction per block, without a number.
    const std::string number = merges_.empty() ? "" : fmt::format("{}", i + 1);
    merges_.push_back({nn::SpatialReduction(scope, "sr" + number, stage.dim, scales_[i].scale),
                       nn::LayerNorm(scope, "norm" + number, stage.dim, 1e-5, Activation::gelu),
                       nn::Linear(scope, fmt::format("kv{}", i + 1), stage.dim, 2 * width)});
  }
}

HybridAttention::Result HybridAttention::operator()(const Tensor& x) const {
  const int heads = heads_ / int(scales_.size());
  std::vector<Tensor> kv;
  std::vector<HeadGroup> groups;
  int64_t column = dim_;
  for (const ScaleGroup& scale : scales_) {
    HeadGroup g{.heads = heads, .window = scale.global ? 0 : window_, .scale = scale.scale};
    int64_t keys = x.dim(1) * x.dim(2);
    if (scale.scale == 1) {
      g.column = column;
      column += 2 * dim_ / int64_t(scales_.size());
    } else {
      const Merge& merge = merges_[kv.size()];
      g.source = int(kv.size());
      const Tensor merged = merge.norm(merge.sr(x));
      keys = merged.dim(1) * merged.dim(2);
      kv.push_back(merge.kv(merged));
    }
    const bool counts = guidance_ == Guidance::hybrid ||
                        guidance_ == (scale.scale == 1 ? Guidance::local : Guidance::global);
    if (counts) g.significance = balance_ && scale.global ? double(keys) / 49 : 1;
    groups.push_back(g);
  }
  AttentionResult r = attend(x, kv, groups);
  // Nothing measured (uniform guidance, or a map that this block lacks): all tokens are equal.
  if (!r.significance)
    r.significance = zeros({x.dim(0), x.dim(1), x.dim(2)}, acc_dtype(x.dtype()), x.device());
  return {r.out, r.significance};
}

SelfGuidedAttention::SelfGuidedAttention(const nn::ParameterScope& scope, const StageConfig& stage)
    : AttentionBase(scope, {{"q", stage.dim}}, stage.dim, stage.heads),
      name_(scope.name("f")),
      regions_(stage.regions) {
  for (size_t i = 0; i < regions_.size(); ++i) {
    const std::string f = fmt::format("f{}", i + 1);
    const int64_t r = regions_[i].r;
    w_.push_back(scope.add({{f + ".weight", {1, r}, nn::Layout::same, nn::Init::linear}}, {r}));
    b_.push_back(scope.add({{f + ".bias", {1}, nn::Layout::same, nn::Init::zeros}}, {1}));
  }
  kv_ = nn::Linear(scope, {{"kv1", stage.dim}, {"kv2", stage.dim}}, stage.dim);
}

Tensor SelfGuidedAttention::operator()(const Tensor& x, const Tensor& significance) const {
  const RankingCut cut = cut_ranking(regions_, x.dim(1) * x.dim(2));
  std::vector<Region> regions;
  std::vector<Tensor> w, b;
  int64_t parameters = 0;
  for (size_t i = 0; i < regions_.size(); ++i) {
    regions.push_back({cut.regions[i].tokens, cut.regions[i].r});
    w.push_back(w_[i]->value);
    b.push_back(b_[i]->value);
    parameters += regions_[i].r + 1;
  }
  const Tensor y = aggregate(x, argsort(significance), regions, w, b, cut.virtual_tokens);
  // Counted twice, because the published model aggregates once for each half of the heads; here one
  // aggregation serves both. So totals compare with published ones.
  nn::trace(name_, "aggregate", y, parameters, 2);
  // Columns of kv: [k1 v1 | k2 v2], each C wide.
  return attend(x, {kv_(y)},
                {{.heads = heads_ / 2, .source = 0, .column = 0},
                 {.heads = heads_ / 2, .source = 0, .column = dim_}})
      .out;
}

}  // namespace sg::sgformer
