#include "ops/mask_targets/mask_targets.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "core/cpu/parallel.h"
#include "ops/roi_align/roi_align.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::test;

namespace {

constexpr int64_t kHeight = 40, kWidth = 53;

// Masks of blobs, and boxes over all borders, of all sizes, and of none.
struct Inputs {
  Tensor masks, boxes, objects;
};
Inputs inputs(int64_t boxes) {
  Inputs in{zeros({3, kHeight, kWidth}, Dtype::u8), test::random({boxes, 4}, 1, -10, 50), {}};
  for (int64_t i = 0; i < in.masks.numel(); ++i) {
    const double y = double(i / kWidth % kHeight), x = double(i % kWidth),
                 g = double(i / kWidth / kHeight);
    in.masks.data<uint8_t>()[i] = std::sin(x / (2 + g)) + std::cos(y / 3 + g) > 0.3;
  }
  std::vector<int32_t> objects;
  for (int64_t i = 0; i < boxes; ++i) {
    objects.push_back(int32_t(i % 3));
    double* const b = in.boxes.data<double>() + 4 * i;
    if (i % 7) {  // else as it is, perhaps of less than no size
      if (b[0] > b[2]) std::swap(b[0], b[2]);
      if (b[1] > b[3]) std::swap(b[1], b[3]);
    }
  }
  in.objects = from_vector(objects, {boxes});
  return in;
}

// RoIAlign of the masks as maps, in f64.
Tensor composed(const Inputs& in, int64_t size) {
  const int64_t n = in.boxes.dim(0);
  std::vector<double> rois;
  for (int64_t i = 0; i < n; ++i) {
    rois.push_back(in.objects.data<int32_t>()[i]);
    for (int k = 0; k < 4; ++k)
      rois.push_back(std::clamp(to_vector<double>(in.boxes)[size_t(4 * i + k)], 0.0,
                                double(k % 2 ? kHeight : kWidth)));
  }
  const Tensor maps = from_vector(to_vector<double>(in.masks), {3, kHeight, kWidth, 1});
  const Tensor means = roi_align({maps}, from_vector(rois, {n, 5}), {}, {1}, size);
  Tensor targets = empty({n, size, size}, Dtype::u8);
  for (int64_t i = 0; i < means.numel(); ++i)
    targets.data<uint8_t>()[i] = means.data<double>()[i] >= 0.5;
  return targets;
}

}  // namespace

TEST_CASE("mask_targets: as RoIAlign of the masks, for any number of threads") {
  for (const int64_t size : {1, 5, 28}) {
    const Inputs in = inputs(60);
    const auto expected = to_vector<uint8_t>(composed(in, size));
    const int before = num_threads();
    for (const int threads : {1, 3}) {
      set_num_threads(threads);
      CHECK(to_vector<uint8_t>(mask_targets(in.masks, in.boxes, in.objects, size)) == expected);
    }
    set_num_threads(before);
    if (!have_cuda()) continue;
    const Tensor masks = in.masks.to(kCuda), objects = in.objects.to(kCuda);
    const Tensor found = mask_targets(masks, in.boxes.to(kCuda), objects, size);
    CHECK(to_vector<uint8_t>(found) == expected);
    // Those that are not there are 255.
    Tensor wrong = in.boxes.to(Dtype::f32).clone();
    wrong.data<float>()[2] = NAN;
    const Tensor none = mask_targets(masks, wrong.to(kCuda), objects, size);
    for (int64_t i = 0; i < size * size; ++i) CHECK(to_vector<uint8_t>(none)[size_t(i)] == 255);
    const Tensor other =
        mask_targets(masks, in.boxes.to(kCuda), full({60}, 3, Dtype::i32, kCuda), 1);
    for (const int v : to_vector<uint8_t>(other)) CHECK(v == 255);
  }
}

TEST_CASE("mask_targets: a mean of 0.5 is 1, and of less 0") {
  // Samples are the centres of the pixels: of the whole mask 5 of 12 are 1, of its left part 4
  // of 8.
  const Tensor masks = from_vector(std::vector<uint8_t>{0, 1, 0, 1, 0, 1,  //
                                                        0, 1, 0, 1, 0, 0},
                                   {1, 2, 6});
  const auto target = [&](float width) {
    const Tensor box = from_vector(std::vector<float>{0, 0, width, 2}, {1, 4});
    return int(mask_targets(masks, box, zeros({1}, Dtype::i32), 1).item());
  };
  CHECK(target(6) == 0);
  CHECK(target(4) == 1);
}

TEST_CASE("mask_targets: no boxes, and wrong arguments") {
  const Tensor masks = zeros({2, 4, 4}, Dtype::u8), objects = zeros({1}, Dtype::i32);
  CHECK(mask_targets(masks, zeros({0, 4}), zeros({0}, Dtype::i32), 28).shape() == Shape{0, 28, 28});
  CHECK_THROWS_WITH_AS(mask_targets(zeros({2, 4, 4}), zeros({1, 4}), objects, 28),
                       "mask_targets: masks: expected u8, found f32", Error);
  CHECK_THROWS_WITH_AS(mask_targets(masks, zeros({1, 5}), objects, 28),
                       "mask_targets: boxes: expected shape (1, 4), found (1, 5)", Error);
  CHECK_THROWS_WITH_AS(mask_targets(masks, zeros({1, 4}), zeros({1}), 28),
                       "mask_targets: objects: expected i32, found f32", Error);
  CHECK_THROWS_WITH_AS(
      mask_targets(masks, zeros({1, 4}), from_vector(std::vector<int32_t>{2}, {1}), 28),
      "mask_targets: box 0: mask 2 of 2 does not exist", Error);
  CHECK_THROWS_WITH_AS(
      mask_targets(masks, from_vector(std::vector<float>{0, 0, HUGE_VALF, 1}, {1, 4}), objects, 28),
      "mask_targets: box 0: inf is no place in an image", Error);
}
