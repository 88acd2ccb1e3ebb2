#include "ops/roi_align/roi_align.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "core/cpu/parallel.h"
#include "tests/support/naive.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::test;

namespace {

struct Roi {
  double image, x1, y1, x2, y2;
  int level = 0;
};
struct Case {
  std::string name;
  std::vector<Shape> maps;
  std::vector<double> scales;
  std::vector<Roi> rois;
  int64_t size;
};

Tensor rois_of(const Case& c) {
  std::vector<double> values;
  for (const Roi& r : c.rois) values.insert(values.end(), {r.image, r.x1, r.y1, r.x2, r.y2});
  return from_vector(values, {int64_t(c.rois.size()), 5});
}
Tensor levels_of(const Case& c) {
  if (c.maps.size() == 1) return {};
  std::vector<int32_t> levels;
  for (const Roi& r : c.rois) levels.push_back(r.level);
  return from_vector(levels, {int64_t(levels.size())});
}

// As torchvision's code: every sample of every bin, each of four pixels.
Tensor literal(const Case& c, const std::vector<Tensor>& maps) {
  struct Term {
    int64_t from;
    double weight;
  };
  const int64_t channels = c.maps[0][3];
  std::vector<int64_t> begins;  // of the maps, side by side
  int64_t total = 0;
  for (const Tensor& m : maps) begins.push_back(total), total += m.numel();
  std::vector<std::vector<Term>> terms;  // of each output
  size_t longest = 1;
  for (const Roi& r : c.rois) {
    const auto level = size_t(r.level);
    const int64_t h = c.maps[level][1], w = c.maps[level][2];
    const double scale = c.scales[level], x1 = r.x1 * scale - 0.5, y1 = r.y1 * scale - 0.5;
    const double bin_w = (r.x2 * scale - 0.5 - x1) / double(c.size),
                 bin_h = (r.y2 * scale - 0.5 - y1) / double(c.size);
    const double columns = std::ceil(bin_w), rows = std::ceil(bin_h);
    const double count = std::max(rows * columns, 1.0);
    for (int64_t i = 0; i < c.size; ++i)
      for (int64_t j = 0; j < c.size; ++j)
        for (int64_t ch = 0; ch < channels; ++ch) {
          std::vector<Term>& sum = terms.emplace_back();
          for (double a = 0; a < rows; ++a)
            for (double b = 0; b < columns; ++b) {
              double y = y1 + double(i) * bin_h + (a + 0.5) * bin_h / rows,
                     x = x1 + double(j) * bin_w + (b + 0.5) * bin_w / columns;
              if (y < -1 || y > double(h) || x < -1 || x > double(w)) continue;
              y = std::min(std::max(y, 0.0), double(h - 1));
              x = std::min(std::max(x, 0.0), double(w - 1));
              for (const int64_t p : {int64_t(y), int64_t(y) + 1})
                for (const int64_t q : {int64_t(x), int64_t(x) + 1}) {
                  const double weight =
                      (1 - std::abs(y - double(p))) * (1 - std::abs(x - double(q)));
                  if (weight == 0) continue;
                  const int64_t pixel = (int64_t(r.image) * h + p) * w + q;
                  sum.push_back({begins[level] + pixel * channels + ch, weight / count});
                }
            }
          longest = std::max(longest, sum.size());
        }
  }
  const Shape shape{int64_t(c.rois.size()), c.size, c.size, channels};
  std::vector<int64_t> from;
  std::vector<double> weights;
  for (std::vector<Term>& sum : terms) {
    sum.resize(longest, {-1, 0});
    for (const Term& t : sum) from.push_back(t.from), weights.push_back(t.weight);
  }
  const Shape products{shape[0], shape[1], shape[2], shape[3], int64_t(longest)};
  const Tensor all = naive::concat(maps, {total});
  return naive::sum_last(
      naive::multiply(naive::gather(all, from, products), from_vector(weights, products)));
}

std::vector<Case> cases() {
  std::vector<Case> all;
  all.push_back({"one sample a bin, inside",
                 {{1, 9, 11, 16}},
                 {0.25},
                 {{0, 6, 5, 30, 25}, {0, 8, 8, 16, 12}},
                 7});
  all.push_back({"many samples, uneven channels, two images",
                 {{2, 13, 17, 5}},
                 {1},
                 {{1, 0.5, 1.25, 16, 12}, {0, 2, 3, 15.5, 9}, {1, 1, 1, 4, 12.5}},
                 3});
  all.push_back({"over all borders",
                 {{1, 6, 5, 19}},
                 {0.5},
                 {{0, -9, -7, 6, 5}, {0, 3, 2, 30, 31}, {0, -20, -20, 40, 40}, {0, -30, -3, -9, 9}},
                 4});
  all.push_back(
      {"no size, less than none, far outside",
       {{1, 4, 4, 3}},
       {1},
       {{0, 2, 2, 2, 2}, {0, 3, 1, 1, 3}, {0, 1, 1, 3, 1}, {0, 50, 50, 60, 60}, {0, 0, 0, 4, 4}},
       2});
  all.push_back({"one bin, one pixel, one channel", {{2, 1, 1, 1}}, {1}, {{1, 0, 0, 1, 1}}, 1});
  Case pyramid{"a pyramid",
               {{2, 16, 20, 70}, {2, 8, 10, 70}, {2, 4, 5, 70}, {2, 2, 3, 70}},
               {0.25, 0.125, 0.0625, 0.03125},
               {},
               7};
  const Tensor u = test::random({24, 5}, 9, 0, 1);
  for (int i = 0; i < 24; ++i) {
    const double* v = u.data<double>() + 5 * i;
    const auto place = [](double x) { return std::floor(x * 64); };  // exact in f32
    // Levels in any order; none for the last, so that a map has no reader.
    pyramid.rois.push_back({double(i % 2), place(v[0]), place(v[1]), place(v[0]) + place(v[2]) / 2,
                            place(v[1]) + place(v[3]), i * 7 % 3});
  }
  all.push_back(std::move(pyramid));
  return all;
}

Tensor apply(const Case& c, const std::vector<Tensor>& in, const std::vector<Tensor>& fixed) {
  const std::vector<Tensor> maps(in.begin(), in.begin() + int64_t(c.maps.size()));
  return roi_align(maps, fixed[0], fixed[1], c.scales, c.size);
}

}  // namespace

TEST_CASE("roi_align: value and gradients against the literal form") {
  for (const Case& c : cases()) {
    OpCase test;
    test.name = c.name;
    for (const Shape& s : c.maps) {
      test.inputs.push_back(test::random(s, 1 + test.inputs.size()));
      test.wanted.push_back(true), test.roles.push_back(Role::activation);
    }
    test.inputs.push_back(rois_of(c));
    test.wanted.push_back(false), test.roles.push_back(Role::parameter);
    if (const Tensor levels = levels_of(c)) {
      test.inputs.push_back(levels);
      test.wanted.push_back(false), test.roles.push_back(Role::parameter);
    }
    const size_t maps = c.maps.size();
    test.op = [=](auto& in) -> std::vector<Tensor> {
      return {apply(c, in, {in[maps], maps > 1 ? in[maps + 1] : Tensor()})};
    };
    test.reference = [=](auto& in) -> std::vector<Tensor> {
      return {literal(c, {in.begin(), in.begin() + int64_t(maps)})};
    };
    // Places, and so weights, are off by 2^-24 of the side: by 8 or more of its roundings.
    test.terms = 24 * 24;
    run(test);
  }
}

TEST_CASE("roi_align: the same bits for any number of threads, RoIs one upon another") {
  const int64_t n = 300;
  Case c{"many", {{2, 40, 50, 36}, {2, 20, 25, 36}}, {0.25, 0.125}, {}, 7};
  const Tensor u = test::random({n, 5}, 9, 0, 1);
  for (int64_t i = 0; i < n; ++i) {
    const double* v = u.data<double>() + 5 * i;
    c.rois.push_back({double(i % 2), 200 * v[0], 160 * v[1], 200 * v[0] + 100 * v[2],
                      160 * v[1] + 100 * v[3], int(i % 3 == 0)});
  }
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    const auto values = [&] {
      std::vector<Tensor> maps;
      for (const Shape& s : c.maps)
        maps.push_back(autograd::leaf(test::random(s, 1 + maps.size()).to(dtype)));
      const Tensor y = apply(c, maps, {rois_of(c).to(Dtype::f32), levels_of(c)});
      autograd::backward({y}, {test::random(y.shape(), 5).to(dtype)});
      std::vector<std::vector<float>> all{to_vector<float>(y)};
      for (const Tensor& m : maps) all.push_back(to_vector<float>(autograd::grad_of(m)));
      return all;
    };
    const int before = num_threads();
    set_num_threads(1);
    const auto expected = values();
    for (const int threads : {2, 3, 8}) {
      set_num_threads(threads);
      CHECK((values() == expected));
    }
    set_num_threads(before);
  }
}

TEST_CASE("roi_align: a map that nobody differentiates, no RoIs, an empty batch") {
  Case c{
      "two", {{1, 6, 6, 2}, {1, 3, 3, 2}}, {1, 0.5}, {{0, 1, 1, 4, 4, 0}, {0, 1, 1, 4, 4, 1}}, 2};
  const Tensor fine = test::random(c.maps[0], 1), x = autograd::leaf(test::random(c.maps[1], 2));
  const Tensor y = apply(c, {fine, x}, {rois_of(c), levels_of(c)});
  autograd::backward({y}, {full(y.shape(), 1, Dtype::f64)});
  double sum = 0;
  for (const double v : to_vector<double>(autograd::grad_of(x))) sum += v;
  CHECK(sum == doctest::Approx(8));  // each of 2 x 2 bins of 2 channels is a mean

  const Tensor z = autograd::leaf(test::random({1, 3, 3, 2}, 2));
  const Tensor none = roi_align({z}, zeros({0, 5}, Dtype::f64), {}, {1}, 7);
  CHECK(none.shape() == Shape{0, 7, 7, 2});
  autograd::backward({none}, {none.detach()});
  CHECK(relative_error(autograd::grad_of(z), zeros(z.shape(), Dtype::f64)) == 0);
  CHECK(roi_align({zeros({0, 3, 3, 2})}, zeros({0, 5}), {}, {1}, 7).numel() == 0);
}

TEST_CASE("roi_align: wrong arguments are named") {
  const Tensor x = zeros({2, 4, 5, 3}), rois = zeros({1, 5});
  const Tensor levels = zeros({1}, Dtype::i32);
  CHECK_THROWS_WITH_AS(roi_align({}, rois, {}, {}, 7), "roi_align: maps: expected 1 to 8, found 0",
                       Error);
  CHECK_THROWS_WITH_AS(roi_align({x}, rois, {}, {1, 2}, 7),
                       "roi_align: scales: expected 1, one a map, found 2", Error);
  CHECK_THROWS_WITH_AS(roi_align({x}, rois, {}, {1}, 65),
                       "roi_align: size: expected 1 to 64, found 65", Error);
  CHECK_THROWS_WITH_AS(roi_align({x}, zeros({1, 4}), {}, {1}, 7),
                       "roi_align: rois: expected shape (1, 5), found (1, 4)", Error);
  CHECK_THROWS_WITH_AS(roi_align({x, x}, rois, {}, {1, 1}, 7),
                       "roi_align: levels: missing, with 2 maps", Error);
  CHECK_THROWS_AS(roi_align({x, zeros({1, 4, 5, 3})}, rois, levels, {1, 1}, 7), Error);
  CHECK_THROWS_AS(roi_align({x}, autograd::leaf(zeros({1, 5})), {}, {1}, 7), Error);
}

TEST_CASE("roi_align: RoIs that are not there are NaN on a device, and have no gradient") {
  if (!have_cuda()) return;
  const float bad = std::nanf("");
  const std::vector<float> rois{0, 1, 1, 3, 3,   2, 1, 1, 2,    2, -1, 1, 1, 2, 2,
                                0, 1, 1, 3, bad, 0, 1, 1, 1e6f, 2, 0,  1, 1, 3, 3};
  const std::vector<int32_t> levels{0, 0, 0, 0, 0, 1};
  const Tensor x = autograd::leaf(full({1, 4, 5, 3}, 2, Dtype::f32, kCuda));
  const Tensor y = roi_align({x}, from_vector(rois, {6, 5}).to(kCuda),
                             from_vector(levels, {6}).to(kCuda), {1}, 2);
  const auto found = to_vector<float>(y);
  for (size_t i = 0; i < found.size(); ++i) CHECK(std::isnan(found[i]) == (i >= 12));
  autograd::backward({y}, {full(y.shape(), 1, Dtype::f32, kCuda)});
  double sum = 0;
  for (const double v : to_vector<double>(autograd::grad_of(x))) sum += v;
  CHECK(sum == doctest::Approx(12));
}

TEST_CASE("roi_align: RoIs that are not there are named on the CPU") {
  const Tensor x = zeros({2, 4, 5, 3});
  const auto message = [&](std::vector<float> roi, int32_t level) {
    try {
      roi_align({x, x}, from_vector(roi, {1, 5}), from_vector(std::vector<int32_t>{level}, {1}),
                {1, 1}, 7);
    } catch (const Error& e) {
      CHECK(e.code() == ExitCode::data);
      return std::string(e.what());
    }
    return std::string("none");
  };
  CHECK(message({0, 1, 1, 2, 2}, 2) == "roi_align: RoI 0: map 2 of 2 does not exist");
  CHECK(message({2, 1, 1, 2, 2}, 0) == "roi_align: RoI 0: image 2 of 2 does not exist");
  CHECK(message({-1, 1, 1, 2, 2}, 0) == "roi_align: RoI 0: image -1 of 2 does not exist");
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity(), -1e6f})
    for (size_t i = 1; i < 5; ++i) {
      std::vector<float> roi{0, 1, 1, 2, 2};
      roi[i] = bad;
      CHECK(message(roi, 0) == fmt::format("roi_align: RoI 0: {} is no place in an image", bad));
    }
}
