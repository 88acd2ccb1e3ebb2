#include "tools/golden/golden_heads.h"

#include <cmath>

#include "sgformer/segment/heads.h"

namespace sg::golden {
namespace {

using namespace sgformer;

BatchNormSettings batch_norm_of(const Case& c) {
  const std::string& mode = c.text("batch_norm");
  check(mode == "train" || mode == "eval",
        "{}: metadata 'batch_norm': expected train or eval, found {}", c.file.path().string(),
        mode);
  return {.training = mode == "train", .momentum = c.real("momentum"), .eps = c.real("eps")};
}

// Winograd's algorithm F(4x4, 3x3), which CPUs use in f32, adds numbers that are larger than their
// sum. For an output of one dimension the mean square of its terms is 10.8 times that of the sum
// (of the rows of its matrices: sum over i of A[i]^2 |B[i]|^2 |G[i]|^2 / 3, mean over outputs), so
// in two dimensions the error of a sum over channels is 10.8 times as large; that of a plain sum,
// which is 9 times as long, is 3 times as large.
constexpr double kWinograd = 10.8 / 3;

}  // namespace

Bounds chain_bounds(Dtype dtype, const nn::ParameterStore& store, const Chain& chain,
                    int64_t pixels, double input) {
  if (dtype == Dtype::f64) return {1e-9, 1e-9};
  const double product = epsilon(dtype, std::max(pixels, longest_product(store)));
  // At worst the errors of all add up, in backward once more. In bf16 input and weights are rounded
  // too.
  const double forward = dtype == Dtype::f32
                             ? chain.convolutions * kWinograd * product + chain.others * 0x1p-24
                             : (1 + 2 * chain.convolutions + chain.others) * product;
  Bounds bounds{input + forward, 2 * forward};
  // A ReLU whose normal input is off by e of its deviation passes the gradient where it should not,
  // or the reverse, at e / pi of its inputs; half of them should pass. So each adds 2 e / pi to the
  // square of the error. In f32 none of so few inputs is met.
  if (dtype == Dtype::bf16) bounds.gradients += std::sqrt(chain.relus * 2 * bounds.outputs / M_PI);
  return bounds;
}

std::vector<Row> check_maps(const Case& c, nn::ParameterStore& store, const Chain& chain,
                            const MapsForward& forward) {
  c.fill(store);
  const bool single = c.file.metadata().contains("input_shape");
  const std::vector<Shape> shapes = c.shapes(single ? "input_shape" : "input_shapes", 4);
  const auto numbered = [](const char* name, size_t i, bool alone) {
    return alone ? name : fmt::format("{}.{}", name, i);
  };
  std::vector<Tensor> maps;
  for (size_t i = 0; i < shapes.size(); ++i)
    maps.push_back(autograd::leaf(c.uniform_map(numbered("input", i, single), shapes[i])));
  const std::vector<Tensor> outputs = forward(maps);
  const std::vector<Shape> expected = c.shapes("output_shapes", outputs.at(0).dims());
  check(outputs.size() == expected.size(), "{}: expected {} outputs, computed {}",
        c.file.path().string(), expected.size(), outputs.size());
  const bool of_maps = expected[0].size() == 4;  // else rows
  const auto place = [&](const std::string& name, const Shape& shape) {
    return of_maps ? c.uniform_map(name, shape) : c.place(c.uniform(name, shape));
  };
  std::vector<Tensor> upstream;
  for (size_t i = 0; i < outputs.size(); ++i)
    upstream.push_back(place(numbered("grad", i, outputs.size() == 1), expected[i]));
  autograd::backward(outputs, upstream);

  const int64_t pixels = shapes[0][0] * shapes[0][2] * shapes[0][3];
  Comparison comparison(c, chain_bounds(c.dtype, store, chain, pixels));
  for (size_t i = 0; i < outputs.size(); ++i) {
    const std::string name = numbered("output", i, outputs.size() == 1);
    of_maps ? comparison.add_map(name, outputs[i]) : comparison.add(name, outputs[i]);
  }
  for (size_t i = 0; i < maps.size(); ++i)
    comparison.add_map(numbered("grad_input", i, single), autograd::grad_of(maps[i]));
  comparison.add_gradients(store);
  for (const nn::Buffer& b : store.named_buffers()) comparison.add("after." + b.name, b.value);
  return comparison.finish();
}

std::vector<Row> check_fpn(const Case& c) {
  nn::ParameterStore store;
  const Fpn fpn(nn::ParameterScope(store), c.numbers("in_channels"), c.number("out_channels"),
                size_t(c.number("outputs")));
  return check_maps(c, store, kFpn, [&](const auto& maps) { return fpn(maps); });
}

std::vector<Row> check_semantic_fpn(const Case& c) {
  nn::ParameterStore store;
  SegmentorConfig config;
  config.neck_channels = c.number("neck_channels");
  config.channels = c.number("channels");
  config.classes = c.number("classes");
  const SemanticFpn head(nn::ParameterScope(store), c.numbers("in_channels"), config);
  return check_maps(c, store, kSemanticFpn, [&](const auto& maps) -> std::vector<Tensor> {
    return {head(maps, {}, batch_norm_of(c))};
  });
}

std::vector<Row> check_upernet(const Case& c) {
  nn::ParameterStore store;
  SegmentorConfig config;
  config.channels = c.number("channels");
  config.classes = c.number("classes");
  config.pool_scales = c.numbers("pool_scales");
  const UperNet head(nn::ParameterScope(store), c.numbers("in_channels"), config);
  return check_maps(c, store, kUperNet, [&](const auto& maps) -> std::vector<Tensor> {
    return {head(maps, {}, batch_norm_of(c))};
  });
}

std::vector<Row> check_fcn_head(const Case& c) {
  nn::ParameterStore store;
  const FcnHead head(nn::ParameterScope(store), c.number("in_channels"), c.number("channels"),
                     c.number("classes"));
  return check_maps(c, store, kFcnHead, [&](const auto& maps) -> std::vector<Tensor> {
    return {head(maps[0], {}, batch_norm_of(c))};
  });
}

}  // namespace sg::golden
