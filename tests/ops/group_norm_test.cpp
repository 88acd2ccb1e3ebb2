#include "ops/group_norm/group_norm.h"

#include <doctest/doctest.h>

#include "tests/support/naive.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::test;

TEST_CASE("group_norm: value and gradients against the composed form") {
  for (const Activation act : {Activation::none, Activation::gelu})
    for (const Shape& s :
         {Shape{1, 1, 1, 8}, Shape{3, 2, 5, 7}, Shape{2, 9, 15, 24}, Shape{1, 3, 3, 65},
          // On cuda: more channels than a block has threads, and many blocks an image.
          Shape{2, 1, 3, 257}, Shape{2, 3, 19, 264}}) {
      OpCase c;
      c.name = fmt::format("{} act {}", s.str(), int(act));
      c.inputs = {test::random(s, 1), test::random({s[3]}, 2, 0.5, 1.5), test::random({s[3]}, 3)};
      c.op = [=](auto& in) -> std::vector<Tensor> {
        return {group_norm(in[0], in[1], in[2], 1e-5f, act)};
      };
      c.reference = [=](auto& in) -> std::vector<Tensor> {
        std::vector<int64_t> same(size_t(s.numel()));
        for (size_t i = 0; i < same.size(); ++i) same[i] = int64_t(i);
        const Tensor flat = naive::gather(in[0], same, {s[0], s[1] * s[2] * s[3]});
        const Tensor xhat = naive::gather(naive::standardize(flat, 1e-5f), same, s);
        const Tensor z = naive::affine(xhat, in[1], in[2]);
        return {act == Activation::gelu ? naive::gelu(z) : z};
      };
      c.roles = {Role::activation, Role::parameter, Role::parameter};
      c.terms = s[1] * s[2] * s[3];
      run(c);
    }
}

TEST_CASE("group_norm: images do not see each other, and a large mean does no harm") {
  const Tensor x = test::random({2, 6, 5, 16}, 1), w = full({16}, 1, Dtype::f64),
               b = zeros({16}, Dtype::f64);
  const Tensor both = group_norm(x, w, b, 1e-5f), second = group_norm(x.slice(1, 2), w, b, 1e-5f);
  CHECK(to_vector<double>(both.slice(1, 2)) == to_vector<double>(second));

  Tensor shifted = x.clone();
  for (double& v : shifted.span<double>()) v += 1000;
  for (const Device device : devices()) {
    const auto f32 = [&](const Tensor& t) { return t.to(Dtype::f32).to(device); };
    // 1000 + x has 2^-14 of rounding in float32, relative to a standard deviation of 0.58.
    CHECK(relative_error(group_norm(f32(shifted), f32(w), f32(b), 1e-5f),
                         group_norm(f32(x), f32(w), f32(b), 1e-5f)) < 0x1p-14);
  }
}
