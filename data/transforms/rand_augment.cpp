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

// In the order of AugmentOp, for w0 and tweights, which differ in invert and posterize.
using Weights = std::array<double, kAugmentOps>;
constexpr Weights weights_with(double invert, double posterize) {
  return {.025, .005, invert, .3, posterize, .005, .005, .025, .005, .005, .025, .2, .2, .1, .1};
}
constexpr Weights kW0 = weights_with(0, 0), kTweights = weights_with(.005, .005);

// The argument of an operation at a level; timm's level_to_arg. Its bounds are those of timm 1.0
// and bind above level 10 alone, which timm 0.3 does not have.
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
      const int threshold = std::min(int(share * 256), 256);
      return increasing ? 256 - threshold : threshold;
    }
    case solarize_add:
      return std::min(int(share * 110), 128);
    case color:
    case contrast:
    case brightness:
    case sharpness:
      return increasing ? std::max(1 + either_sign(share * 0.9), 0.1) : share * 1.8 + 0.1;
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
       "--aa: {}, found '{}'; a policy is 'rand' and sections of m (level), n (operations), mstd, "
       "mmax, p, inc1, tweights, w0, as in rand-m9-mstd0.5-inc1",
       why, policy);
}

}  // namespace

void RandAugmentConfig::check() const {
  const auto require = [](bool ok, std::string_view name, std::string_view expected, auto found) {
    if (!ok) fail(ExitCode::usage, "--aa: {}: expected {}, found {}", name, expected, found);
  };
  // Weighted, none is drawn twice, and two of the 15 operations have weight 0 in w0.
  const int most = weights == AugmentWeights::even ? 100
                   : weights == AugmentWeights::w0 ? kAugmentOps - 2
                                                   : kAugmentOps;
  require(ops >= 1 && ops <= most, "n", fmt::format("1 to {}", most), ops);
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
    refuse(policy, "only RandAugment is built in, no AutoAugment (original, v0), AugMix or 3a");
  while (end < policy.size()) {
    const size_t begin = end + 1;
    end = section_end(begin);
    const std::string_view section = policy.substr(begin, end - begin);
    if (section == "tweights") {
      config.weights = AugmentWeights::tweights;
      config.increasing = true;
      continue;
    }
    if (section.starts_with('t'))
      refuse(policy,
             fmt::format("section '{}': of timm's sets only tweights is built in", section));
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
      config.magnitude_max = value > 0 ? value : RandAugmentConfig().magnitude_max;
    else if (key == "p")
      config.probability = value;
    else if (key == "inc")
      config.increasing = true;
    else if (key == "w" && value == 0)
      config.weights = AugmentWeights::w0;
    else
      refuse(policy, fmt::format("section '{}' is unknown", section));
  }
  config.check();
  return config;
}

RandAugment::RandAugment(const RandAugmentConfig& config) : config_(config) { config_.check(); }

AugmentOp RandAugment::draw_op(Random& random) const {
  if (config_.weights == AugmentWeights::even) return AugmentOp(random.integer(0, kAugmentOps - 1));
  const Weights& weights = config_.weights == AugmentWeights::w0 ? kW0 : kTweights;
  const auto weight = [&](int op) {
    const bool drawn = std::ranges::any_of(
        steps_, [op](const AugmentStep& step) { return step.op == AugmentOp(op); });
    return drawn ? 0 : weights[size_t(op)];
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
