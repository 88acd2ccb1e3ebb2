#include "ops/normalize_images/draw_mix_erase.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "tests/support/files.h"

using namespace sg;

namespace {

constexpr int64_t kSide = 224;

std::vector<MixErase> drawn(const MixEraseConfig& config, int64_t batch, int64_t position = 0,
                            uint64_t seed = 1, int64_t epoch = 2) {
  return draw_mix_erase(config, seed, epoch, position, batch, kSide, kSide);
}

bool same(std::span<const MixErase> a, std::span<const MixErase> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

void check_share(double count, double n, double probability) {
  CHECK(std::abs(count / n - probability) < 5 * std::sqrt(probability * (1 - probability) / n));
}

}  // namespace

TEST_CASE("mixing: 8 groups of 128 have a lambda each, and partners are of the own group") {
  const auto changes = drawn({}, 1024);
  std::set<float> shares;
  for (int64_t i = 0; i < 1024; ++i) {
    const int64_t g = i / 128;
    CHECK(changes[size_t(i)].partner == g * 128 + 127 - i % 128);
    CHECK(changes[size_t(i)].label_lambda == changes[size_t(g * 128)].label_lambda);
    shares.insert(changes[size_t(i)].label_lambda);
  }
  CHECK(shares.size() == 8);
}

TEST_CASE("mixing: lambda of CutMix is the share of the pixels that stay, border or not") {
  MixEraseConfig config;
  config.group = 2;
  int cut = 0, clipped = 0;
  double mixup_sum = 0, mixup_square = 0, mixups = 0;
  const int n = 20000;
  const auto changes = drawn(config, 2 * n);
  for (int g = 0; g < n; ++g) {
    const MixErase& c = changes[size_t(2 * g)];
    if (c.pixel_lambda > 0 || c.mixed.area() < kSide * kSide) {
      CHECK((c.mixed.left >= 0 && c.mixed.top >= 0 && c.mixed.right() <= kSide));
      CHECK(c.mixed.bottom() <= kSide);
    }
    if (c.pixel_lambda == 0) {
      ++cut;
      CHECK(c.label_lambda == float(1 - double(c.mixed.area()) / (kSide * kSide)));
      clipped += c.mixed.width != c.mixed.height;
    } else {
      CHECK(c.label_lambda == c.pixel_lambda);
      mixup_sum += c.label_lambda, mixup_square += (c.label_lambda - 0.5) * (c.label_lambda - 0.5),
          ++mixups;
    }
  }
  check_share(cut, n, 0.5);
  CHECK(clipped > n / 20);
  // Beta(0.8, 0.8): mean 0.5, variance 1 / (4 (2 0.8 + 1)) = 0.0962; a square is at most 0.25.
  CHECK(std::abs(mixup_sum / mixups - 0.5) < 5 * std::sqrt(0.0962 / mixups));
  CHECK(std::abs(mixup_square / mixups - 0.0962) < 5 * 0.125 / std::sqrt(mixups));
}

TEST_CASE("Beta(a, a): mean and variance, for small and large a; never anything but [0, 1]") {
  for (const double a : {1e-3, 0.2, 0.8, 1.0, 3.0, 50.0}) {
    Random random(3, Purpose::test, uint64_t(a * 1000));
    const int n = 20000;
    double sum = 0, square = 0;
    for (int i = 0; i < n; ++i) {
      const double v = draw_beta(a, random);
      REQUIRE((v >= 0 && v <= 1));
      sum += v, square += (v - 0.5) * (v - 0.5);
    }
    const double variance = 1 / (4 * (2 * a + 1));
    // Squares are at most 0.25: their deviation is at most sqrt(0.25 variance).
    CHECK(std::abs(sum / n - 0.5) < 5 * std::sqrt(variance / n));
    CHECK(std::abs(square / n - variance) < 5 * std::sqrt(0.25 * variance / n));
  }
}

TEST_CASE("mixing by pair and by image") {
  MixEraseConfig config;
  config.group = 64;
  config.mode = MixMode::pair;
  const auto pairs = drawn(config, 128);
  std::set<float> shares;
  for (size_t i = 0; i < 64; ++i) {
    const MixErase &a = pairs[i], &b = pairs[63 - i];
    CHECK(a.partner == int(63 - i));
    CHECK(a.label_lambda == b.label_lambda);
    CHECK(a.mixed == b.mixed);
    shares.insert(a.label_lambda);
  }
  CHECK(shares.size() > 28);  // 32 lambdas
  CHECK(pairs[64].partner == 127);

  config.mode = MixMode::elem;
  const auto elements = drawn(config, 64);
  shares.clear();
  for (size_t i = 0; i < 64; ++i) {
    CHECK(elements[i].partner == int(63 - i));
    shares.insert(elements[i].label_lambda);
  }
  CHECK(shares.size() > 56);
}

TEST_CASE("mixing: mixup alone, CutMix alone, none, and with a probability") {
  const auto count = [](MixEraseConfig config, auto&& f) {
    config.group = 2;
    int n = 0;
    for (const MixErase& c : drawn(config, 4000)) n += f(c);
    return n;
  };
  const auto mixed_up = [](const MixErase& c) { return c.pixel_lambda > 0 && c.mixed.area() > 0; };
  const auto cut = [](const MixErase& c) { return c.pixel_lambda == 0; };
  CHECK(count({.mixup = 0.8, .cutmix = 0}, mixed_up) == 4000);
  CHECK(count({.mixup = 0, .cutmix = 1}, cut) == 4000);
  const auto changed = [](const MixErase& c) { return c.pixel_lambda < 1 || c.label_lambda < 1; };
  CHECK(count({.mixup = 0, .cutmix = 0}, changed) == 0);
  CHECK(count({.mix_probability = 0}, changed) == 0);
  check_share(count({.mix_probability = 0.3}, changed) / 2, 2000, 0.3);
  check_share(count({.switch_probability = 0.9}, cut) / 2, 2000, 0.9);
}

TEST_CASE("mixing and erasing: alike however an epoch is cut into batches") {
  MixEraseConfig config;
  config.group = 16;
  const auto all = drawn(config, 64), part = drawn(config, 16, 32);
  for (size_t i = 0; i < 16; ++i) {
    MixErase moved = part[i];
    moved.partner += 32;
    CHECK(same({&moved, 1}, {&all[32 + i], 1}));
  }
  CHECK(!same(all, drawn(config, 64, 0, 2)));
  CHECK(!same(all, drawn(config, 64, 0, 1, 3)));
  CHECK(same(all, drawn(config, 64)));
}

TEST_CASE("erasing: a quarter of the images, areas even, strictly inside; noise of its own") {
  const int n = 20000;
  const auto changes = drawn({.mixup = 0, .cutmix = 0, .group = 2}, n);
  double erased = 0, area = 0, tall = 0;
  bool first_row = false, last_row = false;
  for (const MixErase& c : changes) {
    if (c.erased[0].area() == 0) continue;
    const double share = double(c.erased[0].area()) / (kSide * kSide);
    CHECK((c.erased[0].width < kSide && c.erased[0].height < kSide));
    CHECK((c.erased[0].bottom() <= kSide && c.erased[0].right() <= kSide));
    // A side of 12 or more is rounded by half a pixel at most.
    CHECK((share > 0.02 * 0.94 && share < 1.03 / 3));
    ++erased, area += share, tall += c.erased[0].height > c.erased[0].width;
    first_row |= c.erased[0].top == 0, last_row |= c.erased[0].bottom() == kSide;
  }
  check_share(erased, n, 0.25);
  CHECK((first_row && last_row));
  check_share(tall, erased, 0.5);
  // Even, but for areas above 0.3 with ratios near 0.3 or 1 / 0.3: 0.5 % do not fit and are drawn
  // again, which takes 0.0007 off the mean.
  const double low = 0.02, high = 1.0 / 3;
  CHECK(std::abs(area / erased - (low + high) / 2) <
        5 * (high - low) / std::sqrt(12 * erased) + 1e-3);
  CHECK(std::memcmp(&changes[0].noise, &changes[1].noise, sizeof(RandomStream)) != 0);
}

TEST_CASE("mixing: --cutmix-minmax draws each side evenly between two shares, anywhere inside") {
  const int n = 20000;
  const MixEraseConfig config{.mixup = 0, .cutmix_minmax = {{0.25, 0.75}}, .group = 2};
  double sum = 0, tops = 0;
  std::set<int> heights, widths;
  for (const MixErase& c : drawn(config, 2 * n)) {
    const Box& b = c.mixed;
    CHECK(c.pixel_lambda == 0);
    CHECK(c.label_lambda == float(1 - double(b.area()) / (kSide * kSide)));
    CHECK((b.left >= 0 && b.top >= 0 && b.right() <= kSide && b.bottom() <= kSide));
    heights.insert(b.height), widths.insert(b.width);
    sum += b.height, tops += b.top / double(kSide - b.height);
  }
  // numpy.random.randint(56, 168): 56 to 167. Both images of a group have the box.
  for (const auto& sides : {heights, widths}) {
    CHECK(sides.size() == 112);
    CHECK(*sides.begin() == 56);
    CHECK(*sides.rbegin() == 167);
  }
  CHECK(std::abs(sum / (2 * n) - 111.5) < 5 * 112 / std::sqrt(12.0 * n));
  CHECK(std::abs(tops / (2 * n) - 0.5) < 5 / std::sqrt(12.0 * n));
  // Shares that leave no choice.
  for (const MixErase& c : drawn({.mixup = 0, .cutmix_minmax = {{0.5, 0.5}}, .group = 2}, 100))
    CHECK(c.mixed.area() == kSide * kSide / 4);
}

TEST_CASE("erasing: --recount draws one to so many boxes, which share the area") {
  const int n = 20000, most = 3;
  MixEraseConfig config{.mixup = 0, .cutmix = 0, .group = 2, .erased_count = most};
  config.erase_mode = EraseMode::colour;
  double erased = 0, with[most + 1] = {}, area[most + 1] = {};
  for (const MixErase& c : drawn(config, n)) {
    CHECK(c.erase_mode == EraseMode::colour);
    const auto boxes = std::ranges::count_if(c.erased, [](const Box& b) { return !b.empty(); });
    if (boxes == 0) continue;
    REQUIRE(boxes <= most);
    ++erased, ++with[boxes];
    for (int i = 0; i < boxes; ++i) {
      CHECK_FALSE(c.erased[size_t(i)].empty());  // without gaps
      area[boxes] += double(c.erased[size_t(i)].area()) / (kSide * kSide);
    }
  }
  check_share(erased, n, config.erase_probability);
  const double low = 0.02, high = 1.0 / 3;
  for (int k = 1; k <= most; ++k) {
    CAPTURE(k);
    check_share(with[k], erased, 1.0 / most);
    // As of one box: the areas of k boxes vary by 1 / k of its. Sides of 7 and more that are
    // rounded change the mean area by less than 1 %, boxes that do not fit by less than 0.001.
    CHECK(std::abs(area[k] / with[k] - (low + high) / 2) <
          5 * (high - low) / std::sqrt(12 * with[k] * k) + 1e-3);
  }
}

TEST_CASE("mixing: what makes no sense is refused by name") {
  const auto refused = [](MixEraseConfig config) {
    return test::error_of(ExitCode::usage, [&] { config.check(); });
  };
  CHECK(test::contains(refused({.group = 3}), "an even number of images"));
  CHECK(test::contains(refused({.mixup = -1}), "mixup: expected at least 0, found -1"));
  CHECK(test::contains(refused({.mix_probability = 2}), "mixup-prob: expected a probability"));
  CHECK(test::contains(refused({.erase_probability = NAN}), "reprob"));
  CHECK(test::contains(refused({.erased_area = {0.5, 0.1}}), "erased area"));
  CHECK(test::contains(test::error_of(ExitCode::usage, [] { parse_mix_mode("half"); }),
                       "expected batch, pair or elem, found 'half'"));
  CHECK(parse_mix_mode("elem") == MixMode::elem);
  CHECK(test::contains(refused({.cutmix_minmax = {{0.5, 0.2}}}),
                       "cutmix-minmax: expected 0 <= low <= high <= 1, found 0.5 0.2"));
  CHECK(test::contains(refused({.erased_count = 9}), "recount: expected 1 to 8, found 9"));
  CHECK(test::contains(test::error_of(ExitCode::usage, [] { parse_erase_mode("noise"); }),
                       "--remode: expected const, rand or pixel, found 'noise'"));
  CHECK_THROWS_WITH_AS(draw_mix_erase({}, 1, 0, 64, 128, 8, 8),
                       "mixing: 128 images from position 64 are not whole groups of 128", Error);
}
