#include "ops/aggregate/aggregate.h"

#include <doctest/doctest.h>

#include "core/cpu/parallel.h"
#include "ops/argsort/argsort.h"
#include "tests/support/naive.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::test;

namespace {

// y[j] = sum_k w[k] x[order[j r + k - virtual]] + b, by gathering every operand of every product.
Tensor composed(const Tensor& x, const Tensor& order, const std::vector<Region>& regions,
                const std::vector<Tensor>& w, const std::vector<Tensor>& b,
                int64_t virtual_tokens) {
  const int64_t n = order.dim(1), c = x.dim(3);
  std::vector<Tensor> parts;
  int64_t total = 0;
  for (int64_t image = 0; image < x.dim(0); ++image) {
    int64_t first = -virtual_tokens;
    total = 0;
    for (size_t i = 0; i < regions.size(); ++i) {
      const auto& [tokens, r] = regions[i];
      std::vector<int64_t> from, weight;
      for (int64_t j = 0; j < tokens; ++j)
        for (int64_t ch = 0; ch < c; ++ch)
          for (int64_t k = 0; k < r; ++k) {
            const int64_t rank = first + j * r + k;
            const int64_t token = rank < 0 ? -1 : order.data<int32_t>()[image * n + rank];
            from.push_back(rank < 0 ? -1 : (image * n + token) * c + ch);
            weight.push_back(k);
          }
      const Shape products{tokens, c, r};
      const Tensor sums = naive::sum_last(
          naive::multiply(naive::gather(x, from, products), naive::gather(w[i], weight, products)));
      parts.push_back(naive::add(
          sums, naive::gather(b[i], std::vector<int64_t>(size_t(tokens * c), 0), {tokens, c})));
      first += tokens * r;
      total += tokens;
    }
  }
  return naive::concat(parts, {x.dim(0), 1, total, c});
}

struct Case {
  int64_t b, h, w, c;
  std::vector<Region> regions;
  int64_t virtual_tokens;
};

// Inputs of the case: x, order, weights, biases.
std::vector<Tensor> inputs_of(const Case& t) {
  std::vector<Tensor> in{test::random({t.b, t.h, t.w, t.c}, 1),
                         argsort(test::random({t.b, t.h, t.w}, 2))};
  for (const Region& r : t.regions) in.push_back(test::random({r.r}, 10 + uint64_t(r.r)));
  for (size_t i = 0; i < t.regions.size(); ++i) in.push_back(test::random({1}, 20 + i));
  return in;
}

template <class F>
std::vector<Tensor> call(const F& f, const Case& t, const std::vector<Tensor>& in) {
  const auto w = in.begin() + 2, b = w + int64_t(t.regions.size());
  return {f(in[0], in[1], t.regions, std::vector<Tensor>(w, b), std::vector<Tensor>(b, in.end()),
            t.virtual_tokens)};
}

}  // namespace

TEST_CASE("aggregate: value and gradients against the composed form") {
  const std::vector<Case> cases{
      {2, 4, 4, 8, {{1, 4}, {4, 2}, {2, 2}}, 0},
      {3, 4, 5, 7, {{2, 5}, {10, 1}}, 0},          // r = 1
      {2, 3, 5, 24, {{1, 4}, {4, 2}, {4, 1}}, 1},  // a virtual token in the first chunk
      {1, 3, 5, 70, {{1, 13}, {3, 3}}, 7},         // more virtual than real tokens in it
      {2, 2, 3, 33, {{0, 9}, {2, 4}}, 2},          // the first region is left out
      {1, 1, 1, 3, {{1, 1}}, 0},
      {1, 28, 28, 16, {{4, 49}, {28, 14}, {28, 7}}, 0},
      // CUDA: chunks shared by 2 and 4 warps, and by 8 (one of them takes only virtual tokens).
      {1, 10, 13, 32, {{1, 65}, {1, 65}}, 0},
      {1, 7, 50, 64, {{1, 400}}, 50},
      {2, 2, 5, 264, {{1, 3}, {4, 2}}, 1},  // rows in slices
  };
  for (const Case& t : cases) {
    OpCase test;
    test.name = fmt::format("{}x{}x{}x{} virtual {}", t.b, t.h, t.w, t.c, t.virtual_tokens);
    test.inputs = inputs_of(t);
    test.op = [=](auto& in) { return call(aggregate, t, in); };
    test.reference = [=](auto& in) { return call(composed, t, in); };
    test.roles.assign(2 + 2 * t.regions.size(), Role::parameter);
    test.roles[0] = Role::activation;
    for (const Region& r : t.regions)  // a weight's gradient sums over chunks and channels
      test.terms = std::max({test.terms, r.r, t.b * r.tokens * t.c});
    run(test);
  }
}

TEST_CASE("aggregate: the same bits for any number of threads") {
  const Case t{3, 28, 28, 40, {{4, 49}, {28, 14}, {28, 7}}, 0};
  const auto result = [&](int threads) {
    set_num_threads(threads);
    std::vector<Tensor> leaves = inputs_of(t);
    for (Tensor& in : leaves)
      if (in.dtype() == Dtype::f64) in = autograd::leaf(in.to(Dtype::f32));
    const Tensor y = call(aggregate, t, leaves)[0];
    autograd::backward({y}, {test::random(y.shape(), 3).to(Dtype::f32)});
    std::vector<std::vector<float>> all{to_vector<float>(y)};
    for (const Tensor& in : leaves)
      if (autograd::requires_grad(in)) all.push_back(to_vector<float>(autograd::grad_of(in)));
    return all;
  };
  const int before = num_threads();
  const auto one = result(1);
  CHECK(result(3) == one);
  set_num_threads(before);
}

TEST_CASE("aggregate: gradients that nobody wants are not computed, others are the same") {
  const Case t{1, 4, 4, 8, {{1, 8}, {4, 2}}, 0};
  const auto gradient = [&](const std::vector<size_t>& wanted) {
    std::vector<Tensor> in = inputs_of(t);
    for (size_t i : wanted) in[i] = autograd::leaf(in[i]);
    const Tensor y = call(aggregate, t, in)[0];
    autograd::backward({y}, {test::random(y.shape(), 3)});
    return to_vector<double>(autograd::grad_of(in[wanted[0]]));
  };
  for (size_t i : {0, 2, 3, 4, 5}) CHECK(gradient({i}) == gradient({i, i == 0 ? 2ul : 0ul}));
}

TEST_CASE("aggregate: wrong arguments are named") {
  const Tensor x = zeros({1, 2, 4, 3}), order = zeros({1, 8}, Dtype::i32), b = zeros({1});
  const Tensor w2 = zeros({2}), w4 = zeros({4});
  CHECK_THROWS_WITH_AS(aggregate(x, order, {{1, 4}, {1, 2}}, {w4, w2}, {b, b}, 0),
                       "aggregate: the regions hold 6 ranks, expected 0 virtual + 8 real tokens",
                       Error);
  CHECK_THROWS_WITH_AS(aggregate(x, order, {{2, 4}}, {w2}, {b}, 0),
                       "aggregate: w[0]: expected shape (4), found (2)", Error);
  CHECK_THROWS_WITH_AS(aggregate(x, order, {{2, 4}}, {w4, w4}, {b}, 0),
                       "aggregate: 1 regions but 2 weights and 1 biases", Error);
  CHECK_THROWS_WITH_AS(aggregate(x, order, std::vector<Region>(9, {1, 1}),
                                 std::vector<Tensor>(9, zeros({1})), std::vector<Tensor>(9, b), 1),
                       "aggregate: 9 regions, expected at most 8", Error);
  CHECK_THROWS_WITH_AS(aggregate(x, order, {{3, 4}}, {w4}, {b}, 4),
                       "aggregate: virtual_tokens: expected 0 to 3, so that each chunk has a real "
                       "token, found 4",
                       Error);
  CHECK_THROWS_WITH_AS(aggregate(x, zeros({1, 8}), {{2, 4}}, {w4}, {b}, 0),
                       "aggregate: order: expected i32 on cpu, found f32 on cpu", Error);
  CHECK_THROWS_WITH_AS(aggregate(x, zeros({1, 7}, Dtype::i32), {{2, 4}}, {w4}, {b}, 0),
                       "aggregate: order: expected shape (1, 8), found (1, 7)", Error);
}
