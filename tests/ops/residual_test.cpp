// The small ops around the blocks: residual with stochastic depth, positional embedding, mean
// pooling.
#include <doctest/doctest.h>

#include <cmath>

#include "ops/add_pos_embed/add_pos_embed.h"
#include "ops/drop_path/drop_path.h"
#include "ops/mean_pool/mean_pool.h"
#include "tests/support/naive.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::test;

TEST_CASE("drop_path_add: value and gradients against the composed form") {
  for (const bool with_keep : {false, true})
    for (const Shape& shape : {Shape{1, 1}, Shape{3, 5, 7}, Shape{2, 3, 5, 8}}) {
      OpCase c;
      c.name = fmt::format("{} keep {}", shape.str(), with_keep);
      c.inputs = {test::random(shape, 1), test::random(shape, 2)};
      const Tensor keep = test::random({shape[0]}, 3, 0, 2);
      c.op = [=](auto& in) -> std::vector<Tensor> {
        const Tensor factors = keep.to(acc_dtype(in[0].dtype())).to(in[0].device());
        return {drop_path_add(in[0], in[1], with_keep ? factors : Tensor())};
      };
      c.reference = [=](auto& in) -> std::vector<Tensor> {
        Tensor factor = full(shape, 1, Dtype::f64);
        const int64_t n = shape.numel() / shape[0];
        if (with_keep)
          for (int64_t i = 0; i < shape.numel(); ++i)
            factor.data<double>()[i] = keep.data<double>()[i / n];
        return {naive::add(in[0], naive::multiply(in[1], factor))};
      };
      run(c);
    }
}

TEST_CASE(
    "draw_drop_path: mean 1, one draw a sample and layer, the same for any split into ranks") {
  const double rate = 0.3;
  const int n = 20000;
  const auto draw = [&](int64_t count, uint64_t seed, uint64_t step, uint32_t layer,
                        int64_t first) {
    Tensor factors = empty({count}, Dtype::f64);
    draw_drop_path(rate, seed, step, layer, first, factors);
    return to_vector<double>(factors);
  };
  const auto keep = draw(n, 1, 2, 3, 0);
  double mean = 0;
  int zeros = 0;
  for (const double k : keep) {
    CHECK((k == 0 || k == doctest::Approx(1 / (1 - rate)).epsilon(1e-6)));
    mean += k / n, zeros += k == 0;
  }
  const double std = std::sqrt(rate / (1 - rate) / n);  // of the mean
  CHECK(std::abs(mean - 1) < 5 * std);
  CHECK(zeros > 0);
  CHECK(draw(100, 1, 2, 3, 50) == std::vector<double>(keep.begin() + 50, keep.begin() + 150));
  const std::vector<double> first(keep.begin(), keep.begin() + 100);
  CHECK(draw(100, 2, 2, 3, 0) != first);
  CHECK(draw(100, 1, 3, 3, 0) != first);
  CHECK(draw(100, 1, 2, 4, 0) != first);
  Tensor factors = empty({5});
  CHECK_THROWS_AS(draw_drop_path(1, 1, 2, 3, 0, factors), Error);
}

TEST_CASE("add_pos_embed and mean_pool: value and gradients against the composed form") {
  for (const Shape& s : {Shape{1, 1, 1, 1}, Shape{3, 2, 5, 7}, Shape{2, 4, 3, 16}}) {
    OpCase add;
    add.name = "add_pos_embed " + s.str();
    add.inputs = {test::random(s, 1), test::random({s[1], s[2], s[3]}, 2)};
    add.op = [](auto& in) -> std::vector<Tensor> { return {add_pos_embed(in[0], in[1])}; };
    add.reference = [=](auto& in) -> std::vector<Tensor> {
      std::vector<int64_t> index(size_t(s.numel()));
      for (size_t i = 0; i < index.size(); ++i) index[i] = int64_t(i) % in[1].numel();
      return {naive::add(in[0], naive::gather(in[1], index, s))};
    };
    add.roles = {Role::activation, Role::parameter};
    add.terms = s[0];
    run(add);

    OpCase pool;
    pool.name = "mean_pool " + s.str();
    pool.inputs = {test::random(s, 1)};
    pool.op = [](auto& in) -> std::vector<Tensor> { return {mean_pool(in[0])}; };
    pool.reference = [=](auto& in) -> std::vector<Tensor> {
      std::vector<int64_t> index(size_t(s.numel()));
      const int64_t n = s[1] * s[2];
      for (int64_t i = 0; i < s.numel(); ++i)  // (B, C, N)
        index[size_t(i)] = (i / (n * s[3]) * n + i % n) * s[3] + i / n % s[3];
      return {naive::scale(naive::sum_last(naive::gather(in[0], index, {s[0], s[3], n})),
                           1.0 / double(n))};
    };
    pool.terms = s[1] * s[2];
    run(pool);
  }
  CHECK_THROWS_WITH_AS(add_pos_embed(zeros({1, 2, 3, 4}), zeros({3, 2, 4})),
                       "add_pos_embed: table: expected shape (2, 3, 4), found (3, 2, 4)", Error);
}
