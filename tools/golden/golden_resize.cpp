#include "tools/golden/golden_resize.h"

#include <algorithm>
#include <cmath>

#include "ops/adaptive_avg_pool/adaptive_avg_pool.h"
#include "ops/bilinear_resize/bilinear_resize.h"
#include "ops/nearest_resize/nearest_resize.h"

namespace sg::golden {
namespace {

// Value and gradient of a function of one map. Results, or gradients, are sums over the pixels of
// the larger map that are in one of the smaller. Terms of either sign cancel to sqrt(terms) of
// them: by that factor the errors of bf16 inputs, which may all have one sign, grow against the
// sum.
template <class F>
std::vector<Row> check_map(const Case& c, const F& f) {
  const Shape official = c.shape("input_shape", 4);
  const Tensor x = autograd::leaf(c.uniform_map("input", official));
  const Tensor y = f(x);
  autograd::backward({y}, {c.uniform_map("grad", {official[0], official[1], y.dim(1), y.dim(2)})});
  const double ratio = double(x.numel()) / double(y.numel());
  const double growth = std::sqrt(std::max(ratio, 1 / ratio));
  const double bound = c.dtype == Dtype::f64    ? 1e-9
                       : c.dtype == Dtype::bf16 ? std::max(4.0, growth) * 0x1p-9
                                                : 4 * growth * 0x1p-24;
  Comparison comparison(c, {bound, bound});
  comparison.add_map("output", y);
  comparison.add_map("grad_input", autograd::grad_of(x));
  return comparison.finish();
}

}  // namespace

std::vector<Row> check_interpolate(const Case& c) {
  const std::string& mode = c.text("mode");
  check(mode == "bilinear" || mode == "nearest",
        "{}: metadata 'mode': expected bilinear or nearest, found '{}'", c.file.path().string(),
        mode);
  const int64_t height = c.number("output_height"), width = c.number("output_width");
  return check_map(c, [&](const Tensor& x) {
    return mode == "bilinear" ? bilinear_resize(x, height, width)
                              : nearest_resize(x, height, width);
  });
}

std::vector<Row> check_adaptive_pool(const Case& c) {
  const int64_t side = c.number("output_size");
  return check_map(c, [&](const Tensor& x) { return adaptive_avg_pool(x, side); });
}

}  // namespace sg::golden
