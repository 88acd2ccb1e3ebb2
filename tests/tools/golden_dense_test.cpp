// Golden files of dense tasks: a case a group of kinds, with the number of files of each.
#include <doctest/doctest.h>

#include <map>

#include "io/safetensors.h"
#include "tests/support/skip.h"
#include "tools/golden/golden.h"

using namespace sg;
using namespace sg::golden;
using test::kCuda;

namespace {

using Counts = std::map<std::string, int>;  // files by kind

void check_kinds(const char* folder, const Counts& expected, Dtype dtype, Device device = {}) {
  const auto path = test::shared(folder);
  if (path.empty()) return;
  Counts checked;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    const std::string module = Safetensors::open(entry.path()).metadata().at("module");
    if (!expected.contains(module)) continue;
    CAPTURE(entry.path().string());
    CAPTURE(name_of(dtype));
    const Result r = check_golden(entry.path(), dtype, device);
    REQUIRE(r.checked());
    CAPTURE(r.rows[0].tensor);
    CAPTURE(r.rows[0].error.whole);
    CHECK(r.passed());
    ++checked[module];
  }
  CHECK(checked == expected);
}

const Counts kResizing{{"interpolate", 10}, {"adaptive_pool", 16}};
const Counts kLosses{{"segmentation_loss", 4}, {"rpn_loss", 1}, {"roi_loss", 2}, {"mask_loss", 1}};
const Counts kRois{{"roi_align", 5}, {"roi_extract", 2}, {"mask_targets", 1}};
const Counts kBoxes{{"anchors", 1},  {"box_coder", 2},  {"box_iou", 1},       {"nms", 6},
                    {"assigner", 6}, {"roi_levels", 1}, {"rpn_proposals", 1}, {"detections", 1}};

}  // namespace

TEST_CASE("resizing of maps") {
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16})
    check_kinds("golden/dense/resize", kResizing, dtype);
}

TEST_CASE("resizing of maps on cuda") {
  if (!test::have_cuda()) return;
  check_kinds("golden/dense/resize", kResizing, Dtype::f32, kCuda);
  check_kinds("golden/dense/resize", kResizing, Dtype::bf16, kCuda);
}

TEST_CASE("losses, their parts and gradients") {
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16})
    check_kinds("golden/dense/losses", kLosses, dtype);
}

TEST_CASE("losses on cuda") {
  if (!test::have_cuda()) return;
  check_kinds("golden/dense/losses", kLosses, Dtype::f32, kCuda);
  check_kinds("golden/dense/losses", kLosses, Dtype::bf16, kCuda);
}

TEST_CASE("RoIAlign and the targets of masks") {
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16})
    check_kinds("golden/dense/boxes", kRois, dtype);
}

TEST_CASE("RoIAlign and the targets of masks on cuda") {
  if (!test::have_cuda()) return;
  check_kinds("golden/dense/boxes", kRois, Dtype::f32, kCuda);
  check_kinds("golden/dense/boxes", kRois, Dtype::bf16, kCuda);
}

TEST_CASE("decisions about boxes") {
  check_kinds("golden/dense/boxes", kBoxes, Dtype::f64);
  check_kinds("golden/dense/boxes", {{"box_coder", 2}}, Dtype::f32);
}
