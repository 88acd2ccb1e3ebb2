// Losses of the detector against the literal reference, and what holds of every batch.
#include "sgformer/detect/training.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/cpu/parallel.h"
#include "tests/sgformer/detector_scenes.h"
#include "tests/sgformer/literal_detector.h"
#include "tests/support/files.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::sgformer;
using test::contains, test::error_of, test::scene;

namespace {

using Scenes = std::vector<TrainingObjects>;

struct Model {
  Detector detector;
  explicit Model(const DetectorConfig& config, Dtype dtype) : detector(config) {
    detector.parameters().allocate(dtype);
    test::fill(detector.parameters());
  }
  nn::ParameterStore& parameters() { return detector.parameters(); }
};

Tensor images_of(Shape shape, Dtype dtype) { return test::random(shape, 1).to(dtype); }

const TargetDraw kDraw{7, 3, 4};

// Every loss and gradient to 1e-9. Returns what the losses were taken of.
test::LiteralDetectorLosses compare(const Shape& shape, const Scenes& scenes) {
  Model model(test::narrow_detector(), Dtype::f64);
  nn::ParameterStore& p = model.parameters();
  const Tensor images = images_of(shape, Dtype::f64);
  const test::LiteralDetectorLosses literal =
      test::literal_losses(model.detector, images, scenes, kDraw);

  const Tensor x = autograd::leaf(images);
  const DetectorLosses losses = training_losses(model.detector, x, scenes, kDraw, {});
  REQUIRE(losses.parts.size() == kDetectorLosses.size());
  double total = 0;
  for (size_t i = 0; i < losses.parts.size(); ++i) {
    CAPTURE(kDetectorLosses[i]);
    CHECK(test::relative_error(losses.parts[i], literal.parts[i].detach()) <= 1e-9);
    total += losses.parts[i].item();
  }
  CHECK(std::abs(losses.total.item() / total - 1) <= 1e-14);
  autograd::backward(losses.total);
  CHECK(test::relative_error(autograd::grad_of(x), literal.image_gradient) <= 1e-9);
  p.zero_unreached_grads();
  for (const auto& [name, gradient] : literal.gradients) {
    CAPTURE(name);
    const Tensor expected = gradient ? gradient : zeros(p.part(name).official, Dtype::f64);
    CHECK(test::relative_error(p.get(p.grads(), name), expected) <= 1e-9);
  }
  return literal;
}

// Named, so that a failure says where numbers begin to differ.
using Values = std::vector<std::pair<std::string, std::vector<float>>>;

Values training_step(Dtype dtype) {
  Model model({find_config("sgformer_nano"), {.channels = 32, .hidden = 48, .classes = 3}}, dtype);
  nn::ParameterStore& p = model.parameters();
  const Scenes scenes{scene({100, 90}, {128, 96}, 40, 1), scene({128, 160}, {128, 160}, 3, 2),
                      scene({61, 150}, {64, 160}, 0, 3)};
  const Tensor drop_paths = draw_drop_paths(model.detector.config().backbone, 3, 1, 1, 0);
  p.clear_grads();
  const DetectorLosses losses = training_losses(model.detector, images_of({3, 128, 160, 3}, dtype),
                                                scenes, kDraw, {.drop_paths = drop_paths});
  autograd::backward(losses.total);
  p.zero_unreached_grads();
  Values values{{"total", to_vector<float>(losses.total)}};
  for (size_t i = 0; i < losses.parts.size(); ++i)
    values.emplace_back(kDetectorLosses[i], to_vector<float>(losses.parts[i]));
  for (const std::string& name : p.names())
    values.emplace_back("gradient of " + name, to_vector<float>(p.get(p.grads(), name)));
  return values;
}

}  // namespace

TEST_CASE("losses of a detector against the literal reference") {
  // Padding of each image, and of the batch.
  const auto two =
      compare({2, 64, 96, 3}, {scene({51, 89}, {64, 96}, 5, 1), scene({64, 59}, {64, 64}, 3, 2)});
  CHECK(two.positive_anchors > 8);
  CHECK(two.positive_rois > 16);
  CHECK(two.rois > 300);
  // No side that the strides divide.
  compare({1, 61, 45, 3}, {scene({61, 45}, {61, 45}, 4, 3)});
  // More objects than masks are in memory at a time.
  const auto many = compare({1, 64, 64, 3}, {scene({59, 61}, {64, 64}, 40, 4)});
  CHECK(many.positive_rois > 40);
}

TEST_CASE("losses of a detector: an image without an object, and none with one") {
  const auto one =
      compare({2, 32, 64, 3}, {scene({32, 50}, {32, 64}, 0, 1), scene({32, 64}, {32, 64}, 2, 2)});
  CHECK(one.positive_rois > 0);
  const auto none =
      compare({2, 32, 64, 3}, {scene({32, 50}, {32, 64}, 0, 1), scene({32, 64}, {32, 64}, 0, 2)});
  CHECK(none.positive_anchors == 0);
  CHECK(none.positive_rois == 0);
  CHECK(none.rois > 0);
}

TEST_CASE("losses of a detector: draws are of seed, step and image") {
  Model model(test::narrow_detector(), Dtype::f64);
  const autograd::NoGrad no_grad;
  const Tensor images = images_of({1, 64, 96, 3}, Dtype::f64);
  const Scenes scenes{scene({64, 96}, {64, 96}, 4, 1)};
  const auto total = [&](const TargetDraw& draw) {
    return training_losses(model.detector, images, scenes, draw, {}).total.item();
  };
  CHECK(total({1, 2, 3}) == total({1, 2, 3}));
  for (const TargetDraw& other : {TargetDraw{2, 2, 3}, {1, 3, 3}, {1, 2, 4}})
    CHECK(total({1, 2, 3}) != total(other));
}

TEST_CASE("losses of a detector: as many gradients are written with objects as without") {
  Model model(test::narrow_detector(), Dtype::f32);
  const Tensor images = images_of({2, 32, 64, 3}, Dtype::f32);
  const auto writes = [&](int objects) {
    int count = 0;
    const autograd::LeafWrites listener([&](const char*, const Tensor&) { ++count; });
    const Scenes scenes{scene({32, 64}, {32, 64}, objects, 1), scene({32, 64}, {32, 64}, 0, 2)};
    autograd::backward(training_losses(model.detector, images, scenes, kDraw, {}).total);
    return count;
  };
  const int with = writes(3);
  CHECK(with > 0);
  CHECK(writes(0) == with);
}

TEST_CASE("losses of a detector that diverged are no numbers") {
  const Tensor images = images_of({1, 64, 64, 3}, Dtype::f32);
  const Scenes scenes{scene({64, 64}, {64, 64}, 3, 1)};
  for (const char* name :
       {"rpn_head.rpn_cls.bias", "rpn_head.rpn_reg.bias", "roi_head.bbox_head.fc_cls.bias",
        "neck.fpn_convs.0.conv.bias", "roi_head.mask_head.conv_logits.bias"})
    for (const double value : {double(NAN), double(INFINITY)}) {
      CAPTURE(name);
      CAPTURE(value);
      Model model(test::narrow_detector(), Dtype::f32);
      nn::ParameterStore& p = model.parameters();
      p.set(p.values(), name, full(p.part(name).official, value));
      const DetectorLosses losses = training_losses(model.detector, images, scenes, kDraw, {});
      CHECK_FALSE(std::isfinite(losses.total.item()));
      CHECK_NOTHROW(autograd::backward(losses.total));
    }
}

TEST_CASE("a detector's training step has the same bits with 1, 2, 3 and 8 threads") {
  const int before = num_threads();
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    CAPTURE(name_of(dtype));
    set_num_threads(1);
    const Values expected = training_step(dtype);
    for (const int threads : {2, 3, 8}) {
      CAPTURE(threads);
      set_num_threads(threads);
      const Values found = training_step(dtype);
      REQUIRE(found.size() == expected.size());
      for (size_t i = 0; i < found.size(); ++i) {
        CAPTURE(found[i].first);
        CHECK((found[i].second == expected[i].second));
      }
    }
  }
  set_num_threads(before);
}

TEST_CASE("losses of a detector refuse what does not fit, naming image and object") {
  Model model(test::narrow_detector(), Dtype::f32);
  const Tensor images = images_of({2, 32, 64, 3}, Dtype::f32);
  const auto error = [&](ExitCode code, const std::function<void(Scenes&)>& change) {
    Scenes scenes{scene({32, 50}, {32, 64}, 2, 1), scene({30, 64}, {32, 64}, 2, 2)};
    change(scenes);
    return error_of(code, [&] { training_losses(model.detector, images, scenes, kDraw, {}); });
  };
  CHECK(contains(error(ExitCode::data, [](Scenes& s) { s[1].boxes[1].x2 = 65; }),
                 "image 1 of the batch, object 1: expected a box with an area in 30x64"));
  CHECK(contains(error(ExitCode::data, [](Scenes& s) { s[0].boxes[0].y1 = NAN; }),
                 "image 0 of the batch, object 0: expected a box"));
  CHECK(contains(error(ExitCode::data, [](Scenes& s) { s[0].boxes[1].y1 = s[0].boxes[1].y2; }),
                 "object 1: expected a box with an area"));
  CHECK(contains(error(ExitCode::data, [](Scenes& s) { s[1].labels[0] = 3; }),
                 "object 0: expected a label of 0 to 2, found 3"));
  CHECK(contains(error(ExitCode::failure, [](Scenes& s) { s[1].labels.pop_back(); }),
                 "image 1: 2 boxes, 1 labels"));
  CHECK(
      contains(error(ExitCode::failure, [](Scenes& s) { s[1].mask = nullptr; }), "masks missing"));
  CHECK(contains(error(ExitCode::failure,
                       [](Scenes& s) {
                         s[0].padded = {32, 65};
                       }),
                 "padded to 32x65, is none of a batch (2, 32, 64, 3)"));
  CHECK(contains(error(ExitCode::failure, [](Scenes& s) { s.pop_back(); }), "objects of 1"));
}
