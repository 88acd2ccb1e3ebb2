#include "ops/add_layer_norm/add_layer_norm.h"

#include <doctest/doctest.h>

#include "ops/linear/linear.h"
#include "tests/support/naive.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::test;

namespace {

Tensor on_device_of(const Tensor& keep, const Tensor& x) {
  return keep.to(acc_dtype(x.dtype())).to(x.device());
}

}  // namespace

TEST_CASE("add_layer_norm: value and gradients against the composed form") {
  enum class Used { both, sum, norm };
  for (const Used used : {Used::both, Used::sum, Used::norm})
    for (const bool with_keep : {false, true})
      // On cuda: several rows a warp, partly used; rows that registers do not hold.
      for (const Shape& s : {Shape{3, 5, 24}, Shape{2, 13, 96}, Shape{2, 3, 2, 7}}) {
        OpCase c;
        c.name = fmt::format("{} keep {} used {}", s.str(), with_keep, int(used));
        const int64_t n = s[s.size() - 1];
        c.inputs = {test::random(s, 1), test::random(s, 2), test::random({n}, 3, 0.5, 1.5),
                    test::random({n}, 4)};
        const Tensor keep = test::random({s[0]}, 5, 0, 2);
        const auto outputs = [=](const Tensor& sum, const Tensor& norm) -> std::vector<Tensor> {
          if (used == Used::both) return {sum, norm};
          return {used == Used::sum ? sum : norm};
        };
        c.op = [=](auto& in) -> std::vector<Tensor> {
          const auto r = add_layer_norm(
              in[0], in[1], with_keep ? on_device_of(keep, in[0]) : Tensor(), in[2], in[3], 1e-6f);
          return outputs(r.sum, r.norm);
        };
        c.reference = [=](auto& in) -> std::vector<Tensor> {
          Tensor factor = full(s, 1, Dtype::f64);
          for (int64_t i = 0; with_keep && i < s.numel(); ++i)
            factor.data<double>()[i] = keep.data<double>()[i / (s.numel() / s[0])];
          const Tensor sum = naive::add(in[0], naive::multiply(in[1], factor));
          return outputs(sum, naive::affine(naive::standardize(sum, 1e-6f), in[2], in[3]));
        };
        c.roles = {Role::activation, Role::activation, Role::parameter, Role::parameter};
        if (used == Used::sum) c.wanted = {true, true, false, false};
        c.terms = std::max(s.numel() / n, n);
        run(c);
      }
}

TEST_CASE("add_layer_norm: the bias with which a branch ends gets its gradient") {
  for (const bool with_keep : {false, true})
    for (const Shape& s : {Shape{3, 5, 24}, Shape{2, 13, 96}, Shape{2, 3, 2, 7}}) {
      OpCase c;
      c.name = fmt::format("{} keep {} after linear", s.str(), with_keep);
      const int64_t n = s[s.size() - 1], k = 8;
      c.inputs = {
          test::random(s, 1),   test::random(s.with_last(k), 2), test::random({n, k}, 3, -0.5, 0.5),
          test::random({n}, 4), test::random({n}, 5, 0.5, 1.5),  test::random({n}, 6)};
      const Tensor keep = test::random({s[0]}, 7, 0, 2);
      c.op = [=](auto& in) -> std::vector<Tensor> {
        const auto r =
            add_layer_norm(in[0], linear(in[1], in[2], in[3]),
                           with_keep ? on_device_of(keep, in[0]) : Tensor(), in[4], in[5], 1e-6f);
        return {r.sum, r.norm};
      };
      c.reference = [=](auto& in) -> std::vector<Tensor> {
        Tensor factor = full(s, 1, Dtype::f64);
        for (int64_t i = 0; with_keep && i < s.numel(); ++i)
          factor.data<double>()[i] = keep.data<double>()[i / (s.numel() / s[0])];
        const Tensor sum =
            naive::add(in[0], naive::multiply(naive::linear(in[1], in[2], in[3]), factor));
        return {sum, naive::affine(naive::standardize(sum, 1e-6f), in[4], in[5])};
      };
      c.roles = {Role::activation, Role::activation, Role::weight,
                 Role::weight,     Role::parameter,  Role::parameter};
      c.terms = std::max(s.numel() / n, n);
      run(c);
    }
}

TEST_CASE("add_layer_norm: wrong arguments are named") {
  const Tensor x = zeros({2, 3, 8}), w = zeros({8}), b = zeros({8});
  CHECK_THROWS_WITH_AS(add_layer_norm(x, zeros({2, 4, 8}), {}, w, b, 1e-6),
                       "add_layer_norm: branch: expected shape (2, 3, 8), found (2, 4, 8)", Error);
  CHECK_THROWS_WITH_AS(add_layer_norm(x, x, zeros({3}), w, b, 1e-6),
                       "add_layer_norm: keep: expected shape (2), found (3)", Error);
  CHECK_THROWS_WITH_AS(add_layer_norm(x, x, {}, w, zeros({4}), 1e-6),
                       "add_layer_norm: b: expected shape (8), found (4)", Error);
}
