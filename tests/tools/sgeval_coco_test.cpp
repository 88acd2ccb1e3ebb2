// sgeval of results in COCO's form.
#include "tests/tools/programs.h"

namespace sg {
namespace {

using namespace test;

// The objects of COCO's images as results: what is no crowd is found.
struct Folder : TemporaryFolder {
  std::string annotations, boxes = (*this / "boxes.json").string(),
                           masks = (*this / "masks.json").string();

  explicit Folder(const std::filesystem::path& data)
      : annotations((data / "annotations/instances_val2017.json").string()) {
    const auto truth = nlohmann::json::parse(read_file(annotations));
    nlohmann::json of_boxes = nlohmann::json::array(), of_masks = of_boxes;
    for (const auto& a : truth.at("annotations")) {
      if (a.at("iscrowd").get<int>()) continue;
      nlohmann::json r{
          {"image_id", a.at("image_id")}, {"category_id", a.at("category_id")}, {"score", 0.5}};
      r["bbox"] = a.at("bbox"), of_boxes.push_back(r);
      r.erase("bbox"), r["segmentation"] = a.at("segmentation"), of_masks.push_back(r);
    }
    put(boxes, of_boxes.dump()), put(masks, of_masks.dump());
  }
  Ran operator()(const std::string& results, const std::string& arguments = "") const {
    return run_program(fmt::format("sgeval --coco-annotations {} --coco-results {} {}", annotations,
                                   results, arguments));
  }
};

}  // namespace

TEST_CASE("sgeval: results in COCO's form, printed as pycocotools does") {
  const auto data = shared("data/coco_mini");
  if (data.empty()) return;
  const Folder folder(data);
  const Ran ran = folder(folder.boxes);
  REQUIRE_MESSAGE(ran.code == 0, ran.err);
  CHECK(contains(ran.out,
                 " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 1.000\n"
                 " Average Precision  (AP) @[ IoU=0.50      | area=   all | maxDets=100 ] = 1.000\n"
                 " Average Precision  (AP) @[ IoU=0.75      | area=   all | maxDets=100 ] = 1.000\n"
                 " Average Precision  (AP) @[ IoU=0.50:0.95 | area= small | maxDets=100 ] = 1.000\n"
                 " Average Precision  (AP) @[ IoU=0.50:0.95 | area=medium | maxDets=100 ] = 1.000\n"
                 " Average Precision  (AP) @[ IoU=0.50:0.95 | area= large | maxDets=100 ] = 1.000\n"
                 " Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets=  1 ] = "));
  CHECK(!contains(ran.out, "toothbrush"));
  CHECK(contains(folder(folder.boxes, "--per-class").out, "\ntoothbrush"));

  const auto j = folder(folder.masks, "--iou-type segm --json --per-class --threads 1").json();
  CHECK(j.at("AP").get<double>() == doctest::Approx(1).epsilon(1e-9));
  CHECK(j.at("images") == 60);
  CHECK(j.at("objects") == 495);
  CHECK(j.at("results") == 490);
  REQUIRE(j.at("per_class").size() == 80);
  CHECK(j.at("per_class")[0].at("class") == "person");
  CHECK(j.at("per_class")[0].at("AP75").get<double>() == doctest::Approx(1).epsilon(1e-9));
  int without = 0;
  for (const auto& c : j.at("per_class")) without += c.at("AP").is_null();
  CHECK(without == 13);
}

TEST_CASE("sgeval: what results in COCO's form need, and what they do not have") {
  const auto data = shared("data/coco_mini");
  if (data.empty()) return;
  const Folder folder(data);
  const auto error = [&](const Ran& ran, int code, const std::string& message) {
    CHECK(ran.code == code);
    CHECK_MESSAGE(contains(ran.err, message), ran.err);
  };
  error(folder(folder.boxes, "--iou-type segm"), 3,
        "results[0] (image_id 22192): the field 'segmentation' is missing");
  error(folder(folder.boxes, "--iou-type mask"), 2,
        "--iou-type: expected bbox or segm, found 'mask'");
  error(folder(folder.boxes, "--checkpoint x"), 2,
        "--checkpoint: results of --coco-results are evaluated without a model; leave it out");
  error(folder(folder.annotations), 3, "expected a list of objects, found an object");
  error(folder((folder / "none.json").string()), 3, "none.json");
  error(run_program("sgeval --coco-results " + folder.boxes), 2, "--coco-annotations is required");
  error(run_program("sgeval --coco-annotations " + folder.annotations), 2,
        "--coco-results is required");
  error(run_program("sgeval --data x"), 2, "--checkpoint is required");
  error(run_program("sgeval --checkpoint x"), 2, "--data is required");
  auto unknown = nlohmann::json::parse(read_file(folder.boxes));
  unknown[3]["category_id"] = 12;
  put(folder.boxes, unknown.dump());
  error(folder(folder.boxes), 0, "1 results are of categories that ");
}

}  // namespace sg
