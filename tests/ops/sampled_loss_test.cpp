#include "ops/sampled_loss/sampled_loss.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/support/naive.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::test;

namespace {

struct Case {
  std::string name;
  std::vector<Shape> maps;
  std::vector<int32_t> positive, negative;
};
// `width` elements are a row.
std::vector<Case> cases(int64_t width) {
  return {{"two images of three maps",
           {{2, 3, 4, 3 * width}, {2, 2, 2, 3 * width}, {2, 1, 1, 3 * width}},
           {0, 35, 36, 47, 50, 51, 101},
           {1, 49, 48, 52, 90, 7}},
          {"one map", {{5, 6, width}}, {29, 3, 12}, {4, 5}},
          {"nothing negative", {{1, 4, width}, {1, 2, width}}, {5, 2}, {}},
          {"a map of which nothing is taken", {{1, 40, width}, {1, 300, width}}, {1}, {0, 39}}};
}

Tensor index_of(const std::vector<int32_t>& index) {
  return from_vector(index, {int64_t(index.size())});
}

// The elements of row i, of all maps side by side.
std::vector<int64_t> elements_of(const Case& c, int64_t width, int32_t i) {
  const int64_t batch = c.maps[0][0];
  int64_t of_image = 0;
  for (const Shape& s : c.maps) of_image += s.numel() / batch / width;
  int64_t image = i / of_image, row = i % of_image, begin = 0;
  for (const Shape& s : c.maps) {
    const int64_t rows = s.numel() / batch / width;
    if (row < rows) {
      std::vector<int64_t> elements;
      for (int64_t k = 0; k < width; ++k)
        elements.push_back(begin + (image * rows + row) * width + k);
      return elements;
    }
    row -= rows, begin += s.numel();
  }
  return {};
}

Tensor side_by_side(const std::vector<Tensor>& maps) {
  int64_t total = 0;
  for (const Tensor& m : maps) total += m.numel();
  return naive::concat(maps, {total});
}

Tensor sum_of(const Tensor& x, double factor) {
  std::vector<int64_t> all(size_t(x.numel()));
  for (size_t i = 0; i < all.size(); ++i) all[i] = int64_t(i);
  return naive::scale(naive::sum_last(naive::gather(x, all, {1, x.numel()})), factor);
}

OpCase case_of(const Case& c, double low, double high) {
  OpCase test;
  test.name = c.name;
  for (const Shape& s : c.maps)
    test.inputs.push_back(test::random(s, 1 + test.inputs.size(), low, high));
  test.terms = int64_t(4 * (c.positive.size() + c.negative.size()));
  return test;
}

}  // namespace

TEST_CASE("sampled_binary_cross_entropy: value and gradients against the composed form") {
  for (const Case& c : cases(1)) {
    OpCase test = case_of(c, -5, 5);
    const size_t maps = c.maps.size();
    test.inputs.push_back(index_of(c.positive));
    test.inputs.push_back(index_of(c.negative));
    test.op = [=](auto& in) -> std::vector<Tensor> {
      return {sampled_binary_cross_entropy({in.begin(), in.begin() + int64_t(maps)}, in[maps],
                                           in[maps + 1], 7)};
    };
    test.reference = [=](auto& in) -> std::vector<Tensor> {
      std::vector<int64_t> from;
      std::vector<double> sign;  // the loss of z is softplus(sign z)
      for (const int32_t i : c.positive)
        from.push_back(elements_of(c, 1, i)[0]), sign.push_back(-1);
      for (const int32_t i : c.negative) from.push_back(elements_of(c, 1, i)[0]), sign.push_back(1);
      const Shape shape{int64_t(from.size())};
      const Tensor z =
          naive::gather(side_by_side({in.begin(), in.begin() + int64_t(maps)}), from, shape);
      return {sum_of(naive::map(
                         naive::multiply(z, from_vector(sign, shape)),
                         [](double v) { return std::log1p(std::exp(v)); },
                         [](double v) { return 1 / (1 + std::exp(-v)); }),
                     1.0 / 7)};
    };
    run(test);
  }
}

TEST_CASE("sampled_l1: value and gradients against the composed form") {
  for (const Case& c : cases(4)) {
    OpCase test = case_of(c, -1, 1);
    const size_t maps = c.maps.size();
    const auto n = int64_t(c.positive.size());
    test.inputs.push_back(index_of(c.positive));
    // Away from the values, where finite differences would cross the kink.
    test.inputs.push_back(test::random({n, 4}, 9, 1.1, 2));
    for (int64_t i = 0; i < n; i += 2) test.inputs.back().data<double>()[2 * i] *= -1;
    test.wanted.assign(maps, true), test.wanted.insert(test.wanted.end(), {false, false});
    test.roles.assign(maps, Role::activation);
    test.roles.insert(test.roles.end(), 2, Role::parameter);
    test.op = [=](auto& in) -> std::vector<Tensor> {
      return {sampled_l1({in.begin(), in.begin() + int64_t(maps)}, in[maps], in[maps + 1], 5)};
    };
    test.reference = [=](auto& in) -> std::vector<Tensor> {
      std::vector<int64_t> from;
      for (const int32_t i : c.positive)
        for (const int64_t e : elements_of(c, 4, i)) from.push_back(e);
      const Tensor d =
          naive::gather(side_by_side({in.begin(), in.begin() + int64_t(maps)}), from, {n, 4});
      return {sum_of(
          naive::map(
              naive::add(d, naive::scale(in[maps + 1], -1)), [](double v) { return std::abs(v); },
              [](double v) { return v < 0 ? -1.0 : 1.0; }),
          0.2)};
    };
    run(test);
  }
}

TEST_CASE("sampled losses: equal values have no gradient, no rows no loss") {
  for (const Device device : devices()) {
    const Tensor d = autograd::leaf(full({1, 2, 4}, 0.5, Dtype::f32, device));
    const Tensor none = zeros({0}, Dtype::i32, device), row = zeros({1}, Dtype::i32, device);
    Tensor loss = sampled_l1({d}, row, full({1, 4}, 0.5, Dtype::f32, device), 1);
    autograd::backward(loss);
    CHECK(loss.item() == 0);
    CHECK(to_vector<float>(autograd::grad_of(d)) == std::vector<float>(8, 0));
    autograd::clear_grad(d);
    loss = sampled_l1({d}, none, zeros({0, 4}, Dtype::f32, device), 3);
    CHECK(loss.item() == 0);
    autograd::backward(loss);
    CHECK(to_vector<float>(autograd::grad_of(d)) == std::vector<float>(8, 0));
    CHECK(sampled_binary_cross_entropy({d}, none, none, 1).item() == 0);
    // A large logit does not overflow.
    const Tensor z = autograd::leaf(full({1, 1}, 1e4, Dtype::f32, device));
    CHECK(sampled_binary_cross_entropy({z}, none, row, 1).item() == 1e4);
    CHECK(sampled_binary_cross_entropy({z}, row, none, 1).item() == 0);
  }
}

TEST_CASE("sampled losses: rows that do not exist") {
  for (const Device device : devices())
    for (const int32_t bad : {-1, 6}) {
      const Tensor z = zeros({2, 3}, Dtype::f32, device), d = zeros({2, 12}, Dtype::f32, device);
      const Tensor row = from_vector(std::vector<int32_t>{bad}, {1}).to(device);
      const Tensor none = zeros({0}, Dtype::i32, device);
      const Tensor targets = zeros({1, 4}, Dtype::f32, device);
      if (device.type == DeviceType::cpu) {
        CHECK_THROWS_WITH_AS(
            sampled_binary_cross_entropy({z}, row, none, 1),
            fmt::format("sampled_binary_cross_entropy: row {} of 6 does not exist", bad).c_str(),
            Error);
        CHECK_THROWS_WITH_AS(sampled_l1({d}, row, targets, 1),
                             fmt::format("sampled_l1: row {} of 6 does not exist", bad).c_str(),
                             Error);
      } else {
        CHECK(std::isnan(sampled_binary_cross_entropy({z}, row, none, 1).item()));
        CHECK(std::isnan(sampled_l1({d}, row, targets, 1).item()));
      }
    }
}

TEST_CASE("sampled losses: wrong arguments are named") {
  const Tensor none = zeros({0}, Dtype::i32);
  CHECK_THROWS_WITH_AS(sampled_binary_cross_entropy({}, none, none, 1),
                       "sampled_binary_cross_entropy: maps: expected 1 to 8, found 0", Error);
  CHECK_THROWS_WITH_AS(sampled_l1({zeros({2, 3})}, none, zeros({0, 4}), 1),
                       "sampled_l1: maps: expected rows of 4, found (2, 3)", Error);
  CHECK_THROWS_WITH_AS(sampled_l1({zeros({2, 4})}, none, zeros({1, 4}), 1),
                       "sampled_l1: targets: expected shape (0, 4), found (1, 4)", Error);
  CHECK_THROWS_WITH_AS(sampled_l1({zeros({2, 4})}, none, zeros({0, 4}), 0),
                       "sampled_l1: divisor: expected more than 0, found 0", Error);
  CHECK_THROWS_AS(sampled_l1({zeros({2, 4})}, zeros({0}), zeros({0, 4}), 1), Error);
}
