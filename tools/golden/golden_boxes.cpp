#include "tools/golden/golden_boxes.h"

#include "sgformer/detect/assigner.h"
#include "sgformer/detect/detections.h"
#include "sgformer/detect/nms.h"
#include "sgformer/detect/proposals.h"

namespace sg::golden {
namespace {

using namespace sgformer;
using Boxes = std::vector<sgformer::Box<double>>;

constexpr double kBound = 1e-9, kIouBound = 1e-12;

// n rows of structs of `width` numbers.
template <class T, class Row>
Tensor tensor_of(const std::vector<Row>& rows) {
  constexpr int64_t width = sizeof(Row) / sizeof(T);
  const T* const numbers = reinterpret_cast<const T*>(rows.data());
  return from_vector(std::vector<T>(numbers, numbers + int64_t(rows.size()) * width),
                     {int64_t(rows.size()), width});
}
template <class T>
Tensor tensor_of(const std::vector<T>& numbers) {
  return from_vector(numbers, {int64_t(numbers.size())});
}

std::vector<ImageSize> sizes_of(const Case& c, const char* name) {
  std::vector<ImageSize> sizes;
  for (const Shape& s : c.shapes(name, 2)) sizes.emplace_back(int(s[0]), int(s[1]));
  return sizes;
}

std::array<double, 4> four(const Case& c, const char* name) {
  const std::vector<double> all = c.reals(name);
  check(all.size() == 4, "{}: metadata '{}': expected 4 numbers", c.file.path().string(), name);
  return {all[0], all[1], all[2], all[3]};
}

Case in_f64(const Case& c) { return {c.file, Dtype::f64, Device{}}; }

}  // namespace

std::vector<Row> check_anchors(const Case& c) {
  const Anchors<double> anchors({c.numbers("strides"), c.reals("ratios"), c.real("scale")},
                                sizes_of(c, "sizes"));
  Comparison comparison(c, {kBound, kBound});
  for (size_t l = 0; l < anchors.levels(); ++l) {
    const auto level = anchors.level(l);
    comparison.add(fmt::format("anchors.{}", l),
                   tensor_of<double>(Boxes(level.begin(), level.end())));
  }
  const std::vector<ImageSize> padded = sizes_of(c, "padded");
  for (size_t i = 0; i < padded.size(); ++i) {
    const std::vector<uint8_t> valid = anchors.valid(padded[i]);
    auto from = valid.begin();
    for (size_t l = 0; l < anchors.levels(); ++l) {
      const auto to = from + int64_t(anchors.level(l).size());
      comparison.add_exact(fmt::format("valid.{}.{}", i, l),
                           tensor_of(std::vector<uint8_t>(from, to)));
      from = to;
    }
  }
  return comparison.finish();
}

std::vector<Row> check_box_coder(const Case& c) {
  const Dtype dtype = acc_dtype(c.dtype);
  const double bound = dtype == Dtype::f64 ? kBound : 1e-4;
  const BoxCoder coder{four(c, "means"), four(c, "stds")};
  const ImageSize image(int(c.number("clip_height")), int(c.number("clip_width")));
  Comparison comparison(c, {bound, bound});
  const Tensor proposals = comparison.given("proposals").to(dtype);
  const Tensor targets = comparison.given("targets").to(dtype);
  const Tensor deltas = comparison.given("deltas").to(dtype);
  check_like("golden", "targets", targets, proposals);
  check_like("golden", "deltas", deltas, proposals);
  dispatch<float, double>(dtype, "golden", [&]<class T>() {
    const auto from = boxes_of<T>(proposals), to = boxes_of<T>(targets);
    const auto delta = deltas_of<T>(deltas);
    std::vector<BoxDelta<T>> encoded;
    std::vector<sgformer::Box<T>> decoded, clipped;
    for (size_t i = 0; i < from.size(); ++i) {
      encoded.push_back(coder.encode(from[i], to[i]));
      decoded.push_back(coder.decode(from[i], delta[i]));
      clipped.push_back(clip(decoded.back(), image));
    }
    comparison.add("encoded", tensor_of<T>(encoded));
    comparison.add("decoded", tensor_of<T>(decoded));
    comparison.add("decoded_clipped", tensor_of<T>(clipped));
  });
  return comparison.finish();
}

std::vector<Row> check_box_iou(const Case& c) {
  Comparison comparison(c, {kIouBound, kIouBound});
  const Tensor a = comparison.given("a"), b = comparison.given("b");
  std::vector<double> all;
  for (const auto& x : boxes_of<double>(a))
    for (const auto& y : boxes_of<double>(b)) all.push_back(iou(x, y, c.real("min_union")));
  comparison.add("iou", tensor_of(all));
  return comparison.finish();
}

std::vector<Row> check_nms(const Case& c) {
  Comparison comparison(c, {0, 0});
  const Tensor boxes = comparison.given("boxes"), scores = comparison.given("scores");
  std::vector<int32_t> groups;
  if (c.file.contains("groups"))
    for (const double g : to_vector<double>(comparison.given("groups")))
      groups.push_back(int32_t(g));
  comparison.add_exact("keep", tensor_of(nms(boxes_of<double>(boxes), scores.span<double>(), groups,
                                             c.real("iou_threshold"))));
  return comparison.finish();
}

std::vector<Row> check_assigner(const Case& c) {
  Comparison comparison(c, {kIouBound, kIouBound});
  const Tensor boxes = comparison.given("boxes"), objects = comparison.given("objects");
  const auto found = assign(boxes_of<double>(boxes), boxes_of<double>(objects),
                            {c.real("positive"), c.real("negative"), c.real("min_positive"),
                             c.number("low_quality") != 0});
  comparison.add_exact("assigned", tensor_of(found.assigned));
  comparison.add("max_iou", tensor_of(found.max_iou));
  return comparison.finish();
}

std::vector<Row> check_roi_levels(const Case& c) {
  Comparison comparison(c, {0, 0});
  const Tensor boxes = comparison.given("boxes");
  std::vector<int32_t> levels;
  for (const auto& box : boxes_of<double>(boxes))
    levels.push_back(roi_level(box, c.real("finest"), int32_t(c.number("levels"))));
  comparison.add_exact("level", tensor_of(levels));
  return comparison.finish();
}

std::vector<Row> check_rpn_proposals(const Case& given) {
  const Case c = in_f64(given);
  const std::vector<ImageSize> sizes = sizes_of(c, "sizes");
  const AnchorSettings settings{.strides = c.numbers("strides")};
  const Anchors<double> anchors(settings, sizes);
  const auto each = int64_t(settings.ratios.size());
  std::vector<Tensor> maps;  // they own what the levels refer to
  std::vector<RpnLevel<double>> levels;
  for (size_t l = 0; l < sizes.size(); ++l) {
    const int64_t h = sizes[l].height, w = sizes[l].width;
    maps.push_back(c.uniform_map(fmt::format("cls.{}", l), {1, each, h, w}));
    maps.push_back(c.uniform_map(fmt::format("reg.{}", l), {1, each * 4, h, w}));
    const Tensor &cls = maps[2 * l], &reg = maps[2 * l + 1];
    levels.push_back({cls.span<double>(), deltas_of<double>(reg)});
  }
  const auto found = rpn_proposals<double>(
      anchors, levels, ImageSize(int(c.number("image_height")), int(c.number("image_width"))),
      {size_t(c.number("nms_pre")), c.real("iou_threshold"), size_t(c.number("max_proposals"))});
  Comparison comparison(c, {kBound, kBound});
  comparison.add("boxes", tensor_of<double>(found.boxes));
  comparison.add("scores", tensor_of(found.scores));
  comparison.add_exact("level", tensor_of(found.level));
  return comparison.finish();
}

std::vector<Row> check_detections(const Case& given) {
  const Case c = in_f64(given);
  Comparison comparison(c, {kBound, kBound});
  const Tensor rois = comparison.given("rois");
  const int64_t n = rois.dim(0), classes = c.number("classes");
  Tensor logits = c.uniform("cls", {n, classes + 1});
  for (double& v : logits.span<double>()) v *= c.real("logit_scale");
  const Tensor reg = c.uniform("reg", {n, classes * 4});
  const auto found = detections<double>(
      boxes_of<double>(rois), std::as_const(logits).span<double>(), deltas_of<double>(reg), classes,
      ImageSize(int(c.number("image_height")), int(c.number("image_width"))),
      ImageSize(int(c.number("original_height")), int(c.number("original_width"))),
      {c.real("score_threshold"), c.real("iou_threshold"), size_t(c.number("max_detections"))},
      BoxCoder{.stds = four(c, "stds")});
  comparison.add("boxes", tensor_of<double>(found.boxes));
  comparison.add("scores", tensor_of(found.scores));
  comparison.add_exact("labels", tensor_of(found.labels));
  return comparison.finish();
}

}  // namespace sg::golden
