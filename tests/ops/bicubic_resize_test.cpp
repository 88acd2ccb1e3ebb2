#include "ops/bicubic_resize/bicubic_resize.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/support/naive.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::test;

namespace {

// Keys' cubic convolution kernel with a = -0.75.
double cubic(double t) {
  const double a = -0.75, u = std::abs(t);
  if (u <= 1) return (a + 2) * u * u * u - (a + 3) * u * u + 1;
  return u < 2 ? a * u * u * u - 5 * a * u * u + 8 * a * u - 4 * a : 0;
}

// y(i, j) = sum over all integers (p, q) of x(clamp p, clamp q) cubic(v - p) cubic(u - q).
Tensor literal(const Tensor& x, int64_t height, int64_t width) {
  const int64_t h = x.dim(0), w = x.dim(1), c = x.dim(2);
  const Shape products{height, width, c, 16};
  std::vector<int64_t> from;
  std::vector<double> weight;
  for (int64_t i = 0; i < height; ++i)
    for (int64_t j = 0; j < width; ++j)
      for (int64_t ch = 0; ch < c; ++ch) {
        const double v = (double(i) + 0.5) * double(h) / double(height) - 0.5;
        const double u = (double(j) + 0.5) * double(w) / double(width) - 0.5;
        for (double p = std::floor(v) - 1; p < std::floor(v) + 3; ++p)
          for (double q = std::floor(u) - 1; q < std::floor(u) + 3; ++q) {
            const int64_t row = std::clamp(int64_t(p), int64_t{0}, h - 1);
            const int64_t column = std::clamp(int64_t(q), int64_t{0}, w - 1);
            from.push_back((row * w + column) * c + ch);
            weight.push_back(cubic(v - p) * cubic(u - q));
          }
      }
  return naive::sum_last(
      naive::multiply(naive::gather(x, from, products), from_vector(weight, products)));
}

}  // namespace

TEST_CASE("bicubic_resize: value and gradient against the literal formula") {
  for (const auto& [h, w, c, height, width] : {std::tuple{7, 7, 5, 10, 14},
                                               {8, 5, 16, 3, 9},
                                               {9, 9, 3, 4, 4},
                                               {1, 1, 2, 3, 2},
                                               {2, 3, 33, 6, 3},
                                               {12, 10, 1, 1, 1},
                                               {6, 6, 4, 12, 12}}) {
    OpCase test;
    test.name = fmt::format("{}x{}x{} to {}x{}", h, w, c, height, width);
    test.inputs = {test::random({h, w, c}, 1)};
    test.roles = {Role::parameter};
    test.op = [=](auto& in) -> std::vector<Tensor> {
      return {bicubic_resize(in[0], height, width)};
    };
    test.reference = [=](auto& in) -> std::vector<Tensor> {
      return {literal(in[0], height, width)};
    };
    test.terms = std::max(16, 16 * height * width / (h * w));
    run(test);
  }
}

TEST_CASE("bicubic_resize: the numbers of torch, up- and downsizing each axis") {
  // import torch, torch.nn.functional as F
  // x = torch.tensor([[3., -1, 4, 1], [-5, 9, 2, -6], [5, 3, -5, 8]], dtype=torch.float64)
  // for size in [(5, 2), (2, 6)]:
  //     print(F.interpolate(x[None, None], size=size, mode="bicubic", align_corners=False))
  const Tensor x = from_vector<double>({3, -1, 4, 1, -5, 9, 2, -6, 5, 3, -5, 8}, {3, 4, 1});
  const Tensor tall = from_vector<double>(
      {0.3272499999999995, 3.508749999999999, 1.204999999999997, 0.5409999999999994, 2.65625,
       -2.65625, 4.0906249999999975, -0.9766249999999997, 4.951000000000001, 1.0770000000000004},
      {5, 2, 1});
  const Tensor wide = from_vector<double>(
      {0.7803276909722228, 0.9390869140625002, 1.9491871021412026, 3.894481517650463,
       1.5745849609375, -1.5009629991319455, 2.257134331597223, 4.350341796875, 3.5907072844328716,
       -2.969206633391202, -0.219482421875, 5.282240125868058},
      {2, 6, 1});
  CHECK(relative_error(bicubic_resize(x, 5, 2), tall) < 1e-15);
  CHECK(relative_error(bicubic_resize(x, 2, 6), wide) < 1e-15);
}

TEST_CASE("bicubic_resize: the same size is the same tensor") {
  const Tensor x = autograd::leaf(test::random({5, 6, 4}, 1));
  const Tensor y = bicubic_resize(x, 5, 6);
  CHECK(y.same_memory(x));
  CHECK(y.meta() == x.meta());
}

TEST_CASE("bicubic_resize: wrong arguments are named") {
  CHECK_THROWS_WITH_AS(bicubic_resize(zeros({4, 4}), 8, 8),
                       "bicubic_resize: x: expected 3 dimensions, found (4, 4)", Error);
  CHECK_THROWS_WITH_AS(bicubic_resize(zeros({4, 4, 1}), 0, 8),
                       "bicubic_resize: expected a size of at least 1 x 1, found 0 x 8", Error);
  CHECK_THROWS_WITH_AS(bicubic_resize(zeros({0, 4, 1}), 2, 8),
                       "bicubic_resize: x: (0, 4, 1) has no rows or columns", Error);
}
