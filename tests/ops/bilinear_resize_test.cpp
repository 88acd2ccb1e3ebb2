#include "ops/bilinear_resize/bilinear_resize.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/bilinear_resize/axis.h"
#include "tests/support/naive.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::test;

namespace {

// y(i, j) = sum over the four neighbours of max(0, (i + 0.5) h / height - 0.5), the same for j.
Tensor literal(const Tensor& x, int64_t height, int64_t width) {
  const int64_t b = x.dim(0), h = x.dim(1), w = x.dim(2), c = x.dim(3);
  const Shape products{b, height, width, c, 4};
  std::vector<int64_t> from;
  std::vector<double> weight;
  const auto place = [](int64_t i, int64_t in, int64_t out) {
    return std::max(0.0, (double(i) + 0.5) * double(in) / double(out) - 0.5);
  };
  for (int64_t n = 0; n < b; ++n)
    for (int64_t i = 0; i < height; ++i)
      for (int64_t j = 0; j < width; ++j)
        for (int64_t ch = 0; ch < c; ++ch) {
          const double v = place(i, h, height), u = place(j, w, width);
          for (const double p : {std::floor(v), std::floor(v) + 1})
            for (const double q : {std::floor(u), std::floor(u) + 1}) {
              const int64_t row = std::min(int64_t(p), h - 1), column = std::min(int64_t(q), w - 1);
              from.push_back(((n * h + row) * w + column) * c + ch);
              weight.push_back((1 - std::abs(v - p)) * (1 - std::abs(u - q)));
            }
        }
  return naive::sum_last(
      naive::multiply(naive::gather(x, from, products), from_vector(weight, products)));
}

// The longest sum: of a result, or of a gradient.
int64_t terms(int64_t in, int64_t out) { return std::max<int64_t>(2, 2 * (out / in + 2)); }

struct Sizes {
  int64_t b, h, w, c, height, width;
};
constexpr Sizes kSizes[] = {
    {2, 4, 5, 16, 8, 10},   // x2
    {1, 3, 2, 8, 12, 8},    // x4
    {2, 7, 5, 19, 13, 11},  // primes
    {1, 23, 31, 3, 7, 12},  // down
    {1, 9, 13, 2, 17, 5},   // up and down
    {2, 1, 1, 5, 4, 6},     // of one pixel
    {1, 5, 7, 33, 1, 1},    // to one
    {1, 6, 6, 70, 6, 12},   // one side stays
    {1, 2, 3, 1, 3, 4},     // one channel
    {3, 1, 4, 4, 2, 1},
};

Tensor of(const Sizes& s, uint64_t stream) { return test::random({s.b, s.h, s.w, s.c}, stream); }

std::string name_of(const Sizes& s) {
  return fmt::format("{}x{}x{}x{} to {}x{}", s.b, s.h, s.w, s.c, s.height, s.width);
}

}  // namespace

TEST_CASE("bilinear_resize: value and gradient against the literal formula, with a base too") {
  for (const Sizes& s : kSizes)
    for (const bool base : {false, true}) {
      OpCase test;
      test.name = name_of(s) + (base ? ", base" : "");
      test.inputs = {of(s, 1)};
      if (base) test.inputs.push_back(test::random({s.b, s.height, s.width, s.c}, 2));
      test.op = [=](auto& in) -> std::vector<Tensor> {
        return {bilinear_resize(in[0], s.height, s.width, base ? in[1] : Tensor())};
      };
      test.reference = [=](auto& in) -> std::vector<Tensor> {
        const Tensor y = literal(in[0], s.height, s.width);
        return {base ? naive::add(y, in[1]) : y};
      };
      test.terms = terms(s.h, s.height) * terms(s.w, s.width);
      run(test);
    }
}

TEST_CASE("bilinear_resize: every pair of sides from 1 to 6, and 1 to 13") {
  for (int64_t in = 1; in <= 6; ++in)
    for (const int64_t out : {1, 2, 3, 4, 5, 6, 13}) {
      if (in == out) continue;
      CAPTURE(in);
      CAPTURE(out);
      const Tensor x = autograd::leaf(test::random({1, in, 3, 2}, 1)),
                   other = autograd::leaf(test::random({1, in, 3, 2}, 1));
      const Tensor y = bilinear_resize(x, out, 3), expected = literal(other, out, 3);
      CHECK(relative_error(y, expected) < 1e-14);
      const Tensor dy = test::random(y.shape(), 3);
      autograd::backward({y}, {dy});
      autograd::backward({expected}, {dy});
      CHECK(relative_error(autograd::grad_of(x), autograd::grad_of(other)) < 1e-14);
    }
}

TEST_CASE("bilinear_resize: the longest sides") {
  // Weights are exact there too: the result is the position itself, but at the borders.
  const int64_t in = 20000, out = kMaxResizeSide;
  Tensor x = empty({1, in, 1, 1}, Dtype::f64);
  for (int64_t i = 0; i < in; ++i) x.data<double>()[i] = double(i);
  const Tensor y = bilinear_resize(x, out, 1);
  double worst = 0;
  for (int64_t i = 0; i < out; ++i) {
    const double place = (double(i) + 0.5) * double(in) / double(out) - 0.5;
    worst = std::max(worst, std::abs(y.data<double>()[i] - std::clamp(place, 0.0, double(in - 1))));
  }
  CHECK(worst < 1e-10);
  const BilinearAxis axis{unsigned(in), unsigned(out)};
  for (unsigned r = 0; r < axis.in; ++r)
    for (unsigned i = axis.first(r); i < axis.first(r + 1); ++i) REQUIRE(axis.at(i) == r);
  CHECK(axis.first(axis.in) == axis.out);
}

TEST_CASE("bilinear_resize: a result larger than caches has the bits of its parts") {
  const int64_t side = 24, out = 132, c = 512, part = 16;
  const Tensor x = test::random({1, side, side, c}, 1).to(Dtype::f32);
  Tensor few = empty({1, side, side, part});
  for (int64_t i = 0; i < few.numel(); ++i)
    few.data<float>()[i] = x.data<float>()[i / part * c + i % part];
  const Tensor y = bilinear_resize(x, out, out), expected = bilinear_resize(few, out, out);
  REQUIRE(y.bytes() > 32 << 20);
  int64_t different = 0;
  for (int64_t i = 0; i < expected.numel(); ++i)
    different += expected.data<float>()[i] != y.data<float>()[i / part * c + i % part];
  CHECK(different == 0);
}

TEST_CASE("bilinear_resize: the same size is the same tensor, or a plain sum") {
  const Tensor x = autograd::leaf(test::random({1, 5, 6, 4}, 1));
  const Tensor y = bilinear_resize(x, 5, 6);
  CHECK(y.same_memory(x));
  CHECK(y.meta() == x.meta());
  const Tensor base = autograd::leaf(test::random({1, 5, 6, 4}, 2));
  const Tensor sum = bilinear_resize(x, 5, 6, base);
  CHECK(relative_error(sum, naive::add(x, base)) < 1e-15);
  const Tensor dy = test::random(x.shape(), 3);
  autograd::backward({sum}, {dy});
  CHECK(relative_error(autograd::grad_of(x), dy) == 0);
  CHECK(relative_error(autograd::grad_of(base), dy) == 0);
}

TEST_CASE("bilinear_resize_concat: as resized one by one and put side by side") {
  struct Map {
    int64_t h, w, c;
  };
  for (const std::vector<Map>& maps :
       {std::vector<Map>{{8, 12, 16}, {4, 6, 8}, {2, 3, 16}, {1, 2, 24}},  // the first as it is
        {{3, 5, 7}, {8, 12, 1}, {11, 13, 19}, {1, 1, 2}},                  // uneven
        {{5, 5, 4}}}) {
    const int64_t height = 8, width = 12, batch = 2;
    OpCase test;
    test.name = fmt::format("{} maps, {} channels of the first", maps.size(), maps[0].c);
    for (const Map& m : maps)
      test.inputs.push_back(test::random({batch, m.h, m.w, m.c}, 1 + test.inputs.size()));
    test.op = [=](auto& in) -> std::vector<Tensor> {
      return {bilinear_resize_concat(in, height, width)};
    };
    test.reference = [=](auto& in) -> std::vector<Tensor> {
      int64_t channels = 0;
      std::vector<Tensor> parts;
      for (const Tensor& x : in) {
        parts.push_back(literal(x, height, width));
        channels += x.dim(3);
      }
      // Flat and in order they are all of the first map, all of the second, ...
      const Tensor flat = naive::concat(parts, {batch * height * width * channels});
      std::vector<int64_t> from;
      for (int64_t pixel = 0; pixel < batch * height * width; ++pixel) {
        int64_t begin = 0;
        for (const Tensor& x : in) {
          for (int64_t k = 0; k < x.dim(3); ++k) from.push_back(begin + pixel * x.dim(3) + k);
          begin += batch * height * width * x.dim(3);
        }
      }
      return {naive::gather(flat, from, {batch, height, width, channels})};
    };
    test.terms = 28 * 28;  // 12 columns read one, at each end of the weights
    run(test);
  }
}

TEST_CASE("bilinear_resize: maps that nobody differentiates, and empty batches") {
  const Tensor x = autograd::leaf(test::random({1, 2, 2, 3}, 1)),
               fixed = test::random({1, 3, 3, 2}, 2);
  const Tensor y = bilinear_resize_concat({fixed, x}, 4, 4);
  autograd::backward({y}, {full(y.shape(), 1, Dtype::f64)});
  CHECK(relative_error(autograd::grad_of(x), full({1, 2, 2, 3}, 4, Dtype::f64)) < 1e-15);
  CHECK(bilinear_resize(zeros({0, 2, 2, 3}), 4, 5).shape() == Shape{0, 4, 5, 3});
}

TEST_CASE("bilinear_resize: wrong arguments are named") {
  CHECK_THROWS_WITH_AS(bilinear_resize(zeros({4, 4, 1}), 8, 8),
                       "bilinear_resize: x: expected 4 dimensions, found (4, 4, 1)", Error);
  CHECK_THROWS_WITH_AS(bilinear_resize(zeros({1, 4, 4, 1}), 0, 8),
                       "bilinear_resize: expected sides of 1 to 32767, found 0 x 8", Error);
  CHECK_THROWS_WITH_AS(bilinear_resize(zeros({1, 4, 0, 1}), 2, 8),
                       "bilinear_resize: expected sides of 1 to 32767, found 4 x 0", Error);
  CHECK_THROWS_WITH_AS(bilinear_resize(zeros({1, 4, 4, 2}), 8, 8, zeros({1, 8, 8, 1})),
                       "bilinear_resize: base: expected shape (1, 8, 8, 2), found (1, 8, 8, 1)",
                       Error);
  CHECK_THROWS_WITH_AS(bilinear_resize_concat({}, 2, 8),
                       "bilinear_resize_concat: maps: expected at least one", Error);
  CHECK_THROWS_WITH_AS(
      bilinear_resize_concat({zeros({1, 4, 4, 2}), zeros({2, 4, 4, 2})}, 2, 8),
      "bilinear_resize_concat: maps: expected a batch of 1 as the first, found (2, 4, 4, 2)",
      Error);
  CHECK_THROWS_AS(
      bilinear_resize_concat({zeros({1, 4, 4, 2}), zeros({1, 4, 4, 2}, Dtype::f64)}, 2, 8), Error);
}
