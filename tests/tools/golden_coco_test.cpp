// Golden files of COCO's masks and evaluation, with the number of files of each kind; and that a
// wrong number in one is found.
#include <doctest/doctest.h>

#include <map>

#include "io/json.h"
#include "io/safetensors.h"
#include "tests/support/files.h"
#include "tools/golden/golden.h"

using namespace sg;
using namespace sg::golden;

namespace {

std::map<std::string, int> checked_in(const char* folder, const char* kind = nullptr) {
  const auto path = test::shared(folder);
  std::map<std::string, int> checked;
  if (path.empty()) return checked;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    if (!is_golden(entry.path())) continue;
    if (kind && Safetensors::open(entry.path()).metadata().at("module") != kind) continue;
    CAPTURE(entry.path().string());
    const Result r = check_golden(entry.path(), Dtype::f64);
    REQUIRE(r.checked());
    CAPTURE(r.rows[0].tensor);
    CAPTURE(r.rows[0].error.whole);
    CHECK(r.passed());
    ++checked[r.module];
  }
  return checked;
}

// With its module first, as golden files have it.
std::string text_of(nlohmann::json j) {
  j.erase("module");
  return R"({"module": "coco_eval", )" + j.dump().substr(1);
}

using Counts = std::map<std::string, int>;

}  // namespace

TEST_CASE("golden: masks and boxes of COCO") {
  CHECK(checked_in("golden/dense/coco_masks") ==
        Counts{{"coco_masks", 1}, {"coco_mask_iou", 1}, {"coco_box_iou", 1}});
}

TEST_CASE("golden: masks pasted into images") {
  CHECK(checked_in("golden/dense/boxes", "mask_paste") == Counts{{"mask_paste", 2}});
}

TEST_CASE("golden: evaluation of COCO") {
  CHECK(checked_in("golden/dense/coco_eval") == Counts{{"coco_eval", 18}});
}

TEST_CASE("golden: a wrong number of COCO's evaluation is found") {
  const auto folder = test::shared("golden/dense/coco_eval");
  if (folder.empty()) return;
  const test::TemporaryFolder copy;
  for (const char* name : {"annotations", "results.bbox", "results.segm", "expected"}) {
    const std::string file = fmt::format("random_60.{}.json", name);
    std::filesystem::copy(folder / file, copy / file);
  }
  const auto expected = copy / "random_60.expected.json";
  CHECK(check_golden(expected, Dtype::f64).passed());
  const nlohmann::json good = parse_json(read_file(expected), "", ExitCode::data);
  const auto passes = [&](const nlohmann::json& j) {
    test::put(expected, text_of(j));
    return check_golden(expected, Dtype::f64).passed();
  };
  for (const char* type : {"bbox", "segm"})
    for (size_t i = 0; i < 12; ++i) {
      nlohmann::json j = good;
      double& value = j[type]["stats"][i].get_ref<double&>();
      value += 2e-12;
      CHECK(!passes(j));
    }
  nlohmann::json j = good;
  j["segm"]["per_category"]["3"]["AP75"].get_ref<double&>() += 2e-12;
  CHECK(!passes(j));
  j = good;
  j["bbox"]["stats"].erase(11);
  CHECK(!passes(j));
  j = good;
  j["bbox"].erase("stats");
  test::put(expected, text_of(j));
  CHECK(
      test::contains(test::error_of(ExitCode::failure, [&] { check_golden(expected, Dtype::f64); }),
                     "not of the golden form"));
}
