#include "tools/golden/golden_roi.h"

#include <cmath>

#include "ops/mask_targets/mask_targets.h"
#include "ops/roi_align/roi_align.h"
#include "sgformer/detect/proposals.h"

namespace sg::golden {
namespace {

// Value and gradients of maps for RoIs of the file. Places are off by 2^-24 of the side of a map,
// and so are weights of either sign: of a few roundings each. bf16: maps and results are rounded.
std::vector<Row> check_rois(const Case& c, const std::vector<std::string>& inputs,
                            const std::vector<Shape>& official, const std::vector<double>& scales,
                            const Tensor& levels) {
  int64_t side = 1;
  for (const Shape& s : official) side = std::max({side, s[2], s[3]});
  const double bound = c.dtype == Dtype::f64    ? 1e-9
                       : c.dtype == Dtype::bf16 ? 4 * 0x1p-9
                                                : 4 * double(side) * 0x1p-24;
  Comparison comparison(c, {bound, bound});
  const Tensor rois = comparison.given("rois").to(acc_dtype(c.dtype)).to(c.device);
  std::vector<Tensor> maps;
  for (size_t i = 0; i < inputs.size(); ++i)
    maps.push_back(autograd::leaf(c.uniform_map(inputs[i], official[i])));
  const int64_t size = c.number("output_size");
  const Tensor y = roi_align(maps, rois, levels, scales, size);
  autograd::backward({y}, {c.uniform_map("grad", {y.dim(0), y.dim(3), size, size})});
  comparison.add_map("output", y);
  for (size_t i = 0; i < inputs.size(); ++i)
    comparison.add_map("grad_" + inputs[i], autograd::grad_of(maps[i]));
  return comparison.finish();
}

}  // namespace

std::vector<Row> check_roi_align(const Case& c) {
  check(c.number("sampling_ratio") == 0 && c.number("aligned") == 1,
        "{}: expected sampling_ratio 0 and aligned 1", c.file.path().string());
  return check_rois(c, {"input"}, {c.shape("input_shape", 4)}, {c.real("spatial_scale")}, {});
}

std::vector<Row> check_roi_extract(const Case& c) {
  const std::vector<Shape> official = c.shapes("input_shapes", 4);
  const std::vector<int64_t> strides = c.numbers("strides");
  check(strides.size() == official.size(), "{}: expected a stride a map", c.file.path().string());
  std::vector<std::string> inputs;
  std::vector<double> scales;
  for (size_t i = 0; i < strides.size(); ++i) {
    inputs.push_back(fmt::format("input.{}", i));
    scales.push_back(1 / double(strides[i]));
  }
  const Tensor rois = c.file.tensor("rois");
  std::vector<int32_t> levels;
  for (int64_t i = 0; i < rois.dim(0); ++i) {
    const double* const r = rois.data<double>() + 5 * i;
    levels.push_back(sgformer::roi_level<double>({r[1], r[2], r[3], r[4]}, c.real("finest"),
                                                 int32_t(strides.size())));
  }
  return check_rois(c, inputs, official, scales, from_vector(levels, {rois.dim(0)}).to(c.device));
}

std::vector<Row> check_mask_targets(const Case& c) {
  Comparison comparison(c, {});
  // A decision: in f64 whatever the dtype.
  const Tensor boxes = comparison.given("proposals");
  comparison.add_exact(
      "target", mask_targets(comparison.given("masks").to(c.device), boxes.to(c.device),
                             comparison.given("object").to(c.device), c.number("output_size")));
  return comparison.finish();
}

}  // namespace sg::golden
