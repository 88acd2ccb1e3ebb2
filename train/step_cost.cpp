#include "train/step_cost.h"

#include <algorithm>
#include <array>

#include "autograd/tape.h"
#include "core/allocator.h"
#include "nn/trace.h"

namespace sg::train {
namespace {

constexpr double kMuch = 4;  // times the usual operations
// Blocks may be a quarter larger than what is in them (core/allocator.h).
constexpr double kMargin = 1.25;
constexpr double kLoaderBatches = 6;  // of bytes: made ahead, in the making, on the way

struct Trial {
  double pixels = 0, macs = 0, bytes = 0;
};

double pixels_of(ImageSize size) { return double(size.height) * size.width; }

Trial try_images(const LossOfImages& loss_of, Dtype dtype, ImageSize size, int64_t batch) {
  Allocator& allocator = Allocator::of({});
  allocator.release_cached();
  const size_t before = allocator.stats().reserved;
  Trial t{.pixels = pixels_of(size)};
  {
    Tensor loss;
    {
      const nn::Trace trace;  // not of backward, which may compute layers again
      loss = loss_of(zeros({batch, size.height, size.width, 3}, dtype));
      for (const nn::LayerRow& row : trace.rows()) t.macs += row.macs / double(batch);
    }
    autograd::backward(loss);
  }
  t.bytes = double(allocator.stats().reserved - before) / double(batch);
  allocator.release_cached();
  return t;
}

// The operations by the parabola through three trials, since those of attention are quadratic in
// the pixels.
double macs_at(double pixels, const std::array<Trial, 3>& trials) {
  double sum = 0;
  for (const Trial& t : trials) {
    double term = t.macs;
    for (const Trial& other : trials)
      if (&other != &t) term *= (pixels - other.pixels) / (t.pixels - other.pixels);
    sum += term;
  }
  return sum;
}

// The bytes by a line from the last trial on, since no attention keeps its scores. They are not
// proportional to the pixels: of a small image most is scratch that grows no further. Blocks are
// rounded, so of the two slopes that the trials have it is the steeper.
double bytes_at(double pixels, const std::array<Trial, 3>& trials) {
  const auto slope = [&](size_t i) {
    return (trials[i + 1].bytes - trials[i].bytes) / (trials[i + 1].pixels - trials[i].pixels);
  };
  return trials[2].bytes + std::max(slope(0), slope(1)) * (pixels - trials[2].pixels);
}

}  // namespace

int64_t StepCost::batch_that_fits(double available) const {
  return std::max<int64_t>(0, int64_t((available - fixed_bytes) / bytes) / multiple * multiple);
}

StepCost measure_step_cost(nn::ParameterStore& parameters, const LossOfImages& loss, int usual,
                           ImageSize size, int64_t batch) {
  const double pixels = pixels_of(size);
  const auto trial = [&](ImageSize of) { return try_images(loss, parameters.dtype(), of, batch); };
  Trial t, of_usual;
  if (pixels <= pixels_of(usual)) {
    t = of_usual = trial(size);
  } else {
    const std::array trials{trial(usual / 2), trial(usual), trial(usual * 3 / 2)};
    of_usual = trials[1];
    // Never below what is proportional to the pixels.
    t.macs = std::max(macs_at(pixels, trials), pixels / of_usual.pixels * of_usual.macs);
    t.bytes = bytes_at(pixels, trials);
  }
  // Two moments and averaged weights are to come; a checkpoint is a copy of them and the weights,
  // and is read back.
  const double count = double(parameters.count());
  return {.macs = t.macs,
          .usual_macs = of_usual.macs,
          .bytes = kMargin * t.bytes + kLoaderBatches * 3 * pixels,
          .fixed_bytes = 11 * count * double(size_of(parameters.values().dtype()))};
}

std::string note_of_cost(const StepCost& c, ImageSize size, int64_t usual_side) {
  if (c.macs <= kMuch * c.usual_macs) return "";
  return fmt::format(
      "an image of {0} x {1} takes {2:.0f} times the operations of the usual {3} x {3}: about "
      "{4:.3g} GMAC forward instead of {5:.3g}; steps will be as much slower",
      size.height, size.width, c.macs / c.usual_macs, usual_side, 1e-9 * c.macs,
      1e-9 * c.usual_macs);
}

void check_memory(const StepCost& c, int64_t batch, ImageSize size, double available) {
  if (c.of_batch(batch) <= available) return;
  const int64_t fits = c.batch_that_fits(available);
  fail(ExitCode::failure,
       "a training step of {} images of {} x {} takes about {:.0f} bytes of memory, {:.0f} are "
       "available; {}",
       batch, size.height, size.width, c.of_batch(batch), available,
       fits > 0
           ? fmt::format("--batch-size {} fits, and --grad-accum makes up for it", fits)
           : fmt::format("not even {} fits: use a smaller --img-size or model",
                         c.multiple == 1 ? "one image" : fmt::format("a batch of {}", c.multiple)));
}

std::string smaller_batch(const std::optional<StepCost>& c, int64_t batch, double available) {
  if (batch == 1) return "use a smaller --img-size or model";
  const int64_t fits = c ? c->batch_that_fits(available) : batch;
  const std::string smaller = fits >= 1 && fits < batch
                                  ? fmt::format("--batch-size {} fits", fits)
                                  : fmt::format("a --batch-size below {} takes less", batch);
  return smaller + ", and --grad-accum makes up for it";
}

}  // namespace sg::train
