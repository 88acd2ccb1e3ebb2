#include "data/transforms/rand_augment.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "core/error.h"
#include "data/transforms/enhance.h"
#include "data/transforms/image_ops.h"

namespace sg::data {
namespace {

constexpr double kLevels = 10;  // at which an operation is as strong as timm's set has it

// timm's set w0, in the order of AugmentOp.
constexpr std::array<double, kAugmentOps> kWeights{.025, .005, 0,    .3, 0,  .005, .005, .025,
                                                   .005, .005, .025, .2, .2, .1,   .1};

// The argument of an operation at a level; timm's level_to_arg, in its order of operations.
double argument(AugmentOp op, double level, bool increasing, Random& random) {
  using enum AugmentOp;
  const auto either_sign = [&](double v) { return random.bernoulli(0.5) ? -v : v; };
  const double share = level / kLevels;
  switch (op) {
    case autocontrast:
    case equalize:
    case invert:
      return 0;
    case rotate:
      return either_sign(share * 30);
    case posterize: {
      const int bits = int(share * 4);
      return increasing ? std::max(4 - bits, 0) : bits;
    }
    case solarize: {
      const int threshold = int(share * 256);
      return increasing ? 256 - threshold : threshold;
    }
    case solarize_add:
      return int(share * 110);
    case color:
    case contrast:
    case brightness:
    case sharpness:
      return increasing ? std::max(1 + either_sign(share * 0.9), 0.0) : share * 1.8 + 0.1;
    case shear_x:
    case shear_y:
      return either_sign(share * 0.3);
    case translate_x:
    case translate_y:
      return either_sign(share * 0.45);
  }
  fail(ExitCode::failure, "RandAugment: operation {} is none", int(op));
}

bool geometric(AugmentOp op) { return op == AugmentOp::rotate || op >= AugmentOp::shear_x; }

[[noreturn]] void refuse(std::string_view policy, const std::string& why) {
  fail(ExitCode::usage,
       "aa: {}, found '{}'; a policy is 'rand' and sections of m (level), n (operations), mstd, "
       "mmax, p, inc1, w0, as in rand-m9-mstd0.5-inc1",
       why, policy);
}

}  // namespace

void RandAugmentConfig::check() const {
  const auto require = [](bool ok, std::string_view name, std::string_view expected, auto found) {
    if (!ok) fail(ExitCode::usage, "aa: {}: expected {}, found {}", name, expected, found);
  };
  // Two of the 15 operations have weight 0, so at most 13 can be drawn.
  require(ops >= 1 && ops <= (weighted ? 13 : 100), "n", weighted ? "1 to 13" : "1 to 100", ops);
  require(magnitude >= 0 && magnitude <= 100, "m", "0 to 100", magnitude);
  require(magnitude_std >= 0, "mstd", "at least 0", magnitude_std);
  require(magnitude_max >= 0 && magnitude_max <= 100, "mmax", "0 to 100", magnitude_max);
  require(probability >= 0 && probability <= 1, "p", "a probability", probability);
}

RandAugmentConfig parse_rand_augment(std::string_view policy) {
  RandAugmentConfig config;
  const auto section_end = [&](size_t from) {
    return std::min(policy.find('-', from), policy.size());
  };
  size_t end = section_end(0);
  if (policy.substr(0, end) != "rand")
    refuse(policy, "only RandAugment is built in, no AutoAugment, AugMix or 3a");
  while (end < policy.size()) {
    const size_t begin = end + 1;
    end = section_end(begin);
    const std::string_view section = policy.substr(begin, end - begin);
    const size_t digits = std::min(section.find_first_of("0123456789"), section.size());
    const std::string_view key = section.substr(0, digits), text = section.substr(digits);
    double value = 0;
    const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.empty() || error != std::errc() || stop != text.data() + text.size())
      refuse(policy, fmt::format("section '{}': expected letters and a number", section));
    const bool whole = value == std::floor(value) && value < 1e6;
    if ((key == "n" || key == "inc" || key == "w") && !whole)
      refuse(policy, fmt::format("section '{}': expected a whole number", section));
    if (key == "n")
      config.ops = int(value);
    else if (key == "m")
      config.magnitude = value;
    else if (key == "mstd")
      config.magnitude_std = value > 100 ? INFINITY : value;
    else if (key == "mmax")
      config.magnitude_max = value;
    else if (key == "p")
      config.probability = value;
    else if (key == "inc")
      config.increasing = true;
    else if (key == "w" && value == 0)
      config.weighted = true;
    else
      refuse(policy, fmt::format("section '{}' is unknown", section));
  }
  config.check();
  return config;
}

RandAugment::RandAugment(const RandAugmentConfig& config) : config_(config) { config_.check(); }

AugmentOp RandAugment::draw_op(Random& random) const {
  if (!config_.weighted) return AugmentOp(random.integer(0, kAugmentOps - 1));
  const auto weight = [&](int op) {
    const bool drawn = std::ranges::any_of(
        steps_, [op](const AugmentStep& step) { return step.op == AugmentOp(op); });
    return drawn ? 0 : kWeights[size_t(op)];
  };
  double sum = 0;
  int last = 0;
  for (int op = 0; op < kAugmentOps; ++op) sum += weight(op);
  double left = random.uniform(0, sum);
  for (int op = 0; op < kAugmentOps; ++op) {
    if (weight(op) == 0) continue;
    last = op;
    if ((left -= weight(op)) < 0) break;
  }
  return AugmentOp(last);
}

std::span<const AugmentStep> RandAugment::draw(Random& random) {
  steps_.clear();
  for (int i = 0; i < config_.ops; ++i) {
    AugmentStep step;
    step.op = draw_op(random);
    step.applied = random.bernoulli(config_.probability);
    if (step.applied) {
      double level = config_.magnitude;
      if (std::isinf(config_.magnitude_std))
        level = random.uniform(0, level);
      else if (config_.magnitude_std > 0)
        level += config_.magnitude_std * random.normal();
      level = std::clamp(level, 0.0, config_.magnitude_max);
      step.value = argument(step.op, level, config_.increasing, random);
      if (geometric(step.op))
        step.filter = config_.filter          ? *config_.filter
                      : random.bernoulli(0.5) ? Filter::bilinear
                                              : Filter::bicubic;
    }
    steps_.push_back(step);
  }
  return steps_;
}

void RandAugment::apply(const AugmentStep& step, ImageSpan image) {
  using enum AugmentOp;
  const double v = step.value;
  const auto transformed = [&](const AffineMatrix& m) {
    affine(image, m, step.filter, config_.fill, scratch_);
  };
  switch (step.op) {
    case autocontrast:
      return data::autocontrast(image);
    case equalize:
      return data::equalize(image);
    case invert:
      return data::invert(image);
    case rotate:
      return transformed(rotation(v, image.height, image.width));
    case posterize:
      return data::posterize(image, int(v));
    case solarize:
      return data::solarize(image, int(v));
    case solarize_add:
      return data::solarize_add(image, int(v));
    case color:
      return adjust_saturation(image, v);
    case contrast:
      return adjust_contrast(image, v);
    case brightness:
      return adjust_brightness(image, v);
    case sharpness:
      return adjust_sharpness(image, v, scratch_);
    case shear_x:
      return transformed(data::shear_x(v));
    case shear_y:
      return transformed(data::shear_y(v));
    case translate_x:
      return transformed(translation(v * image.width, 0));
    case translate_y:
      return transformed(translation(0, v * image.height));
  }
}

void RandAugment::operator()(ImageSpan image, Random& random) {
  for (const AugmentStep& step : draw(random))
    if (step.applied) apply(step, image);
}

}  // namespace sg::data
