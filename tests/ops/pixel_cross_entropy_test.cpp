#include "ops/pixel_cross_entropy/pixel_cross_entropy.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/rng.h"
#include "ops/bilinear_resize/bilinear_resize.h"
#include "tests/support/naive.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::test;

namespace {

// Labels of which a fifth is ignored.
Tensor some_labels(Shape shape, int64_t classes, int ignore) {
  Tensor labels = empty(shape, Dtype::u8);
  Random random(3, Purpose::test, 9);
  for (uint8_t& v : labels.span<uint8_t>())
    v = uint8_t(random.uniform(0, 5) < 1 ? ignore : int(random.uniform(0, double(classes))));
  return labels;
}

Tensor literal(const Tensor& logits, const Tensor& labels, int ignore) {
  const int64_t classes = logits.dim(3);
  const Tensor log_p = naive::log_softmax(bilinear_resize(logits, labels.dim(1), labels.dim(2)));
  std::vector<int64_t> own;
  for (int64_t i = 0; i < labels.numel(); ++i) {
    const int label = labels.data<uint8_t>()[i];
    own.push_back(label == ignore ? -1 : i * classes + label);
  }
  const Tensor sum = naive::sum_last(naive::gather(log_p, own, {1, labels.numel()}));
  return naive::scale(sum, -1.0 / double(labels.numel()));
}

}  // namespace

TEST_CASE("pixel_cross_entropy: value and gradient against the composed form") {
  struct Sizes {
    int64_t batch, h, w, classes, height, width;
    int ignore = 255;
  };
  for (const Sizes& s : {Sizes{1, 1, 1, 1, 1, 1},
                         {1, 1, 1, 3, 5, 7},
                         {2, 3, 5, 11, 12, 20},
                         {1, 4, 4, 19, 16, 16},
                         {1, 5, 3, 21, 7, 11, 4},
                         {2, 2, 3, 150, 7, 5},
                         {1, 6, 7, 8, 3, 2},
                         {1, 3, 3, 2, 3, 3, 0},
                         // On cuda several walks in both directions.
                         {2, 9, 35, 4, 18, 41}}) {
    OpCase c;
    c.name = fmt::format("{} x {} x {} to {} x {}, {} classes", s.batch, s.h, s.w, s.height,
                         s.width, s.classes);
    const Tensor labels = some_labels({s.batch, s.height, s.width}, s.classes, s.ignore);
    c.inputs = {test::random({s.batch, s.h, s.w, s.classes}, 1, -4, 4)};
    c.op = [=](auto& in) -> std::vector<Tensor> {
      return {pixel_cross_entropy(in[0], labels.to(in[0].device()), s.ignore)};
    };
    c.reference = [=](auto& in) -> std::vector<Tensor> {
      return {literal(in[0], labels, s.ignore)};
    };
    c.terms = s.classes * s.height * s.width;
    run(c);
  }
}

TEST_CASE("pixel_cross_entropy: nothing to learn where all is ignored") {
  for (const Device device : devices()) {
    const Tensor logits = autograd::leaf(random({2, 3, 4, 7}, 1).to(Dtype::f32).to(device));
    const Tensor labels = full({2, 6, 9}, 255, Dtype::u8, device);
    const Tensor loss = pixel_cross_entropy(logits, labels);
    CHECK(loss.item() == 0);
    autograd::backward(loss);
    for (const double v : to_vector<double>(autograd::grad_of(logits))) CHECK(v == 0);
  }
}

TEST_CASE("pixel_cross_entropy: logits far apart overflow nothing and lose nothing") {
  // Between two columns of +-1000 with the largest logits at other classes, both are 0 in the
  // middle, far below the largest of either column.
  std::vector<std::pair<Device, Dtype>> settings{{{}, Dtype::f64}};
  for (const Device device : devices()) settings.emplace_back(device, Dtype::f32);
  for (const auto& [device, dtype] : settings) {
    const Tensor z = from_vector<double>({1000, -1000, -1000, 1000}, {1, 1, 2, 2});
    const Tensor logits = autograd::leaf(z.to(dtype).to(device));
    // Three columns: at 0, 1 / 2 and 1 between the two of the map.
    const Tensor labels = from_vector<uint8_t>({0, 1, 0}, {1, 1, 3}).to(device);
    const Tensor loss = pixel_cross_entropy(logits, labels);
    CHECK(loss.item() == doctest::Approx((std::log(2.0) + 2000) / 3).epsilon(1e-6));
    autograd::backward(loss);
    const auto g = to_vector<double>(autograd::grad_of(logits));
    // The middle has p = 1/2 each, half of it to each column; the last is all wrong.
    const std::vector<double> expected{0.25, -0.25, 0.25 - 1, -0.25 + 1};
    for (size_t i = 0; i < 4; ++i) CHECK(3 * g[i] == doctest::Approx(expected[i]).epsilon(1e-5));
  }
}

TEST_CASE("pixel_cross_entropy: what is not finite stays so, at the logits around it alone") {
  for (const Device device : devices())
    for (const double bad : {std::nan(""), HUGE_VAL}) {
      Tensor z = random({1, 1, 6, 5}, 1);
      z.data<double>()[2] = bad;  // of the first column
      const Tensor logits = autograd::leaf(z.to(Dtype::f32).to(device));
      const Tensor loss = pixel_cross_entropy(logits, zeros({1, 4, 24}, Dtype::u8, device));
      CHECK_FALSE(std::isfinite(loss.item()));
      autograd::backward(loss);
      const auto g = to_vector<double>(autograd::grad_of(logits));
      for (size_t i = 0; i < g.size(); ++i) CHECK(std::isfinite(g[i]) == (i >= 10));
    }
}

TEST_CASE("pixel_cross_entropy: a label out of range is an error on the CPU and NaN on cuda") {
  const Tensor logits = random({1, 2, 2, 5}, 1).to(Dtype::f32);
  Tensor labels = zeros({1, 4, 4}, Dtype::u8);
  labels.data<uint8_t>()[6] = 5;
  try {
    pixel_cross_entropy(logits, labels);
    FAIL("was accepted");
  } catch (const Error& e) {
    CHECK(e.code() == ExitCode::data);
    CHECK(std::string(e.what()) ==
          "pixel_cross_entropy: label 5 in row 1, column 2 of image 0 of the batch is neither "
          "below 5, the number of classes, nor 255, which is ignored");
  }
  CHECK(pixel_cross_entropy(logits, labels, 5).item() > 0);
  if (!have_cuda()) return;
  const Tensor leaf = autograd::leaf(logits.to(kCuda));
  const Tensor loss = pixel_cross_entropy(leaf, labels.to(kCuda));
  CHECK(std::isnan(loss.item()));
  autograd::backward(loss);
  CHECK(std::isnan(to_vector<double>(autograd::grad_of(leaf))[0]));
}

TEST_CASE("pixel_cross_entropy: wrong arguments are named") {
  const Tensor z = zeros({2, 3, 3, 4});
  CHECK_THROWS_WITH_AS(pixel_cross_entropy(z, zeros({2, 6, 6})),
                       "pixel_cross_entropy: labels: expected u8 on cpu, found f32 on cpu", Error);
  CHECK_THROWS_WITH_AS(pixel_cross_entropy(z, zeros({3, 6, 6}, Dtype::u8)),
                       "pixel_cross_entropy: labels: 3 images for 2 of logits", Error);
  CHECK_THROWS_WITH_AS(pixel_cross_entropy(z, zeros({2, 0, 6}, Dtype::u8)),
                       "pixel_cross_entropy: logits (2, 3, 3, 4), labels (2, 0, 6): nothing to "
                       "compare",
                       Error);
  CHECK_THROWS_WITH_AS(pixel_cross_entropy(zeros({1, 1, 1, 256}), zeros({1, 2, 2}, Dtype::u8)),
                       "pixel_cross_entropy: logits: expected at most 255 classes, found 256",
                       Error);
}
