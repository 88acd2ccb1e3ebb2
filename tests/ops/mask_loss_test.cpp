#include "ops/mask_loss/mask_loss.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/support/naive.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::test;

TEST_CASE("mask_loss: value and gradient against the composed form") {
  for (const auto& [n, side, classes] : {std::tuple{1, 1, 1}, {3, 5, 7}, {9, 28, 4}}) {
    OpCase test;
    test.name = fmt::format("{} RoIs of {} x {}, {} classes", n, side, side, classes);
    const int64_t pixels = int64_t{side} * side;
    std::vector<int32_t> labels;
    std::vector<uint8_t> targets;
    std::vector<int64_t> from;
    std::vector<double> sign;  // the loss of z is softplus(sign z)
    for (int64_t r = 0; r < n; ++r) {
      labels.push_back(int32_t(r * 5 % classes));
      for (int64_t i = 0; i < pixels; ++i) {
        targets.push_back(uint8_t((i * 7 + r) % 3 == 0));
        sign.push_back(targets.back() ? -1 : 1);
        from.push_back((r * pixels + i) * classes + labels.back());
      }
    }
    test.inputs = {test::random({n, side, side, classes}, 1, -5, 5), from_vector(labels, {n}),
                   from_vector(targets, {n, side, side})};
    test.op = [](auto& in) -> std::vector<Tensor> { return {mask_loss(in[0], in[1], in[2])}; };
    test.reference = [=](auto& in) -> std::vector<Tensor> {
      const Shape shape{1, int64_t(from.size())};
      const Tensor z = naive::multiply(naive::gather(in[0], from, shape), from_vector(sign, shape));
      return {naive::scale(naive::sum_last(naive::map(
                               z, [](double v) { return std::log1p(std::exp(v)); },
                               [](double v) { return 1 / (1 + std::exp(-v)); })),
                           1 / double(from.size()))};
    };
    test.terms = n * pixels;
    run(test);
  }
}

TEST_CASE("mask_loss: without RoIs it is 0") {
  for (const Device device : devices()) {
    const Tensor z = autograd::leaf(zeros({0, 28, 28, 4}, Dtype::f32, device));
    const Tensor loss =
        mask_loss(z, zeros({0}, Dtype::i32, device), zeros({0, 28, 28}, Dtype::u8, device));
    CHECK(loss.item() == 0);
    autograd::backward(loss);
  }
}

TEST_CASE("mask_loss: classes and targets that are none") {
  for (const Device device : devices())
    for (const auto& [label, target] : {std::pair{-1, 1}, {3, 1}, {0, 255}}) {
      const Tensor z = zeros({1, 2, 2, 3}, Dtype::f32, device);
      const Tensor labels = from_vector(std::vector<int32_t>{label}, {1}).to(device);
      const Tensor targets = full({1, 2, 2}, target, Dtype::u8, device);
      if (device.type == DeviceType::cpu)
        CHECK_THROWS_AS(mask_loss(z, labels, targets), Error);
      else
        CHECK(std::isnan(mask_loss(z, labels, targets).item()));
    }
  CHECK_THROWS_WITH_AS(
      mask_loss(zeros({1, 2, 2, 3}), zeros({1}, Dtype::i32), zeros({1, 2, 3}, Dtype::u8)),
      "mask_loss: targets: expected shape (1, 2, 2), found (1, 2, 3)", Error);
  CHECK_THROWS_WITH_AS(mask_loss(zeros({1, 2, 2, 3}), zeros({1}), zeros({1, 2, 2}, Dtype::u8)),
                       "mask_loss: labels: expected i32 on cpu, found f32 on cpu", Error);
}
