// The network against the literal reference, at any image size and with every option.
#include <doctest/doctest.h>

#include "tests/sgformer/literal.h"
#include "tests/support/op_case.h"
#include "tools/golden/case.h"

using namespace sg;
using namespace sg::sgformer;

namespace {

// Narrow, so that the literal reference stays quick.
Config narrow() {
  Config c = find_config("sgformer_s");
  c.name = "narrow";
  c.classes = 5;
  const int64_t dims[] = {8, 16, 16, 32};
  const int heads[] = {2, 2, 4, 4};
  for (size_t i = 0; i < 4; ++i) {
    c.stages[i].dim = dims[i];
    c.stages[i].heads = heads[i];
    c.stages[i].depth = i < 3 ? 2 : 1;
  }
  return c;
}

// Every value and gradient to 1e-9: float64 rounding through some 30 layers (1e-12 and below), and
// room for sums over 100,000 pixels.
void compare(const Config& config, int64_t height, int64_t width, int64_t batch = 1) {
  CAPTURE(height);
  CAPTURE(width);
  Classifier model(config);
  nn::ParameterStore& p = model.parameters();
  p.allocate(Dtype::f64);
  for (const std::string& name : p.names())
    p.set(p.values(), name, golden::formula_parameter("any_size", name, p.part(name).official));
  const Tensor images = test::random({batch, height, width, 3}, 1);
  const Tensor upstream = test::random({batch, config.classes}, 2);

  const Tensor x = autograd::leaf(images);
  const Classifier::Output out = model.forward(x, {.significance = true});
  autograd::backward({out.logits}, {upstream});
  const test::LiteralResult literal = test::run_literal(config, p, images, upstream);

  REQUIRE(out.significance.size() == literal.significance.size());
  for (size_t i = 0; i < out.significance.size(); ++i) {
    CAPTURE(i);
    const Tensor& map = out.significance[i].map;
    CHECK(test::relative_error(map.view(literal.significance[i].shape()),
                               literal.significance[i]) <= 1e-9);
  }
  CHECK(test::relative_error(out.logits.detach(), literal.logits) <= 1e-9);
  CHECK(test::relative_error(autograd::grad_of(x), literal.image_gradient) <= 1e-9);
  for (const auto& [name, gradient] : literal.gradients) {
    CAPTURE(name);
    p.zero_unreached_grads();
    const Tensor expected = gradient ? gradient : zeros(p.part(name).official, Dtype::f64);
    CHECK(test::relative_error(p.get(p.grads(), name), expected) <= 1e-9);
  }
}

}  // namespace

TEST_CASE("any size: 224, a batch of two") { compare(narrow(), 224, 224, 2); }
TEST_CASE("any size: 384x384") { compare(narrow(), 384, 384); }
TEST_CASE("any size: 512x512") { compare(narrow(), 512, 512); }
TEST_CASE("any size: 224x448") { compare(narrow(), 224, 448); }
TEST_CASE("any size: small and odd") {
  for (const auto& [h, w] : {std::pair{1, 1}, {7, 7}, {33, 47}, {61, 29}, {100, 37}, {30, 250}})
    compare(narrow(), h, w, 2);
}

TEST_CASE("options: guidance and balance") {
  for (const char* guidance : {"hybrid", "local", "global", "uniform"})
    for (const bool balance : {false, true}) {
      CAPTURE(guidance);
      Config c = narrow();
      c.guidance = parse_guidance(guidance);
      c.balance_significance = balance;
      compare(c, 90, 120);
    }
}

TEST_CASE("options: scales and regions") {
  for (const char* scales :
       {"8,4,2,1;4,2,1,1;2,1", "8,1;4,1;2,1", "1;1;1", "8g;4g;2g", "2g,1;-;4,1", "4g,2;2,2g;-"}) {
    CAPTURE(scales);
    Config c = narrow();
    for (size_t i = 0; i < 3; ++i) c.stages[i].heads = 4;
    set_scales(c, scales);
    compare(c, 224, 224);
    compare(c, 75, 101, 2);
  }
  for (const char* regions :
       {"1:16;1:4;1:1", "1/2:8,1/2:2;1/3:3,2/3:5;-", "1/8:64,7/8:7;-;1/2:3,1/2:1"}) {
    CAPTURE(regions);
    Config c = narrow();
    set_regions(c, regions);
    compare(c, 75, 101, 2);
  }
}

TEST_CASE("the published model spelled out as options gives the same bits at 224") {
  const auto logits = [](Config c) {
    Classifier model(c);
    model.parameters().allocate();
    model.parameters().initialize(1);
    const autograd::NoGrad no_grad;
    return to_vector<float>(model.forward(test::random({1, 224, 224, 3}, 3).to(Dtype::f32)).logits);
  };
  Config spelled = narrow();
  set_scales(spelled, "1,8g;1,4g;1,2g");
  set_regions(spelled, "1/4:196,1/2:56,1/4:28;1/4:49,1/2:14,1/4:7;1/2:2,1/2:1");
  CHECK(logits(narrow()) == logits(spelled));
}
