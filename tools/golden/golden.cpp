#include "tools/golden/golden.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>

#include "io/safetensors.h"
#include "ops/argsort/argsort.h"
#include "ops/cross_entropy/cross_entropy.h"
#include "ops/drop_path/drop_path.h"
#include "sgformer/classifier.h"

namespace sg::sgformer {
namespace {

// What a golden file asks for, and what was computed for it.
struct Case {
  const Safetensors& file;
  std::string key;
  Dtype dtype;
  Device device;

  const std::string& text(const std::string& name) const {
    const auto it = file.metadata().find(name);
    check(it != file.metadata().end(), "{}: metadata '{}' is missing", file.path().string(), name);
    return it->second;
  }
  std::vector<int64_t> numbers(const std::string& name) const {
    std::vector<int64_t> values;
    const std::string& s = text(name);
    for (const char* p = s.data(); p < s.data() + s.size();) {
      int64_t v = 0;
      const auto [end, ec] = std::from_chars(p, s.data() + s.size(), v);
      check(ec == std::errc() && (end == s.data() + s.size() || *end == ','),
            "{}: metadata '{}': '{}' is not a list of whole numbers", file.path().string(), name,
            s);
      values.push_back(v);
      p = end + 1;
    }
    return values;
  }
  int64_t number(const std::string& name) const {
    const auto values = numbers(name);
    check(values.size() == 1, "{}: metadata '{}': expected one number", file.path().string(), name);
    return values[0];
  }
  double real(const std::string& name) const { return std::stod(text(name)); }

  // On the CPU, in the dtype of parameters.
  Tensor uniform(const std::string& name, Shape shape) const {
    return from_vector(formula(key + "/" + name, shape.numel()), shape).to(acc_dtype(dtype));
  }
  Tensor place(const Tensor& t) const { return t.to(dtype).to(device); }
};

// (B, C, H, W) to (B, H, W, C), or back.
Tensor transpose_map(const Tensor& t, bool to_channels_last) {
  const int64_t b = t.dim(0), rows = to_channels_last ? t.dim(1) : t.dim(1) * t.dim(2);
  const int64_t columns = to_channels_last ? t.dim(2) * t.dim(3) : t.dim(3);
  Tensor y = to_channels_last ? empty({b, t.dim(2), t.dim(3), t.dim(1)}, t.dtype())
                              : empty({b, t.dim(3), t.dim(1), t.dim(2)}, t.dtype());
  dispatch<float, double>(t.dtype(), "golden", [&]<class T>() {
    for (int64_t n = 0; n < b; ++n)
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j)
          y.data<T>()[(n * columns + j) * rows + i] = t.data<T>()[(n * rows + i) * columns + j];
  });
  return y;
}

// On the CPU, in f64.
Tensor fetch(const Tensor& t) { return t.detach().to(Device{}).to(Dtype::f64); }

double norm(const Tensor& t) {
  double sum = 0;
  for (const double v : to_vector<double>(t)) sum += v * v;
  return std::sqrt(sum);
}

// What tensors of a file may be off.
struct Bounds {
  double outputs, gradients;
};

// Collects rows; a tensor of the file that nobody compared is an error.
class Comparison {
 public:
  Comparison(const Case& c, Bounds bounds) : file_(c.file), bounds_(bounds) {}

  void add(const std::string& name, const Tensor& found) {
    if (!file_.contains(name)) return;
    const Tensor expected = file_.tensor(name);
    check(expected.numel() == found.numel(), "{}: {}: expected {}, computed {}",
          file_.path().string(), name, expected.shape().str(), found.shape().str());
    rows_.push_back({name, relative_error_of(found.detach().view(expected.shape()), expected),
                     name.starts_with("grad") ? bounds_.gradients : bounds_.outputs});
  }

  void add_gradients(const nn::ParameterStore& store) {
    for (const std::string& name : store.names()) {
      const Tensor g = store.get(store.grads(), name);
      add("grad." + name, g);
      add("grad_norm." + name, full({1}, norm(g), Dtype::f64));
    }
  }

  // As add_gradients, but the gradients of all parameters are one tensor, of which each is a row:
  // what the sums of a small one are made of is as large as elsewhere. A row of one element or a
  // few (of the weights that aggregate) is off by more than all together (worst_row_factor); single
  // modules have tight bounds for those.
  void add_gradients_together(const nn::ParameterStore& store) {
    double square = 0;
    int64_t elements = 0;
    for (const std::string& name : store.names()) {
      square += std::pow(norm(expected_of(name)), 2);
      elements += store.part(name).official.numel();
    }
    for (const std::string& name : store.names()) {
      const Tensor g = store.get(store.grads(), name);
      const bool stored = file_.contains("grad." + name);
      const double scale = std::sqrt(square * double(g.numel()) / double(elements));
      const Tensor expected = expected_of(name);
      const RelativeError error = relative_error_of(
          stored ? g.view(expected.shape()) : full({1}, norm(g), Dtype::f64), expected, scale);
      rows_.push_back(
          {(stored ? "grad." : "grad_norm.") + name,
           {.whole = error.whole},
           bounds_.gradients * worst_row_factor(int64_t(store.names().size()), g.numel())});
    }
  }

  std::vector<GoldenRow> finish() {
    for (const std::string& name : file_.names())
      check(std::any_of(rows_.begin(), rows_.end(), [&](auto& r) { return r.tensor == name; }),
            "{}: tensor '{}' was not computed; is it part of the golden form?",
            file_.path().string(), name);
    std::stable_sort(rows_.begin(), rows_.end(), [](const GoldenRow& a, const GoldenRow& b) {
      return a.share_of_bound() > b.share_of_bound();
    });
    return std::move(rows_);
  }

 private:
  Tensor expected_of(const std::string& parameter) const {
    const std::string gradient = "grad." + parameter;
    return file_.tensor(file_.contains(gradient) ? gradient : "grad_norm." + parameter);
  }

  const Safetensors& file_;
  Bounds bounds_;
  std::vector<GoldenRow> rows_;
};

// The relative error of one result: its rounding, which in f32 is that of a sum of `terms` products
// of either sign. Its partial sums grow like sqrt(k), and each is rounded by 2^-24 at most, 0.4
// times that on average: together 0.3 * 2^-24 * sqrt(terms).
double epsilon(Dtype dtype, int64_t terms) {
  return dtype == Dtype::bf16 ? 0x1p-9 : 0x1p-24 * std::sqrt(double(terms)) / 3;
}

// The longest sum in a product: over the inputs of a layer.
int64_t longest_product(const nn::ParameterStore& store) {
  int64_t terms = 1;
  for (const std::string& name : store.names()) {
    const Shape& s = store.part(name).official;
    if (s.size() > 1) terms = std::max(terms, s.numel() / s[0]);
  }
  return terms;
}

// Bounds of a single module with `samples` tokens or pixels, over which gradients of weights are
// sums. The errors of the roundings of a chain add up at worst: about 6 in each direction through
// an attention module, an MLP, the stem or a patch merging, and 4 times as many through two blocks.
Bounds module_bounds(const Case& c, const nn::ParameterStore& store, int64_t samples) {
  if (c.dtype == Dtype::f64) return {1e-9, 1e-9};
  const int roundings = c.text("module") == "block_pair" ? 48 : 12;
  const double bound = roundings * epsilon(c.dtype, std::max(samples, longest_product(store)));
  return {bound, bound};
}

void fill_parameters(const Case& c, nn::ParameterStore& store) {
  store.allocate(c.dtype, c.device);
  for (const std::string& name : store.names())
    store.set(store.values(), name, formula_parameter(c.key, name, store.part(name).official));
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
  const auto u = formula(c.key + "/mask", x.dim(0) * n);
  Tensor map = empty({x.dim(0), x.dim(1), x.dim(2)}, Dtype::f64);
  for (int64_t i = 0; i < map.numel(); ++i)
    map.data<double>()[i] = double(u[size_t(i)]) + 1e-9 * double(i % n);
  return ranks_of(c, map);
}

template <class T, class... A>
std::shared_ptr<T> make(A&&... args) {
  return std::make_shared<T>(std::forward<A>(args)...);
}

// What build() and check_model() know.
constexpr std::string_view kModules[] = {"hybrid_attention",
                                         "self_guided_attention",
                                         "full_attention",
                                         "block_pair",
                                         "mlp",
                                         "stem",
                                         "patch_merging",
                                         "sgformer"};

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

std::vector<GoldenRow> check_module(const Case& c) {
  Module m;
  build(c, m);
  fill_parameters(c, m.store);
  Shape official;
  for (const int64_t d : c.numbers("input_shape")) official.push_back(d);
  check(official.size() == (m.takes_map ? 4 : 3), "{}: input_shape {} does not fit the module",
        c.file.path().string(), official.str());
  const Tensor input = c.uniform("input", official);
  const Tensor x = autograd::leaf(c.place(
      m.takes_map ? transpose_map(input, true)
                  : input.view({official[0], c.number("height"), c.number("width"), official[2]})));
  Tensor significance;
  const Tensor y = m.forward(x, significance);
  autograd::backward({y}, {c.place(c.uniform("grad", y.shape()))});

  Comparison comparison(c, module_bounds(c, m.store, x.numel() / x.dim(3)));
  comparison.add("output", y);
  if (significance) comparison.add("significance", significance);
  const Tensor dx = fetch(autograd::grad_of(x));
  comparison.add("grad_input", m.takes_map ? transpose_map(dx, false) : dx);
  comparison.add_gradients(m.store);
  return comparison.finish();
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

std::vector<GoldenRow> check_model(const Case& c) {
  Config config;
  config.name = c.key;
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
  fill_parameters(c, model.parameters());
  Shape official;
  for (const int64_t d : c.numbers("input_shape")) official.push_back(d);
  const Tensor images = c.place(transpose_map(c.uniform("input", official), true));
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
  for (size_t i = 0; i < out.maps.size(); ++i)
    comparison.add(fmt::format("features.{}", i), out.maps[i]);
  if (c.dtype == Dtype::bf16)
    comparison.add_gradients_together(model.parameters());
  else
    comparison.add_gradients(model.parameters());
  return comparison.finish();
}

}  // namespace

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

std::vector<float> formula(const std::string& key, int64_t n) {
  uint64_t h = 0xcbf29ce484222325;
  for (const char ch : key) h = (h ^ uint8_t(ch)) * 0x100000001b3;
  std::vector<float> u(static_cast<size_t>(n));
  for (size_t i = 0; i < u.size(); ++i) {
    uint64_t z = h + (i + 1) * 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    z ^= z >> 31;
    u[i] = float(z >> 40) / 0x1p23f - 1;
  }
  return u;
}

Tensor formula_parameter(const std::string& key, const std::string& name, const Shape& official) {
  std::vector<float> u = formula(key + "/" + name, official.numel());
  const bool vector = official.size() == 1;
  const double fan_in = double(official.numel()) / double(official[0]);
  const float factor = name.ends_with("pos_embed") ? 0.5f
                       : vector                    ? (name.ends_with("weight") ? 0.2f : 0.1f)
                                                   : float(std::sqrt(3.0 / fan_in));
  const float shift = vector && name.ends_with("weight") ? 1.0f : 0.0f;
  for (float& v : u) v = shift + v * factor;
  return from_vector(u, official);
}

bool is_golden(const std::filesystem::path& file) {
  if (file.extension() != ".safetensors") return false;
  Metadata metadata = Safetensors::open(file).metadata();
  metadata.erase("format");  // what any program writes
  return !metadata.empty();
}

GoldenResult check_golden(const std::filesystem::path& path, Dtype dtype, Device device) {
  const bool cuda = device.type == DeviceType::cuda;
  if (dtype != Dtype::f32 && dtype != (cuda ? Dtype::bf16 : Dtype::f64))
    fail(ExitCode::usage, "--dtype: {} is not implemented on {}; use f32 or {}", name_of(dtype),
         str(device), cuda ? "bf16" : "f64");
  const Safetensors file = Safetensors::open(path);
  GoldenResult result;
  if (file.metadata().contains("module")) result.module = file.metadata().at("module");
  if (std::ranges::find(kModules, result.module) == std::end(kModules)) return result;
  Case c{file, "", dtype, device};
  c.key = c.text("key");
  if (result.module == "sgformer") {
    result.rows = check_model(c);
  } else {
    result.rows = check_module(c);
  }
  return result;
}

}  // namespace sg::sgformer
