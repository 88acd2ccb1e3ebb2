#include "sgformer/detect/detector.h"

#include <doctest/doctest.h>

#include <cmath>

#include "ops/mask_loss/mask_loss.h"
#include "sgformer/detect/losses.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::sgformer;
using sg::test::relative_error;

namespace {

int64_t count_of(const nn::ParameterStore& store, const std::string& prefix) {
  int64_t n = 0;
  for (const std::string& name : store.names())
    if (name.starts_with(prefix)) n += store.part(name).official.numel();
  return n;
}

}  // namespace

TEST_CASE("detector: as many parameters as mmdetection's Mask R-CNN, under its names") {
  struct Model {
    const char* name;
    int64_t backbone, neck;  // thousands
  };
  for (const Model& m : {Model{"sgformer_s", 22030, 2607},
                         {"sgformer_m", 38180, 2607},
                         {"sgformer_b", 77180, 2730}}) {
    const Detector model({find_config(m.name), {}});
    const nn::ParameterStore& store = model.parameters();
    const auto thousands = [&](const char* prefix) {
      return std::llround(double(count_of(store, prefix)) / 1e3);
    };
    CAPTURE(m.name);
    CHECK(std::abs(thousands("backbone.") - m.backbone) <= 5);  // printed to 0.01M
    CHECK(thousands("neck.") == m.neck);
    CHECK(thousands("rpn_head.") == 594);
    CHECK(thousands("roi_head.bbox_head.") == 14307);
    CHECK(thousands("roi_head.mask_head.") == 2643);
    CHECK(count_of(store, "backbone.") + count_of(store, "neck.") + count_of(store, "rpn_head.") +
              count_of(store, "roi_head.") ==
          store.count());
  }
  const Detector model({find_config("sgformer_s"), {}});
  CHECK(model.strides() == std::vector<int64_t>{4, 8, 16, 32, 64});
  const auto shape = [&](const std::string& name) {
    return model.parameters().part(name).official;
  };
  CHECK(shape("neck.lateral_convs.3.conv.weight") == Shape{256, 512, 1, 1});
  CHECK(shape("neck.fpn_convs.0.conv.bias") == Shape{256});
  CHECK(shape("rpn_head.rpn_conv.weight") == Shape{256, 256, 3, 3});
  CHECK(shape("rpn_head.rpn_cls.weight") == Shape{3, 256, 1, 1});
  CHECK(shape("rpn_head.rpn_reg.bias") == Shape{12});
  CHECK(shape("roi_head.bbox_head.shared_fcs.0.weight") == Shape{1024, 12544});
  CHECK(shape("roi_head.bbox_head.shared_fcs.1.bias") == Shape{1024});
  CHECK(shape("roi_head.bbox_head.fc_cls.weight") == Shape{81, 1024});
  CHECK(shape("roi_head.bbox_head.fc_reg.weight") == Shape{320, 1024});
  CHECK(shape("roi_head.mask_head.convs.3.conv.weight") == Shape{256, 256, 3, 3});
  CHECK(shape("roi_head.mask_head.upsample.weight") == Shape{256, 256, 2, 2});
  CHECK(shape("roi_head.mask_head.conv_logits.weight") == Shape{80, 256, 1, 1});
}

TEST_CASE("detector: initial values have the published deviations") {
  Detector model({find_config("sgformer_s"), {}});
  nn::ParameterStore& store = model.parameters();
  store.allocate(Dtype::f32, {}, false);
  store.initialize(3);
  const auto deviation = [&](const std::string& name) {
    double sum = 0;
    const auto values = to_vector<double>(store.get(store.values(), name));
    for (const double v : values) sum += v * v;
    return std::sqrt(sum / double(values.size()));
  };
  const auto check = [&](const std::string& name, double expected) {
    CAPTURE(name);
    // Of 10,000 values or more, but for the logits of anchors: 768.
    CHECK(deviation(name) == doctest::Approx(expected).epsilon(0.08));
  };
  check("neck.lateral_convs.0.conv.weight", std::sqrt(2.0 / (64 + 256)));
  check("neck.fpn_convs.0.conv.weight", std::sqrt(2.0 / (9 * 512)));
  for (const char* name : {"rpn_conv", "rpn_cls", "rpn_reg"})
    check(fmt::format("rpn_head.{}.weight", name), 0.01);
  check("roi_head.bbox_head.shared_fcs.0.weight", std::sqrt(2.0 / (12544 + 1024)));
  check("roi_head.bbox_head.shared_fcs.1.weight", std::sqrt(2.0 / 2048));
  check("roi_head.bbox_head.fc_cls.weight", 0.01);
  check("roi_head.bbox_head.fc_reg.weight", 0.001);
  check("roi_head.mask_head.convs.0.conv.weight", std::sqrt(2.0 / (9 * 256)));
  check("roi_head.mask_head.upsample.weight", std::sqrt(2.0 / (4 * 256)));
  check("roi_head.mask_head.conv_logits.weight", std::sqrt(2.0 / 80));
  for (const std::string& name : store.names())
    if (!name.starts_with("backbone.") && name.ends_with(".bias")) CHECK(deviation(name) == 0);
}

TEST_CASE("detector: weights keep their official order at the border") {
  Detector model({find_config("sgformer_nano"), {.channels = 3, .hidden = 5, .classes = 2}});
  nn::ParameterStore& store = model.parameters();
  store.allocate(Dtype::f64);
  for (const std::string name :
       {"roi_head.bbox_head.shared_fcs.0.weight", "roi_head.mask_head.upsample.weight"}) {
    const Tensor official = test::random(store.part(name).official, 1);
    store.set(store.values(), name, official);
    CHECK(relative_error(store.get(store.values(), name), official) == 0);
  }
}

TEST_CASE("detector: one step from images to losses gives every parameter its gradient") {
  Detector model({find_config("sgformer_nano"), {.channels = 16, .hidden = 24, .classes = 3}});
  nn::ParameterStore& store = model.parameters();
  store.allocate();
  store.initialize(1);
  const auto pyramid = model.pyramid(test::random({2, 64, 96, 3}, 1).to(Dtype::f32), {});
  REQUIRE(pyramid.size() == 5);
  CHECK(model.strides() == std::vector<int64_t>{2, 4, 8, 16, 32});
  for (size_t i = 0; i < 5; ++i)
    CHECK(pyramid[i].shape() == Shape{2, 64 / model.strides()[i], 96 / model.strides()[i], 16});

  const auto ints = [](std::vector<int32_t> v) { return from_vector(v, {int64_t(v.size())}); };
  const auto rpn = model.rpn(pyramid);
  const DetectorLoss anchors = rpn_loss(
      rpn, {ints({0, 1500, 6143}), ints({7, 6137}), test::random({3, 4}, 2).to(Dtype::f32)});
  const std::vector<int32_t> labels{1, 3, 0, 2};
  const Tensor rois = from_vector(std::vector<float>{0, 3, 5, 60, 50, 1, 1, 1, 20, 20,  //
                                                     1, 0, 0, 95, 63, 0, 9, 9, 44, 59},
                                  {4, 5});
  const Tensor levels = ints({1, 0, 3, 2});
  const auto rows = positive_rows(labels, 3);
  CHECK(rows == std::vector<int32_t>{1, 6, 11});
  const DetectorLoss boxes =
      roi_loss(model.boxes(pyramid, rois, levels),
               {ints(labels), ints(rows), test::random({3, 4}, 3).to(Dtype::f32)});
  const Tensor masks = model.masks(pyramid, rois, levels);
  CHECK(masks.shape() == Shape{4, 28, 28, 3});
  const Tensor mask = mask_loss(masks, ints({1, 2, 0, 1}), zeros({4, 28, 28}, Dtype::u8));
  const std::vector<Tensor> losses{anchors.classes, anchors.boxes, boxes.classes, boxes.boxes,
                                   mask};
  autograd::backward(losses, std::vector<Tensor>(5, full({1}, 1)));
  store.zero_unreached_grads();
  for (const std::string& name : store.names()) {
    CAPTURE(name);
    double sum = 0;
    for (const double v : to_vector<double>(store.get(store.grads(), name))) sum += std::abs(v);
    CHECK(std::isfinite(sum));
    if (!name.starts_with("backbone.")) CHECK(sum > 0);
  }
}
