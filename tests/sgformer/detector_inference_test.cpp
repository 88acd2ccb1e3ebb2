// Detections of the detector against the literal reference, and what holds of every batch.
#include "sgformer/detect/inference.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "core/cpu/parallel.h"
#include "tests/sgformer/detector_scenes.h"
#include "tests/sgformer/literal_detector.h"
#include "tests/support/files.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::sgformer;
using test::contains, test::error_of;

namespace {

using BoxD = sgformer::Box<double>;
using Sizes = std::vector<DetectedSize>;

void fill(Detector& model, Dtype dtype) {
  model.parameters().allocate(dtype);
  test::fill(model.parameters());
}

// The same objects in the same order; numbers to 1e-9.
void check_same(const DetectedObjects& found, const DetectedObjects& expected) {
  REQUIRE(found.labels == expected.labels);
  const auto n = int64_t(found.labels.size());
  REQUIRE(int64_t(found.boxes.size()) == n);
  REQUIRE(int64_t(found.scores.size()) == n);
  REQUIRE(found.masks.shape() == Shape{n, 28, 28});
  for (size_t i = 0; i < size_t(n); ++i) {
    CAPTURE(i);
    CHECK(std::abs(found.scores[i] - expected.scores[i]) <= 1e-9);
    const BoxD &a = found.boxes[i], &b = expected.boxes[i];
    for (const double error : {a.x1 - b.x1, a.y1 - b.y1, a.x2 - b.x2, a.y2 - b.y2})
      CHECK(std::abs(error) <= 1e-9 * 100);  // of images of 100 pixels
  }
  double worst = 0;
  for (int64_t i = 0; i < found.masks.numel(); ++i)
    worst =
        std::max(worst, std::abs(found.masks.data<double>()[i] - expected.masks.data<double>()[i]));
  CHECK(worst <= 1e-9);
}

}  // namespace

TEST_CASE("detections against the literal reference, in the original image's pixels") {
  Detector model(test::narrow_detector());
  fill(model, Dtype::f64);
  const Tensor images = test::random({2, 64, 96, 3}, 1);
  const Sizes sizes{{{50, 90}, {100, 171}}, {{64, 60}, {40, 37}}};
  const auto found = detect(model, images, sizes);
  const auto expected = test::literal_detect(model, images, sizes);
  REQUIRE(found.size() == 2);
  for (size_t i = 0; i < 2; ++i) {
    CAPTURE(i);
    CHECK(found[i].boxes.size() > 10);
    check_same(found[i], expected[i]);
    for (const BoxD& b : found[i].boxes) {
      CHECK((b.x1 >= 0 && b.y1 >= 0));
      CHECK((b.x2 <= sizes[i].original.width + 1e-9 && b.y2 <= sizes[i].original.height + 1e-9));
    }
  }
  const Tensor odd = test::random({1, 61, 45, 3}, 2);
  const Sizes same{{{61, 45}, {61, 45}}};
  check_same(detect(model, odd, same)[0], test::literal_detect(model, odd, same)[0]);
}

TEST_CASE("detections: images of a batch do not see each other") {
  Detector model(test::narrow_detector());
  fill(model, Dtype::f64);
  const Tensor images = test::random({3, 64, 64, 3}, 3);
  const Sizes sizes{{{64, 64}, {64, 64}}, {{50, 64}, {50, 64}}, {{64, 64}, {32, 32}}};
  const auto all = detect(model, images, sizes);
  for (int64_t i = 0; i < 3; ++i)
    check_same(detect(model, images.slice(i, i + 1), std::span(sizes).subspan(size_t(i), 1))[0],
               all[size_t(i)]);
}

TEST_CASE("detections: settings, nothing found, and a model that diverged") {
  Detector model(test::narrow_detector());
  fill(model, Dtype::f32);
  nn::ParameterStore& p = model.parameters();
  const Tensor images = test::random({1, 64, 64, 3}, 3).to(Dtype::f32);
  const Sizes sizes{{{64, 64}, {64, 64}}};
  const auto all = detect(model, images, sizes)[0];
  const auto few = detect(model, images, sizes, {.detections = {.most = 3}})[0];
  REQUIRE(few.boxes.size() == 3);
  CHECK(few.scores[2] == all.scores[2]);
  CHECK(few.masks.shape() == Shape{3, 28, 28});
  const auto nothing = detect(model, images, sizes, {.detections = {.score_threshold = 1}})[0];
  CHECK(nothing.boxes.empty());
  CHECK(nothing.masks.shape() == Shape{0, 28, 28});
  for (const char* name : {"rpn_head.rpn_cls.bias", "roi_head.bbox_head.fc_cls.bias",
                           "roi_head.bbox_head.fc_reg.bias", "neck.fpn_convs.0.conv.bias"}) {
    CAPTURE(name);
    const Tensor before = p.get(p.values(), name);
    p.set(p.values(), name, full(p.part(name).official, NAN));
    const auto found = detect(model, images, sizes)[0];
    for (const BoxD& b : found.boxes) CHECK((b.x1 >= 0 && b.x2 <= 64 && b.y1 >= 0 && b.y2 <= 64));
    for (const double s : found.scores) CHECK(std::isfinite(s));
    p.set(p.values(), name, before);
  }
}

TEST_CASE("detections have the same bits with 1, 2 and 3 threads") {
  const int before = num_threads();
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    CAPTURE(name_of(dtype));
    Detector model({find_config("sgformer_nano"), {.channels = 32, .hidden = 48, .classes = 3}});
    fill(model, dtype);
    const Tensor images = test::random({3, 96, 128, 3}, 5).to(dtype);
    const Sizes sizes{{{90, 128}, {45, 64}}, {{96, 100}, {96, 100}}, {{96, 128}, {960, 1280}}};
    std::vector<DetectedObjects> expected;
    for (const int threads : {1, 2, 3}) {
      CAPTURE(threads);
      set_num_threads(threads);
      const auto found = detect(model, images, sizes);
      if (threads == 1) expected = found;
      for (size_t i = 0; i < 3; ++i) {
        CHECK(found[i].boxes.size() > 0);
        CHECK((found[i].boxes == expected[i].boxes));
        CHECK((found[i].scores == expected[i].scores));
        CHECK((found[i].labels == expected[i].labels));
        CHECK((to_vector<double>(found[i].masks) == to_vector<double>(expected[i].masks)));
      }
    }
  }
  set_num_threads(before);
}

TEST_CASE("detections: sizes that do not fit are refused") {
  Detector model(test::narrow_detector());
  fill(model, Dtype::f32);
  const Tensor images = test::random({1, 64, 64, 3}, 3).to(Dtype::f32);
  const auto error = [&](const Sizes& sizes) {
    return error_of(ExitCode::failure, [&] { detect(model, images, sizes); });
  };
  CHECK(contains(error({}), "1 images, sizes of 0"));
  CHECK(contains(error({{{64, 65}, {64, 65}}}), "64x65"));
  CHECK(contains(error({{{64, 64}, {0, 64}}}), "0x64"));
}
