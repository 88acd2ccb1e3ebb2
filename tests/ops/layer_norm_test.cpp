#include "ops/layer_norm/layer_norm.h"

#include <doctest/doctest.h>

#include "tests/support/naive.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::test;

TEST_CASE("layer_norm: value and gradients against the composed form") {
  // On cuda: rows of few, some and many lanes, partly used or not, several a lane, several sets a
  // warp; rows of no whole vectors, and longer than registers hold.
  for (const Activation act : {Activation::none, Activation::gelu})
    for (const auto& [rows, c] : {std::pair{1, 8},
                                  {5, 24},
                                  {70, 96},
                                  {3, 7},
                                  {33, 65},
                                  {75, 64},
                                  {9, 128},
                                  {2, 1},
                                  {3, 784},
                                  {6, 256}}) {
      OpCase test;
      test.name = fmt::format("rows {} c {} act {}", rows, c, int(act));
      test.inputs = {test::random({1, rows, c}, 1), test::random({c}, 2, 0.5, 1.5),
                     test::random({c}, 3)};
      test.op = [=](auto& in) -> std::vector<Tensor> {
        return {layer_norm(in[0], in[1], in[2], 1e-6f, act)};
      };
      test.reference = [=](auto& in) -> std::vector<Tensor> {
        const Tensor z = naive::affine(naive::standardize(in[0], 1e-6f), in[1], in[2]);
        return {act == Activation::gelu ? naive::gelu(z) : z};
      };
      test.roles = {Role::activation, Role::parameter, Role::parameter};
      test.terms = std::max(rows, c);
      run(test);
    }
}

TEST_CASE("layer_norm: a large mean does not eat the variance") {
  for (const auto& [device, c] : {std::pair{Device{}, 64}, {kCuda, 64}, {kCuda, 65}}) {
    if (device == kCuda && !have_cuda()) continue;
    Tensor x = test::random({4, c}, 1);
    const Tensor w = full({c}, 1, Dtype::f32, device), b = zeros({c}, Dtype::f32, device);
    Tensor shifted = x.clone();
    // 1000 + x has 2^-14 of rounding in float32, relative to a standard deviation of 0.58.
    for (double& v : shifted.span<double>()) v += 1000;
    const Tensor y = layer_norm(shifted.to(Dtype::f32).to(device), w, b, 1e-6f);
    const Tensor expected = layer_norm(x.to(Dtype::f32).to(device), w, b, 1e-6f);
    CHECK(relative_error(y, expected) < 0x1p-14);
  }
}

TEST_CASE("layer_norm: wrong arguments are named") {
  const Tensor x = zeros({2, 8}), w = zeros({8}), b = zeros({4});
  CHECK_THROWS_WITH_AS(layer_norm(x, w, b, 1e-6f), "layer_norm: b: expected shape (8), found (4)",
                       Error);
  CHECK_THROWS_WITH_AS(layer_norm(x, w, zeros({8}, Dtype::f64), 1e-6f),
                       "layer_norm: b: expected f32 on cpu, found f64 on cpu", Error);
}
