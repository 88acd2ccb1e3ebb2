#include "tools/golden/golden_coco.h"

#include "data/coco/paste_mask.h"
#include "data/coco/segmentation.h"
#include "tasks/coco_evaluation.h"

namespace sg::golden {
namespace {

using data::CocoBox;
using data::MeasuredMask;
using data::RleMask;
using nlohmann::json;

constexpr double kBound = 1e-12;

std::vector<double> numbers(const CocoBox& b) { return {b.x, b.y, b.width, b.height}; }
CocoBox box_of(const json& j) { return {j.at(0), j.at(1), j.at(2), j.at(3)}; }

data::CocoSegmentation segmentation_of(const json& j) {
  if (j.is_object()) {
    const int height = j.at("size").at(0), width = j.at("size").at(1);
    const json& counts = j.at("counts");
    RleMask mask{height, width, {}};
    if (counts.is_string())
      mask = data::rle_from_string(counts.get<std::string>(), height, width);
    else
      counts.get_to(mask.counts);
    data::check_rle(mask);
    return data::CocoSegmentation(mask);
  }
  std::vector<double> all;
  std::vector<size_t> ends;
  for (const json& list : j) {
    for (const json& number : list) all.push_back(number);
    ends.push_back(all.size());
  }
  return {all, ends};
}

// iou[detection][object], with crowds and without.
template <class T, class F>
void add_ious(std::vector<Row>& rows, const json& c, const std::vector<T>& detections,
              const std::vector<T>& objects, const F& iou_of) {
  for (const bool crowds : {true, false}) {
    const char* name = crowds ? "iou" : "iou_without_crowd";
    if (!c.contains(name)) continue;
    std::vector<double> found, expected;
    for (const T& d : detections)
      for (size_t g = 0; g < objects.size(); ++g)
        found.push_back(iou_of(d, objects[g], crowds && c.at("iscrowd").at(g).get<int>() != 0));
    for (const json& row : c.at(name))
      for (const json& value : row) expected.push_back(value);
    rows.push_back(compare(name, found, expected, kBound));
  }
}

}  // namespace

std::vector<Row> check_coco_masks(const JsonCase& c) {
  std::vector<Row> rows;
  for (const json& j : c.value.at("cases")) {
    const std::string name = j.at("name").get<std::string>() + ": ";
    const data::CocoSegmentation given = segmentation_of(j.at("segmentation"));
    std::vector<uint8_t> bytes;
    given.append_to(bytes);
    const int height = j.at("height"), width = j.at("width");
    const RleMask mask = data::CocoSegmentation::read(bytes).mask(height, width);
    std::vector<uint8_t> pixels(size_t(height) * size_t(width));
    data::rle_to_pixels(mask, pixels.data());
    const std::string rle = data::rle_to_string(mask);
    rows.push_back(compare(name + "rle", rle, j.at("rle").get<std::string>()));
    for (const auto& [what, again] :
         {std::pair("rle of pixels", data::rle_from_pixels(pixels.data(), height, width)),
          {"rle of rle", data::rle_from_string(rle, height, width)}})
      rows.push_back(compare(name + what, data::rle_to_string(again), rle));
    if (j.contains("counts"))
      rows.push_back(compare(name + "counts", {mask.counts.begin(), mask.counts.end()},
                             j.at("counts").get<std::vector<double>>(), 0));
    rows.push_back(compare(name + "area", {double(mask.area())}, {j.at("area").get<double>()}, 0));
    rows.push_back(
        compare(name + "bbox", numbers(mask.box()), j.at("bbox").get<std::vector<double>>(), 0));
  }
  return worst_first(rows);
}

std::vector<Row> check_coco_mask_iou(const JsonCase& c) {
  const int height = c.value.at("height"), width = c.value.at("width");
  const auto masks = [&](const char* name) {
    std::vector<MeasuredMask> all;
    for (const json& j : c.value.at(name))
      all.emplace_back(data::rle_from_string(j.get<std::string>(), height, width));
    return all;
  };
  const auto detections = masks("detections"), objects = masks("objects");
  std::vector<Row> rows;
  add_ious(rows, c.value, detections, objects, data::mask_iou);
  RleMask all = detections.at(0).rle;
  for (const MeasuredMask& d : detections) all = rle_union(all, d.rle);
  const RleMask shared = rle_intersection(detections.at(0).rle, detections.at(1).rle);
  for (const auto& [name, mask] : {std::pair("union", all), {"intersection", shared}})
    rows.push_back(compare(name, data::rle_to_string(mask), c.value.at(name).get<std::string>()));
  return worst_first(rows);
}

std::vector<Row> check_coco_box_iou(const JsonCase& c) {
  const auto boxes = [&](const char* name) {
    std::vector<CocoBox> all;
    for (const json& j : c.value.at(name)) all.push_back(box_of(j));
    return all;
  };
  std::vector<Row> rows;
  add_ious(rows, c.value, boxes("detections"), boxes("objects"), data::box_iou);
  return worst_first(rows);
}

std::vector<Row> check_coco_eval(const JsonCase& c) {
  const auto beside = [&](const char* name) {
    return c.path.parent_path() / c.value.at(name).get<std::string>();
  };
  const data::CocoAnnotations truth(beside("annotations"));
  std::vector<Row> rows;
  for (const auto& [name, results, iou] :
       {std::tuple("bbox", "results_bbox", tasks::CocoIou::boxes),
        {"segm", "results_segm", tasks::CocoIou::masks}}) {
    const json& expected = c.value.at(name);
    const data::CocoResults found(beside(results), truth, iou == tasks::CocoIou::masks);
    const tasks::CocoScores scores = tasks::evaluate_results(truth, found, iou);
    rows.push_back(compare(fmt::format("{}: stats", name),
                           {scores.stats.begin(), scores.stats.end()},
                           expected.at("stats").get<std::vector<double>>(), kBound));
    for (size_t k = 0; k < scores.classes.size(); ++k) {
      const json& of_class =
          expected.at("per_category").at(std::to_string(truth.category_ids()[k]));
      const auto& [ap, ap50, ap75] = scores.classes[k];
      rows.push_back(
          compare(fmt::format("{}: category {}", name, truth.category_ids()[k]), {ap, ap50, ap75},
                  {of_class.at("AP"), of_class.at("AP50"), of_class.at("AP75")}, kBound));
    }
  }
  return worst_first(rows);
}

std::vector<Row> check_mask_paste(const Case& c) {
  Comparison comparison(c, {kBound, kBound});
  const Tensor masks = comparison.given("masks"), boxes = comparison.given("boxes");
  const auto height = int(c.number("height")), width = int(c.number("width"));
  const json rle = json::parse(c.text("rle")), area = json::parse(c.text("area"));
  const std::span<const double> probabilities = masks.span<double>();
  const auto pixels = size_t(masks.dim(1) * masks.dim(2));
  for (size_t i = 0; i < size_t(masks.dim(0)); ++i) {
    std::array<double, 4> box;
    std::ranges::copy(boxes.span<double>().subspan(4 * i, 4), box.begin());
    const RleMask mask =
        data::paste_mask(probabilities.subspan(i * pixels, pixels), box, height, width);
    comparison.add_row(compare(fmt::format("{}: rle", i), data::rle_to_string(mask),
                               rle.at(i).get<std::string>()));
    comparison.add_row(
        compare(fmt::format("{}: area", i), {double(mask.area())}, {area.at(i).get<double>()}, 0));
  }
  return comparison.finish();
}

}  // namespace sg::golden
