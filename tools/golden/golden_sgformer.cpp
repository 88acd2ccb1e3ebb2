#include "tools/golden/golden_sgformer.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "ops/argsort/argsort.h"
#include "ops/cross_entropy/cross_entropy.h"
#include "ops/drop_path/drop_path.h"
#include "sgformer/classifier.h"

namespace sg::golden {
namespace {

using namespace sgformer;

// Bounds of a single module with `samples` tokens or pixels, over which gradients of weights are
// sums. The errors of the roundings of a chain add up at worst: about 6 in each direction through
// an attention module, an MLP, the stem or a patch merging, and 4 times as many through two blocks.
Bounds module_bounds(const Case& c, const nn::ParameterStore& store, int64_t samples) {
  if (c.dtype == Dtype::f64) return {1e-9, 1e-9};
  const int roundings = c.text("module") == "block_pair" ? 48 : 12;
  const double bound = roundings * epsilon(c.dtype, std::max(samples, longest_product(store)));
  return {bound, bound};
}

// A single module: tokens or a map in, tokens out.
struct Module {
  nn::ParameterStore store;
  std::function<Tensor(const Tensor& x, Tensor& significance)> forward;
  bool takes_map = false;  // official input (B, C, H, W) instead of (B, N, C)
};

StageConfig stage_of(const Case& c) {
  const int s = int(c.number("sr_ratio"));
  return {c.number("dim"), int(c.number("heads")), 2, published_scales(s), published_regions(s)};
}

// A map that ranks the tokens as `map`, (B, H, W) in f64 on the CPU, does in f64: their ranks,
// which any dtype of parameters holds exactly, where rounding the map would make ties.
Tensor ranks_of(const Case& c, const Tensor& map) {
  const Tensor order = argsort(map);
  Tensor ranks = empty(map.shape(), Dtype::f64);
  const int64_t n = order.dim(1);
  for (int64_t i = 0; i < order.numel(); ++i)
    ranks.data<double>()[i / n * n + order.data<int32_t>()[i]] = double(i % n);
  return ranks.to(acc_dtype(c.dtype)).to(c.device);
}

// The significance that the golden form gives to a self-guided module.
Tensor given_significance(const Case& c, const Tensor& x) {
  const int64_t n = x.dim(1) * x.dim(2);
  const auto u = formula(c.text("key") + "/mask", x.dim(0) * n);
  Tensor map = empty({x.dim(0), x.dim(1), x.dim(2)}, Dtype::f64);
  for (int64_t i = 0; i < map.numel(); ++i)
    map.data<double>()[i] = double(u[size_t(i)]) + 1e-9 * double(i % n);
  return ranks_of(c, map);
}

template <class T, class... A>
std::shared_ptr<T> make(A&&... args) {
  return std::make_shared<T>(std::forward<A>(args)...);
}

void build(const Case& c, Module& m) {
  const std::string& kind = c.text("module");
  const nn::ParameterScope root(m.store);
  const Config config;
  if (kind == "hybrid_attention") {
    auto f = make<HybridAttention>(root, config, stage_of(c));
    m.forward = [f](const Tensor& x, Tensor& significance) {
      const auto r = (*f)(x);
      significance = r.significance;
      return r.out;
    };
  } else if (kind == "self_guided_attention") {
    auto f = make<SelfGuidedAttention>(root, stage_of(c));
    m.forward = [f, &c](const Tensor& x, Tensor&) { return (*f)(x, given_significance(c, x)); };
  } else if (kind == "full_attention") {
    auto f = make<FullAttention>(root, c.number("dim"), int(c.number("heads")));
    m.forward = [f](const Tensor& x, Tensor&) { return (*f)(x); };
  } else if (kind == "block_pair") {
    const StageConfig stage = stage_of(c);
    auto a = make<Block>(root / "0", config, stage, BlockKind::hybrid);
    auto b = make<Block>(root / "1", config, stage, BlockKind::self_guided);
    m.forward = [a, b, &c](const Tensor& x, Tensor& significance) {
      nn::Residual y = (*a)({x}, significance, {});
      // Near-ties flip under rounding: below f64 the ranking is given.
      Tensor ranked =
          c.dtype == Dtype::f64 ? significance : ranks_of(c, c.file.tensor("significance"));
      y = (*b)(y, ranked, {});
      return drop_path_add(y.x, y.branch, y.keep);
    };
  } else if (kind == "mlp") {
    auto f = make<Mlp>(root, c.number("dim"), c.number("hidden"));
    m.forward = [f](const Tensor& x, Tensor&) { return (*f)(x); };
  } else if (kind == "stem") {
    auto f = make<Stem>(root, c.number("dim"), config.stem_strides);
    m.forward = [f](const Tensor& x, Tensor&) { return (*f)(x); };
    m.takes_map = true;
  } else if (kind == "patch_merging") {
    auto f = make<PatchMerging>(root, c.number("dim"), c.number("out_dim"));
    m.forward = [f](const Tensor& x, Tensor&) { return (*f)(x); };
    m.takes_map = true;
  } else {
    fail(ExitCode::failure, "{}: module '{}' is unknown", c.file.path().string(), kind);
  }
}

// Below f64, near-ties of the ranking flip under rounding: all of it is given.
std::vector<SignificanceMap> stored_significance(const Case& c, const Config& config,
                                                 const Shape& images) {
  std::vector<SignificanceMap> maps;
  if (c.dtype == Dtype::f64) return maps;
  int64_t h = images[1], w = images[2];
  const auto shrink = [&](int stride) { h = (h - 1) / stride + 1, w = (w - 1) / stride + 1; };
  for (const int stride : config.stem_strides) shrink(stride);
  for (int stage = 0; stage < 3; ++stage, shrink(2))
    for (int block = 0; block < config.stages[size_t(stage)].depth; block += 2) {
      const Tensor map = c.file.tensor(fmt::format("significance.{}.{}", stage, block));
      maps.push_back({stage, block, ranks_of(c, map.view({images[0], h, w}))});
    }
  return maps;
}

}  // namespace

std::vector<Row> check_module(const Case& c) {
  Module m;
  build(c, m);
  c.fill(m.store);
  const Shape official = c.shape("input_shape", m.takes_map ? 4 : 3);
  const Tensor x = autograd::leaf(
      m.takes_map
          ? c.uniform_map("input", official)
          : c.place(c.uniform("input", official)
                        .view({official[0], c.number("height"), c.number("width"), official[2]})));
  Tensor significance;
  const Tensor y = m.forward(x, significance);
  autograd::backward({y}, {c.place(c.uniform("grad", y.shape()))});

  Comparison comparison(c, module_bounds(c, m.store, x.numel() / x.dim(3)));
  comparison.add("output", y);
  if (significance) comparison.add("significance", significance);
  const Tensor dx = autograd::grad_of(x);
  m.takes_map ? comparison.add_map("grad_input", dx) : comparison.add("grad_input", dx);
  comparison.add_gradients(m.store);
  return comparison.finish();
}

std::vector<Row> check_model(const Case& c) {
  Config config;
  config.name = c.text("key");
  config.classes = c.number("classes");
  const auto dims = c.numbers("dims"), depths = c.numbers("depths"), heads = c.numbers("heads"),
             merges = c.numbers("sr_ratios");
  for (size_t i = 0; i < 4; ++i) {
    check(dims.size() == 4 && depths.size() == 4 && heads.size() == 4 && merges.size() == 4,
          "{}: expected four stages", c.file.path().string());
    config.stages[i] = {dims[i], int(heads[i]), int(depths[i]), {}, {}};
    if (merges[i] == 1) continue;
    config.stages[i].scales = published_scales(int(merges[i]));
    config.stages[i].regions = published_regions(int(merges[i]));
  }
  Classifier model(config);
  c.fill(model.parameters());
  const Tensor images = c.uniform_map("input", c.shape("input_shape", 4));
  const Classifier::Output out = model.forward(
      images,
      {.significance = true, .given_significance = stored_significance(c, config, images.shape())});

  std::vector<int32_t> labels;
  for (const int64_t l : c.numbers("labels")) labels.push_back(int32_t(l));
  const Tensor targets = smooth_one_hot(from_vector(labels, {int64_t(labels.size())}).to(c.device),
                                        config.classes, c.real("smoothing"), acc_dtype(c.dtype));
  const CrossEntropy loss = soft_cross_entropy(out.logits, targets);
  autograd::backward(loss.loss);

  Comparison comparison(c, {model_bound(config, c.dtype), model_gradient_bound(config, c.dtype)});
  comparison.add("logits", out.logits);
  comparison.add("loss", loss.loss);
  for (const SignificanceMap& s : out.significance)
    comparison.add(fmt::format("significance.{}.{}", s.stage, s.block), s.map);
  // Tokens are sums of what branches give, and errors in a branch come out of two products: values
  // and projection, or fc1 and fc2.
  constexpr int kProducts = 2;
  for (size_t i = 0; i < out.maps.size(); ++i)
    comparison.add(fmt::format("features.{}", i), out.maps[i], kProducts);
  if (c.dtype == Dtype::bf16)
    comparison.add_gradients_together(model.parameters());
  else
    comparison.add_gradients(model.parameters());
  return comparison.finish();
}

double model_bound(const Config& config, Dtype dtype) {
  if (dtype == Dtype::f64) return 1e-9;
  int blocks = 0;
  int64_t widest = 0;
  for (const StageConfig& s : config.stages) blocks += s.depth, widest = std::max(widest, s.dim);
  return epsilon(dtype, config.mlp_ratio * widest) * std::sqrt(20.0 * blocks + 38);
}

double model_gradient_bound(const Config& config, Dtype dtype) {
  if (dtype == Dtype::f64) return 1e-9;
  int modules = 4;
  for (const StageConfig& s : config.stages) modules += 2 * s.depth;
  return std::sqrt(modules) * model_bound(config, dtype);
}

}  // namespace sg::golden
