#include "ops/normalize_images/draw_mix_erase.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "core/error.h"

namespace sg {
namespace {

// log of a Gamma(shape, 1) number, by Marsaglia and Tsang; the logarithm, because small shapes give
// numbers below the least double.
double draw_log_gamma(double shape, Random& random) {
  if (shape < 1) {
    const double u = 1 - random.uniform();  // (0, 1]
    return draw_log_gamma(shape + 1, random) + std::log(u) / shape;
  }
  const double d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  for (;;) {
    const double x = random.normal(), v = std::pow(1 + c * x, 3), u = 1 - random.uniform();
    if (v > 0 && std::log(u) < x * x / 2 + d - d * v + d * std::log(v)) return std::log(d * v);
  }
}

// One draw: the lambda of mixup, or the box of CutMix.
struct Mixing {
  bool applied = false, cutmix = false;
  double lambda = 1;
  Box box;
};

// A side between two shares of `size`, the upper end left out, and where it begins.
std::pair<int32_t, int32_t> draw_side(const std::array<double, 2>& shares, int64_t size,
                                      Random& random) {
  const auto low = int64_t(double(size) * shares[0]), high = int64_t(double(size) * shares[1]);
  const int64_t side = random.integer(low, std::max(low, high - 1));
  return {int32_t(random.integer(0, size - side)), int32_t(side)};
}

Box draw_cutmix_box(const MixEraseConfig& config, int64_t height, int64_t width, Random& random) {
  if (!config.cutmix_minmax) {
    const double lambda = draw_beta(config.cutmix, random);
    const int64_t y = random.integer(0, height - 1), x = random.integer(0, width - 1);
    return cutmix_box(lambda, y, x, height, width);
  }
  Box box;
  std::tie(box.top, box.height) = draw_side(*config.cutmix_minmax, height, random);
  std::tie(box.left, box.width) = draw_side(*config.cutmix_minmax, width, random);
  return box;
}

Mixing draw(const MixEraseConfig& config, int64_t height, int64_t width, Random& random) {
  Mixing m;
  m.applied = (config.mixup > 0 || config.cutmix > 0) && random.bernoulli(config.mix_probability);
  if (!m.applied) return m;
  m.cutmix =
      config.cutmix > 0 && (config.mixup == 0 || random.bernoulli(config.switch_probability));
  if (m.cutmix)
    m.box = draw_cutmix_box(config, height, width, random);
  else
    m.lambda = draw_beta(config.mixup, random);
  return m;
}

void apply(const Mixing& m, std::span<MixErase> group, int64_t first, int64_t height,
           int64_t width) {
  if (!m.applied) return;
  if (m.cutmix)
    cutmix(group, first, m.box, height, width);
  else
    mixup(group, first, m.lambda, height, width);
}

// One of `count` boxes; empty where ten attempts do not fit.
Box draw_erased_box(const MixEraseConfig& config, int64_t count, int64_t height, int64_t width,
                    Random& random) {
  const auto [low, high] = config.erased_ratio;
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double area = random.uniform(config.erased_area[0], config.erased_area[1]) *
                        double(height) * double(width) / double(count);
    const double ratio = std::exp(random.uniform(std::log(low), std::log(high)));
    const auto h = int64_t(std::nearbyint(std::sqrt(area * ratio)));  // half to even
    const auto w = int64_t(std::nearbyint(std::sqrt(area / ratio)));
    if (h >= height || w >= width) continue;
    const int64_t top = random.integer(0, height - h), left = random.integer(0, width - w);
    return {int32_t(left), int32_t(top), int32_t(w), int32_t(h)};
  }
  return {};
}

}  // namespace

MixMode parse_mix_mode(std::string_view name) {
  if (name == "batch") return MixMode::batch;
  if (name == "pair") return MixMode::pair;
  if (name == "elem") return MixMode::elem;
  fail(ExitCode::usage, "--mixup-mode: expected batch, pair or elem, found '{}'", name);
}

EraseMode parse_erase_mode(std::string_view name) {
  if (name == "const") return EraseMode::constant;
  if (name == "rand") return EraseMode::colour;
  if (name == "pixel") return EraseMode::pixel;
  fail(ExitCode::usage, "--remode: expected const, rand or pixel, found '{}'", name);
}

void MixEraseConfig::check() const {
  const auto require = [](bool ok, std::string_view name, std::string_view expected, auto found) {
    if (!ok) fail(ExitCode::usage, "{}: expected {}, found {}", name, expected, found);
  };
  const auto probability = [&](std::string_view name, double p) {
    require(p >= 0 && p <= 1, name, "a probability", p);
  };
  require(mixup >= 0 && std::isfinite(mixup), "--mixup", "at least 0", mixup);
  require(cutmix >= 0 && std::isfinite(cutmix), "--cutmix", "at least 0", cutmix);
  if (cutmix_minmax) {
    const auto [low, high] = *cutmix_minmax;
    require(low >= 0 && low <= high && high <= 1, "--cutmix-minmax", "0 <= low <= high <= 1",
            fmt::format("{} {}", low, high));
  }
  require(erased_count >= 1 && erased_count <= kMaxErased, "--recount",
          fmt::format("1 to {}", kMaxErased), erased_count);
  probability("--mixup-prob", mix_probability);
  probability("--mixup-switch-prob", switch_probability);
  probability("--reprob", erase_probability);
  require(!mixes() || (group >= 2 && group % 2 == 0), "mixup group",
          "an even number of images, so that each has a partner", group);
  require(erased_area[0] > 0 && erased_area[0] <= erased_area[1] && erased_area[1] <= 1,
          "erased area", "0 < low <= high <= 1", erased_area[0]);
  require(
      erased_ratio[0] > 0 && erased_ratio[0] <= erased_ratio[1] && std::isfinite(erased_ratio[1]),
      "erased ratio", "0 < low <= high", erased_ratio[0]);
}

double draw_beta(double alpha, Random& random) {
  const double a = draw_log_gamma(alpha, random), b = draw_log_gamma(alpha, random);
  return 1 / (1 + std::exp(b - a));
}

void draw_mixing(const MixEraseConfig& config, std::span<MixErase> group, int64_t first,
                 int64_t height, int64_t width, Random& random) {
  const size_t n = group.size();
  check(n % 2 == 0, "mixing: {} images, expected an even number, so that each has a partner", n);
  if (config.mode == MixMode::batch)
    return apply(draw(config, height, width, random), group, first, height, width);
  const bool pairs = config.mode == MixMode::pair;
  for (size_t i = 0; i < (pairs ? n / 2 : n); ++i) {
    const size_t j = n - 1 - i;
    std::array two{group[i], group[j]};
    const Mixing m = draw(config, height, width, random);
    if (!m.applied) continue;
    apply(m, two, 0, height, width);
    group[i] = two[0], group[i].partner = int32_t(first + int64_t(j));
    if (pairs) group[j] = two[1], group[j].partner = int32_t(first + int64_t(i));
  }
}

std::array<Box, kMaxErased> draw_erased_boxes(const MixEraseConfig& config, int64_t height,
                                              int64_t width, Random& random) {
  std::array<Box, kMaxErased> boxes{};
  if (!random.bernoulli(config.erase_probability)) return boxes;
  const int64_t count = config.erased_count > 1 ? random.integer(1, config.erased_count) : 1;
  for (size_t i = 0, n = size_t(count), fit = 0; i < n; ++i)
    if (const Box b = draw_erased_box(config, count, height, width, random); !b.empty())
      boxes[fit++] = b;
  return boxes;
}

std::vector<MixErase> draw_mix_erase(const MixEraseConfig& config, uint64_t seed, int64_t step,
                                     int64_t position, int64_t batch, int64_t height,
                                     int64_t width) {
  config.check();
  std::vector<MixErase> changes(static_cast<size_t>(batch));
  if (config.mixes()) {
    const int64_t group = config.group;
    check(position % group == 0 && batch % group == 0,
          "mixing: {} images from position {} are not whole groups of {}", batch, position, group);
    for (int64_t first = 0; first < batch; first += group) {
      Random mix(seed, Purpose::mix, uint64_t(step), uint64_t((position + first) / group));
      draw_mixing(config, std::span(changes).subspan(size_t(first), size_t(group)), first, height,
                  width, mix);
    }
  }
  for (int64_t i = 0; i < batch; ++i) {
    MixErase& c = changes[size_t(i)];
    const auto s = uint64_t(step), p = uint64_t(position + i);
    Random box(seed, Purpose::erased_box, s, p);
    c.erased = draw_erased_boxes(config, height, width, box);
    c.erase_mode = config.erase_mode;
    c.noise = Random(seed, Purpose::erasing, s, p).stream();
  }
  return changes;
}

}  // namespace sg
