#include "ops/binary_cross_entropy/binary_cross_entropy.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>

#include "tests/support/naive.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::test;

namespace {

const BinaryCrossEntropy kSettings[] = {{}, {.sum_classes = true}, {0.2, false}, {0.2, true}};

}  // namespace

TEST_CASE("binary_cross_entropy: value and gradient against the composed form") {
  const auto softplus = [](double z) { return std::log1p(std::exp(z)); };
  const auto sigmoid = [](double z) { return 1 / (1 + std::exp(-z)); };
  for (const auto& [batch, k] : {std::pair{1, 1}, {1, 7}, {5, 10}, {40, 33}, {3, 1000}})
    for (const BinaryCrossEntropy& s : kSettings) {
      OpCase test;
      test.name = fmt::format("batch {} classes {} threshold {} sum {}", batch, k,
                              s.threshold.has_value(), s.sum_classes);
      test.inputs = {test::random({batch, k}, 1, -4, 4), test::random({batch, k}, 2, 0, 1)};
      test.op = [=](auto& in) -> std::vector<Tensor> {
        return {binary_cross_entropy(in[0], in[1], s)};
      };
      test.reference = [=](auto& in) -> std::vector<Tensor> {
        std::vector<double> t = to_vector<double>(in[1]);
        if (s.threshold)
          for (double& v : t) v = v > *s.threshold;
        // -t log sigmoid(z) - (1 - t) log sigmoid(-z) = softplus(z) - t z
        const Tensor losses =
            naive::add(naive::map(in[0], softplus, sigmoid),
                       naive::scale(naive::multiply(in[0], from_vector(t, {batch, k})), -1));
        std::vector<int64_t> all(t.size());
        std::iota(all.begin(), all.end(), 0);
        const Tensor sum = naive::sum_last(naive::gather(losses, all, {1, batch * k}));
        return {naive::scale(sum, 1.0 / (s.sum_classes ? batch : batch * k))};
      };
      test.wanted = {true, false};
      test.roles = {Role::activation, Role::parameter};
      test.terms = int64_t{batch} * k;
      run(test);
    }
}

// loss = timm.loss.BinaryCrossEntropy(target_threshold=threshold, sum_classes=sum)(z, t)
// loss.backward()
TEST_CASE("binary_cross_entropy: timm's values, of large logits too") {
  const double losses[] = {3.778737981577434, 11.336213944732302, 0.3079046482441011,
                           0.9237139447323033};
  const std::vector<double> grads[] = {
      {0.019595746032273948, -0.01346617966298041, 0.07702941681429969, 1.559603828139883e-14, 0,
       0.08333333333333333},
      {0.05878723809682185, -0.04039853898894123, 0.23108825044289905, 4.6788114844196494e-14, 0,
       0.25},
      {-0.030404253967726058, 0.019867153670352924, 0.09369608348096635, 1.559603828139883e-14,
       -0.08333333333333333, 0},
      {-0.09121276190317817, 0.05960146101105877, 0.28108825044289903, 4.6788114844196494e-14,
       -0.25, 0}};
  std::vector<std::pair<Device, Dtype>> kinds{{{}, Dtype::f64}};
  for (const Device device : devices()) kinds.emplace_back(device, Dtype::f32);
  for (const auto& [device, dtype] : kinds)
    for (size_t i = 0; i < std::size(losses); ++i) {
      CAPTURE(i);
      const std::vector<double> z{1.5, -2, 0.25, -30, 0, 40}, t{0.7, 0.2, 0.1, 0, 0.5, 0.5};
      const Tensor logits = autograd::leaf(from_vector(z, {2, 3}).to(dtype).to(device));
      // 0.2 is not above a threshold of 0.2: in f32 both are rounded alike.
      const Tensor targets = from_vector(t, {2, 3}).to(dtype).to(device);
      const Tensor loss = binary_cross_entropy(logits, targets, kSettings[i]);
      // Six terms, of which the largest is 20: their sum and product err by eps each; exp by 1e-6.
      const double eps = dtype == Dtype::f32 ? 1e-6 : 0x1p-48;
      CHECK(std::abs(loss.item() - losses[i]) <= eps * losses[i]);
      autograd::backward(loss);
      const auto g = to_vector<double>(autograd::grad_of(logits));
      for (size_t j = 0; j < g.size(); ++j) CHECK(std::abs(g[j] - grads[i][j]) <= eps);
    }
}

TEST_CASE("binary_cross_entropy: what is not finite makes the loss so, and its own gradient") {
  for (const Device device : devices())
    for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
      Tensor z = test::random({2, 20}, 1);
      z.data<double>()[7] = bad;
      const Tensor logits = autograd::leaf(z.to(Dtype::f32).to(device));
      const Tensor loss = binary_cross_entropy(logits, zeros({2, 20}, Dtype::f32, device));
      CHECK_FALSE(std::isfinite(loss.item()));
      autograd::backward(loss);
      const auto g = to_vector<double>(autograd::grad_of(logits));
      for (size_t i = 0; i < 40; ++i) CHECK(std::isfinite(g[i]) == (i != 7));
    }
}

TEST_CASE("binary_cross_entropy: wrong arguments are named") {
  const Tensor z = zeros({2, 4});
  CHECK_THROWS_WITH_AS(binary_cross_entropy(z, zeros({2, 5})),
                       "binary_cross_entropy: targets: expected shape (2, 4), found (2, 5)", Error);
  CHECK_THROWS_WITH_AS(binary_cross_entropy(zeros({0, 4}), zeros({0, 4})),
                       "binary_cross_entropy: logits: (0, 4) is empty", Error);
  CHECK_THROWS_AS(binary_cross_entropy(z, autograd::leaf(z)), Error);
}
