#include "ops/normalize_images/normalize_images.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "core/graph.h"
#include "tests/support/faults.h"
#include "tests/support/op_case.h"

using namespace sg;
using sg::test::have_cuda, sg::test::kCuda;

namespace {

Tensor random_pixels(Shape shape, uint64_t stream) {
  return test::random(shape, stream, 0, 256).to(Dtype::u8);
}

bool same_bits(const Tensor& a, const Tensor& b) {
  const Tensor x = a.to(Device{}), y = b.to(Device{});
  return x.shape() == y.shape() && x.dtype() == y.dtype() &&
         std::memcmp(x.raw(), y.raw(), x.bytes()) == 0;
}

// Without mean and deviation: what comes out is the pixel itself.
const ChannelStats kPlain{{0, 0, 0}, {1 / 255.0, 1 / 255.0, 1 / 255.0}};

// Three of four images of 9 x 11 mixed, two erased, boxes of all kinds.
std::vector<MixErase> some_changes() {
  std::vector<MixErase> c(4);
  mixup(std::span(c).first(2), 0, 0.3, 9, 11);
  cutmix(std::span(c).last(2), 2, cutmix_box(0.6, 1, 7, 9, 11), 9, 11);
  c[2].mixed = {};
  c[1].erased[0] = {3, 2, 8, 5}, c[1].noise = Random(5, Purpose::erasing, 1, 77).stream();
  c[3].erased[0] = {0, 0, 9, 3}, c[3].noise = Random(5, Purpose::erasing, 1, 78).stream();
  return c;
}

}  // namespace

TEST_CASE("normalize_images: every value of every channel, at any size") {
  const ChannelStats stats;
  for (const Shape& shape :
       {Shape{1, 16, 16, 3}, {2, 5, 7, 3}, {1, 1, 1, 3}, {3, 160, 161, 3}, {0, 4, 4, 3}}) {
    Tensor pixels = empty(shape, Dtype::u8), expected = empty(shape, Dtype::f64);
    for (int64_t i = 0; i < pixels.numel(); ++i) {
      // Pixel p holds p + 11 c in channel c.
      const int64_t c = i % 3, v = (i / 3 + 11 * c) % 256;
      pixels.data<uint8_t>()[i] = uint8_t(v);
      expected.data<double>()[i] = (double(v) - 255 * stats.mean[c]) / (255 * stats.std[c]);
    }
    CHECK(to_vector<double>(normalize_images(pixels, stats, Dtype::f64)) ==
          to_vector<double>(expected));
    CHECK(to_vector<float>(normalize_images(pixels, stats)) == to_vector<float>(expected));
    CHECK(same_bits(normalize_images(pixels, stats, Dtype::bf16), expected.to(Dtype::bf16)));
    if (!have_cuda()) continue;
    CHECK(same_bits(normalize_images(pixels.to(kCuda), stats), expected.to(Dtype::f32)));
    CHECK(same_bits(normalize_images(pixels.to(kCuda), stats, Dtype::bf16),
                    expected.to(Dtype::bf16)));
  }
}

TEST_CASE("normalize_images: other statistics, e.g. [0, 255] to [-1, 1]") {
  const Tensor y = normalize_images(from_vector<uint8_t>({0, 255, 51}, {1, 1, 1, 3}),
                                    {{0.5, 0.5, 0.5}, {0.5, 0.5, 0.5}}, Dtype::f64);
  CHECK(test::relative_error(y, from_vector<double>({-1, 1, -0.6}, {1, 1, 1, 3})) < 1e-15);
}

TEST_CASE("mixup: the i-th from the end, in f32, rounded half to even, groups apart") {
  // Two groups of two: images 0 and 1, 2 and 3.
  const Tensor pixels =
      from_vector<uint8_t>({1, 2, 255, 2, 3, 0, 7, 7, 100, 9, 9, 201}, {4, 1, 1, 3});
  std::vector<MixErase> changes(4);
  mixup(std::span(changes).first(2), 0, 0.5, 1, 1);
  mixup(std::span(changes).last(2), 2, 0.3, 1, 1);
  const auto y =
      to_vector<double>(normalize_images(pixels, kPlain, Dtype::f64, pack(changes, 1, 1)));
  // 1.5 -> 2, 2.5 -> 2, 127.5 -> 128; .3 * 7 + .7 * 9 = 8.4, ...
  const std::vector<double> expected{2, 2, 128, 2, 2, 128, 8, 8, 171, 8, 8, 130};
  for (size_t i = 0; i < y.size(); ++i) CHECK(y[i] == doctest::Approx(expected[i]).epsilon(1e-12));
  for (const auto& c : changes) CHECK(c.label_lambda == c.pixel_lambda);
  CHECK(changes[1].label_lambda == 0.5f);
  CHECK(changes[3].label_lambda == 0.3f);
  std::vector<MixErase> eight(8);
  mixup(eight, 8, 0.5, 1, 1);
  for (int i = 0; i < 8; ++i) CHECK(eight[size_t(i)].partner == 8 + 7 - i);
}

TEST_CASE("cutmix: boxes of even sides, cut at the border; the share is that of the pixels") {
  std::vector<MixErase> c(2);
  cutmix(c, 0, cutmix_box(0.3, 112, 112, 224, 224), 224, 224);  // a side of 187.4, so 93 each way
  CHECK(c[0].mixed.area() == 186 * 186);
  CHECK(c[0].mixed.top == 19);
  CHECK(c[0].mixed.bottom() == 205);
  CHECK(c[0].label_lambda == doctest::Approx(0.31051).epsilon(1e-5));
  cutmix(c, 0, cutmix_box(0.3, 0, 223, 224, 224), 224, 224);
  CHECK(c[1].mixed.bottom() == 93);
  CHECK(c[1].mixed.left == 130);
  CHECK(c[1].mixed.area() == 93 * 94);
  CHECK(c[1].label_lambda == doctest::Approx(1 - 93 * 94 / (224.0 * 224)).epsilon(1e-7));
  cutmix(c, 0, cutmix_box(1, 5, 5, 224, 224), 224, 224);
  CHECK(c[0].mixed.empty());
  CHECK(c[0].label_lambda == 1);
  cutmix(c, 0, cutmix_box(0, 112, 112, 224, 224), 224, 224);
  CHECK(c[0].label_lambda == 0);

  // And in the pixels: the partner's inside, the own outside.
  const Tensor pixels = random_pixels({2, 12, 10, 3}, 1);
  cutmix(c, 0, cutmix_box(0.5, 2, 8, 12, 10), 12, 10);
  const auto v = to_vector<double>(pixels);
  const auto y = to_vector<double>(normalize_images(pixels, kPlain, Dtype::f64, pack(c, 12, 10)));
  int64_t other = 0;
  for (int b = 0; b < 2; ++b)
    for (int i = 0; i < 360; ++i) {
      const bool inside = c[0].mixed.has(i / 30, i / 3 % 10);
      other += inside;
      CHECK(y[size_t(360 * b + i)] ==
            doctest::Approx(v[size_t(360 * (inside ? 1 - b : b) + i)]).epsilon(1e-12));
    }
  CHECK(double(other) / 720 == doctest::Approx(1 - c[0].label_lambda).epsilon(1e-6));
}

TEST_CASE("erasing: N(0, 1) for each pixel and channel of the box, after mixing; the rest stays") {
  const int64_t size = 224;
  std::vector<MixErase> c(2);
  mixup(c, 0, 0.4, size, size);
  const Tensor pixels = random_pixels({2, size, size, 3}, 1);
  const auto before =
      to_vector<double>(normalize_images(pixels, {}, Dtype::f64, pack(c, size, size)));
  const Box box{10, 20, 150, 200};
  c[0].erased[0] = c[1].erased[0] = box;
  c[0].noise = Random(1, Purpose::erasing, 3, 10).stream();
  c[1].noise = Random(1, Purpose::erasing, 3, 11).stream();
  const auto after =
      to_vector<double>(normalize_images(pixels, {}, Dtype::f64, pack(c, size, size)));
  const auto n = double(box.area());
  for (int b = 0; b < 2; ++b) {
    double sum[3] = {}, squares[3] = {}, near[3] = {}, products[3] = {}, neighbours = 0, last = 0;
    for (int i = 0; i < size * size; ++i) {
      const double* v = &after[size_t((b * size * size + i) * 3)];
      if (!box.has(i / size, i % size)) {
        CHECK(std::memcmp(v, &before[size_t((b * size * size + i) * 3)], 3 * sizeof *v) == 0);
        continue;
      }
      for (int k = 0; k < 3; ++k) {
        sum[k] += v[k], squares[k] += v[k] * v[k], near[k] += std::abs(v[k]) < 1;
        products[k] += v[k] * v[(k + 1) % 3];
      }
      neighbours += v[0] * last, last = v[2];
    }
    // Five standard deviations of each estimate: those of v, v^2 and products are 1, 2^.5 and 1.
    const double bound = 5 / std::sqrt(n);
    for (int k = 0; k < 3; ++k) {
      CHECK(std::abs(sum[k] / n) < bound);
      CHECK(std::abs(squares[k] / n - 1) < std::sqrt(2.0) * bound);
      CHECK(std::abs(near[k] / n - 0.682689) < 0.466 * bound);
      CHECK(std::abs(products[k] / n) < bound);
    }
    CHECK(std::abs(neighbours / n) < bound);
  }
  // Another sample, epoch or seed is another noise; a pixel's is the same wherever the box lies.
  const size_t at = size_t((100 * size + 100) * 3);
  CHECK(after[at] != after[size_t(size * size * 3) + at]);
  const auto value = [&](const Random& random) {
    c[0].erased[0] = {100, 100, 1, 1}, c[0].noise = random.stream();
    return to_vector<double>(normalize_images(pixels, {}, Dtype::f64, pack(c, size, size)))[at];
  };
  CHECK(value({1, Purpose::erasing, 3, 10}) == after[at]);
  CHECK(value({1, Purpose::erasing, 4, 10}) != after[at]);
  CHECK(value({2, Purpose::erasing, 3, 10}) != after[at]);
}

TEST_CASE("erasing: zeros, or a colour of its own for each box, of which the last covers others") {
  const int64_t size = 32;
  const Tensor pixels = random_pixels({2, size, size, 3}, 1);
  std::vector<MixErase> c(2);
  const Box boxes[] = {{2, 3, 12, 10}, {8, 8, 20, 5}, {20, 1, 1, 31}};
  for (MixErase& change : c) std::ranges::copy(boxes, change.erased.begin());
  c[1].noise = Random(1, Purpose::erasing, 3, 11).stream();
  const auto plain = to_vector<double>(normalize_images(pixels, {}, Dtype::f64));
  for (const EraseMode mode : {EraseMode::constant, EraseMode::colour}) {
    c[0].erase_mode = c[1].erase_mode = mode;
    const auto y = to_vector<double>(normalize_images(pixels, {}, Dtype::f64, pack(c, size, size)));
    std::set<double> colours;
    for (size_t i = 0; i < y.size(); ++i) {
      const int row = int(i / 3) / size % size, column = int(i / 3) % size;
      int box = -1;
      for (int k = 0; k < 3; ++k)
        if (boxes[k].has(row, column)) box = k;
      const size_t b = i / (3 * size * size);
      if (box < 0) {
        CHECK(y[i] == plain[i]);
      } else if (mode == EraseMode::constant) {
        CHECK(y[i] == 0);
      } else {  // that of the box's first pixel which no other covers
        const int at = boxes[box].top * size + boxes[box].left;
        CHECK(y[i] == y[(b * size * size + size_t(at)) * 3 + i % 3]);
        colours.insert(y[i]);
      }
    }
    // 2 images, 3 boxes, 3 channels
    CHECK(colours.size() == (mode == EraseMode::colour ? 18 : 0));
  }
}

TEST_CASE("normalize_images: changed images on cuda are those of the CPU, in a captured step too") {
  if (!have_cuda()) return;
  for (const auto& [h, w] : {std::pair{9, 11}, {8, 16}, {10, 11}}) {
    CAPTURE(w);
    const Tensor pixels = random_pixels({4, h, w, 3}, 1), device_pixels = pixels.to(kCuda);
    auto changes = some_changes();
    if (h != 9) {
      mixup(changes, 0, 0.7, h, w);
      changes[0].erase_mode = EraseMode::constant, changes[0].erased[0] = {1, 1, 4, 3};
      changes[3].erase_mode = EraseMode::colour;
      changes[3].erased[1] = {2, 1, 6, 7}, changes[3].erased[2] = {0, 6, w, 2};
      changes[1].erased[0] = {5, 2, w - 5, h - 2};
    }
    const auto compare = [&](const Tensor& y, Dtype dtype) {
      const auto found = to_vector<double>(y);
      const auto right =
          to_vector<double>(normalize_images(pixels, {}, dtype, pack(changes, h, w)));
      REQUIRE(found.size() == right.size());
      for (int i = 0; i < int(found.size()); ++i) {
        const bool noise =
            std::ranges::any_of(changes[size_t(i / 3 / w / h)].erased,
                                [&](const Box& box) { return box.has(i / 3 / w % h, i / 3 % w); });
        // log, root, sine and product err by 2^-23 at most each, of at most 5.8; one bf16 apart.
        const double bound =
            dtype == Dtype::f32 ? 5.8 * 4 * 0x1p-23 : 0x1p-7 * std::abs(right[size_t(i)]);
        CHECK(std::abs(found[size_t(i)] - right[size_t(i)]) <= (noise ? bound : 0));
      }
    };
    Tensor on_device = pack(changes, h, w).to(kCuda);
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
      const Tensor y = normalize_images(device_pixels, {}, dtype, on_device);
      compare(y, dtype);
      const test::OtherThreadOrder other;
      CHECK(same_bits(y, normalize_images(device_pixels, {}, dtype, on_device)));
    }
    Graph step(kCuda);
    Tensor y = empty({4, h, w, 3}, Dtype::f32, kCuda);
    for (int run = 0; run < 4; ++run) {
      changes[3].pixel_lambda = 0.2f * float(run);
      changes[1].erased[0].width += changes[1].erased[0].left - run;
      changes[1].erased[0].left = run;
      on_device.copy_(pack(changes, h, w));
      step.run({1}, [&] { y.copy_(normalize_images(device_pixels, {}, Dtype::f32, on_device)); });
      compare(y, Dtype::f32);
    }
  }
}

TEST_CASE(
    "normalize_images: wrong changes are named; on cuda a partner outside the batch gives NaN") {
  std::vector<MixErase> c(3);
  CHECK_THROWS_WITH_AS(mixup(c, 0, 0.5, 4, 4),
                       "mixup: 3 images, expected an even number, so that each has a partner",
                       Error);
  c.resize(2);
  CHECK_THROWS_WITH_AS(mixup(c, 0, 1.5, 4, 4), "mixup: lambda: expected 0 to 1, found 1.5", Error);
  CHECK_THROWS_WITH_AS(cutmix(c, 0, cutmix_box(0.5, 4, 0, 4, 4), 4, 4),
                       "cutmix: centre (4, 0) outside 4 x 4", Error);
  const auto message = [&](auto change) {
    std::vector<MixErase> bad(2);
    change(bad[1]);
    try {
      pack(bad, 4, 6);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("accepted");
  };
  CHECK(message([](auto& p) { p.partner = 2; }) ==
        "image change 1: partner: expected 0 to 1, found 2");
  CHECK(message([](auto& p) { p.pixel_lambda = -1; }) ==
        "image change 1: label_lambda, pixel_lambda: expected 0 to 1, found -1");
  CHECK(message([](auto& p) { p.label_lambda = std::nanf(""); }) ==
        "image change 1: label_lambda, pixel_lambda: expected 0 to 1, found nan");
  CHECK(message([](auto& p) {
          p.erased[kMaxErased - 1] = {2, 0, 5, 4};
        }) == "image change 1: rows 0 to 4, columns 2 to 7 leave an image of 4 x 6");
  CHECK(message([](auto& p) {
          p.mixed = {0, 3, 1, -1};
        }) == "image change 1: rows 3 to 2, columns 0 to 1 leave an image of 4 x 6");

  Tensor pixels = zeros({2, 4, 4, 3}, Dtype::u8), packed = pack(c, 4, 4);
  CHECK_THROWS_WITH_AS(normalize_images(pixels, {}, Dtype::f32, zeros({2, kMixEraseWords})),
                       "normalize_images: changes: expected i32 on cpu, found f32 on cpu", Error);
  CHECK_THROWS_WITH_AS(normalize_images(pixels, {}, Dtype::f32, packed.slice(0, 1)),
                       "normalize_images: changes: expected shape (2, 45), found (1, 45)", Error);
  packed.data<int32_t>()[kMixEraseWords] = -1;  // the second partner, after it was checked
  CHECK_THROWS_WITH_AS(normalize_images(pixels, {}, Dtype::f32, packed),
                       "normalize_images: partner -1 of image 1 is outside the batch of 2", Error);
  if (!have_cuda()) return;
  const auto y =
      to_vector<double>(normalize_images(pixels.to(kCuda), {}, Dtype::f32, packed.to(kCuda)));
  for (size_t i = 0; i < 96; ++i) CHECK(std::isnan(y[i]) == (i >= 48));
}

TEST_CASE("normalize_images: padding becomes 0, of changed images too; the rest stays") {
  for (const auto& [h, w] : {std::pair{9, 11}, {8, 16}}) {
    const Tensor pixels = random_pixels({4, h, w, 3}, 1);
    // A part, all, more than there is, and nothing.
    const Tensor valid = from_vector<int32_t>({5, 7, h, w, h + 3, 2, 0, 4}, {4, 2});
    auto changes = some_changes();
    changes[2].erased[0] = {1, 1, 4, 3}, changes[2].erase_mode = EraseMode::colour;
    for (const Tensor& packed : {Tensor(), pack(changes, 9, 11)}) {
      for (const Device device : test::devices())
        for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
          const Tensor own = packed ? packed.to(device) : packed;
          const auto plain = to_vector<float>(normalize_images(pixels.to(device), {}, dtype, own));
          auto expected = plain;
          for (int i = 0; i < int(plain.size()); ++i) {
            const int32_t* const part = valid.data<int32_t>() + i / (3 * w * h) * 2;
            if (i / 3 / w % h >= part[0] || i / 3 % w >= part[1]) expected[size_t(i)] = 0;
          }
          CHECK(expected != plain);
          CHECK(to_vector<float>(normalize_images(pixels.to(device), {}, dtype, own,
                                                  valid.to(device))) == expected);
        }
      if (h != 9) break;  // the changes are those of 9 x 11
    }
  }
}

TEST_CASE("normalize_images: wrong arguments are named") {
  CHECK_THROWS_WITH_AS(
      normalize_images(zeros({1, 2, 2, 3}, Dtype::u8), {}, Dtype::f32, {}, zeros({1, 2})),
      "normalize_images: valid: expected i32 on cpu, found f32 on cpu", Error);
  CHECK_THROWS_WITH_AS(
      normalize_images(zeros({1, 2, 2, 3}, Dtype::u8), {}, Dtype::f32, {}, zeros({2}, Dtype::i32)),
      "normalize_images: valid: expected shape (1, 2), found (2)", Error);
  CHECK_THROWS_WITH_AS(normalize_images(zeros({1, 2, 2, 3}), {}),
                       "normalize_images: pixels: expected (B, H, W, 3) u8, found (1, 2, 2, 3) f32",
                       Error);
  CHECK_THROWS_WITH_AS(normalize_images(zeros({1, 3, 2, 2}, Dtype::u8), {}),
                       "normalize_images: pixels: expected (B, H, W, 3) u8, found (1, 3, 2, 2) u8",
                       Error);
  CHECK_THROWS_WITH_AS(normalize_images(zeros({1, 2, 2, 3}, Dtype::u8), {{0, 0, 0}, {1, 0, 1}}),
                       "normalize_images: std: expected above 0, found 0", Error);
  CHECK_THROWS_WITH_AS(normalize_images(zeros({1, 2, 2, 3}, Dtype::u8), {}, Dtype::i32),
                       "normalize_images: dtype i32 is not supported here", Error);
}
