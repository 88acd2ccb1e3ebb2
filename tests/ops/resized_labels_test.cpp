#include "ops/resized_labels/resized_labels.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "autograd/tape.h"
#include "core/cpu/parallel.h"
#include "ops/bilinear_resize/bilinear_resize.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::test;

namespace {

Tensor twice(const Tensor& x, ImageSize seen, ImageSize image) {
  return bilinear_resize(bilinear_resize(x, seen.height, seen.width), image.height, image.width);
}

std::vector<uint8_t> first_largest(const Tensor& z) {
  const int64_t k = z.dim(-1);
  std::vector<uint8_t> labels;
  for (const double* p = z.data<double>(); p < z.data<double>() + z.numel(); p += k)
    labels.push_back(uint8_t(std::max_element(p, p + k) - p));
  return labels;
}

struct Sizes {
  Shape map;
  ImageSize seen, image;
};
const Sizes kSizes[] = {
    {{1, 1, 1, 1}, {1, 1}, {1, 1}},      {{2, 3, 4, 150}, {12, 16}, {7, 9}},
    {{1, 4, 5, 19}, {16, 20}, {16, 20}}, {{1, 5, 3, 21}, {20, 12}, {53, 31}},
    {{1, 6, 7, 11}, {4, 5}, {17, 3}},    {{1, 2, 9, 255}, {8, 36}, {11, 23}},
};

}  // namespace

TEST_CASE("resized_argmax: the largest of what is resized twice") {
  for (const Sizes& s : kSizes) {
    CAPTURE(s.map.str());
    const Tensor x = random(s.map, 1);
    const Tensor z = twice(x, s.seen, s.image);
    const auto expected = first_largest(z);
    CHECK(to_vector<uint8_t>(resized_argmax(x, s.seen, s.image)) == expected);
    // In f32, and bf16 storage, the label is one whose logit is the largest to rounding.
    for (const Device device : devices())
      for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
        const Tensor rounded = x.to(dtype);
        const Tensor exact = twice(rounded.to(Dtype::f64), s.seen, s.image);
        const auto right = first_largest(exact);
        const auto found = to_vector<uint8_t>(resized_argmax(rounded.to(device), s.seen, s.image));
        REQUIRE(found.size() == right.size());
        double worst = 0;
        for (size_t p = 0; p < found.size(); ++p) {
          const double* const at = exact.data<double>() + p * size_t(s.map[3]);
          worst = std::max(worst, at[right[p]] - at[found[p]]);
        }
        CHECK(worst <= 0x1p-20);
      }
  }
}

TEST_CASE("resized_argmax: of equal logits the first; NaN is never the largest") {
  for (const Device device : devices())
    for (const int64_t classes : {3, 40, 150}) {
      Tensor x = zeros({1, 2, 2, classes});
      for (int64_t p = 0; p < 4; ++p) {
        float* const z = x.data<float>() + p * classes;
        for (int64_t k = 1; k < classes; ++k) z[k] = k % 2 ? 5 : 1;
      }
      const auto labels = [&] {
        return to_vector<uint8_t>(resized_argmax(x.to(device), {4, 4}, {5, 7}));
      };
      CHECK(labels() == std::vector<uint8_t>(35, 1));
      for (int64_t p = 0; p < 4; ++p) x.data<float>()[p * classes] = NAN;
      CHECK(labels() == std::vector<uint8_t>(35, 1));
      const Tensor scores = x.view({2, 2, classes}).to(device);
      CHECK(to_vector<uint8_t>(argmax(scores)) == std::vector<uint8_t>(4, 1));
    }
}

TEST_CASE("add_resized_softmax: views add up, mirrored ones are mirrored back") {
  for (const Sizes& s : kSizes) {
    if (s.map[0] != 1) continue;
    CAPTURE(s.map.str());
    const Tensor x = random(s.map, 1, -4, 4);
    const int64_t width = s.image.width, k = s.map[3];
    for (const bool flipped : {false, true}) {
      Tensor expected = random({s.image.height, width, k}, 2, 0, 1);
      const Tensor before = expected.clone(), z = twice(x, s.seen, s.image);
      for (int64_t p = 0; p < s.image.height * width; ++p) {
        const int64_t from = flipped ? p / width * width + width - 1 - p % width : p;
        const double* const at = z.data<double>() + from * k;
        double sum = 0;
        for (int64_t i = 0; i < k; ++i) sum += std::exp(at[i]);
        for (int64_t i = 0; i < k; ++i) expected.data<double>()[p * k + i] += std::exp(at[i]) / sum;
      }
      const auto found = [&](Device device, Dtype dtype) {
        Tensor sum = before.to(acc_dtype(dtype)).to(device).clone();
        add_resized_softmax(x.to(dtype).to(device), s.seen, flipped, sum);
        return sum;
      };
      check_close(found({}, Dtype::f64), expected, 1e-13);
      for (const Device device : devices()) {
        check_close(found(device, Dtype::f32), expected, 1e-6);
        // Logits of up to 4, rounded by 2^-9 of it, move a probability by at most twice that.
        check_close(found(device, Dtype::bf16), expected, 0x1p-6);
      }
      CHECK(to_vector<uint8_t>(argmax(expected)) == first_largest(expected));
      for (const Device device : devices())
        CHECK(to_vector<uint8_t>(argmax(expected.to(Dtype::f32).to(device))) ==
              to_vector<uint8_t>(argmax(expected.to(Dtype::f32))));
    }
  }
}

TEST_CASE("resized_argmax: neither resized map is in memory, and threads change nothing") {
  const Tensor x = random({1, 16, 20, 30}, 1).to(Dtype::f32);
  const auto run = [&](int threads) {
    const int before = num_threads();
    set_num_threads(threads);
    const Tensor labels = resized_argmax(x, {64, 80}, {200, 250});
    set_num_threads(before);
    return to_vector<uint8_t>(labels);
  };
  const auto once = run(1);
  Allocator& memory = Allocator::of({});
  memory.reset_peak();
  const size_t before = memory.stats().in_use;
  CHECK(run(3) == once);
  // The labels, and a row of 20 columns of 30 classes in whole vectors (at most 64) a thread;
  // blocks are a little larger than asked.
  const size_t bound = 200 * 250 + 3 * 20 * 64 * sizeof(float);
  CHECK(memory.stats().peak - before <= 2 * bound);
  CHECK(64 * 80 * 30 * sizeof(float) > 2 * bound);
}

TEST_CASE("scores_of: the score of each pixel's label, 0 where it is no class") {
  for (const int64_t classes : {1, 7, 255}) {
    const Tensor scores = random({5, 9, classes}, 1).to(Dtype::f32);
    Tensor labels = empty({5, 9}, Dtype::u8);
    std::vector<float> expected;
    for (int64_t p = 0; p < 45; ++p) {
      const int64_t label = p % 4 == 3 ? 255 : p * 3 % classes;
      labels.data<uint8_t>()[p] = uint8_t(label);
      expected.push_back(label < classes ? scores.data<float>()[p * classes + label] : 0);
    }
    for (const Device device : devices())
      CHECK(to_vector<float>(scores_of(scores.to(device), labels.to(device))) == expected);
    CHECK(to_vector<float>(scores_of(scores.to(Dtype::f64), labels)) == expected);
  }
  CHECK_THROWS_AS(scores_of(zeros({2, 3, 4}), zeros({3, 2}, Dtype::u8)), Error);
  CHECK_THROWS_AS(scores_of(zeros({2, 3, 4}), zeros({2, 3})), Error);
}

TEST_CASE("resized labels: wrong arguments are named") {
  const Tensor z = zeros({1, 2, 2, 4});
  CHECK_THROWS_WITH_AS(resized_argmax(zeros({2, 2, 4}), {4, 4}, {4, 4}),
                       "resized_argmax: logits: expected 4 dimensions, found (2, 2, 4)", Error);
  CHECK_THROWS_WITH_AS(resized_argmax(z, {0, 4}, {4, 4}),
                       "resized_argmax: expected sides of 1 to 32767, found 0", Error);
  CHECK_THROWS_WITH_AS(resized_argmax(zeros({1, 1, 1, 256}), {4, 4}, {4, 4}),
                       "resized_argmax: logits: expected at most 255 classes, found 256", Error);
  Tensor sum = zeros({4, 4, 5});
  CHECK_THROWS_WITH_AS(add_resized_softmax(z, {4, 4}, false, sum),
                       "add_resized_softmax: sum: expected shape (4, 4, 4), found (4, 4, 5)",
                       Error);
  CHECK_THROWS_WITH_AS(argmax(zeros({2, 2, 0})),
                       "argmax: scores: expected 1 to 255 classes, found 0", Error);
  CHECK_THROWS_AS(resized_argmax(autograd::leaf(z), {4, 4}, {4, 4}), Error);
}
