// One AdamW step and one EMA step over flat buffers, in one pass.
//   p *= 1 - lr * weight_decay;  m += (1 - beta1)(g - m);  v += (1 - beta2)(g^2 - v)
//   p -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps);  ema += (1 - d)(p - ema)
// as torch.optim.AdamW and timm's ModelEma. g is the accumulated gradient times grad_scale,
// scaled down to the norm clip_grad where it is longer (as torch.nn.utils.clip_grad_norm_), or with
// its elements limited to [-clip_grad, clip_grad] (as clip_grad_value_). A step whose gradient or
// loss is not finite changes the EMA alone.
//
// What changes from step to step lies in a tensor, so that a captured step (core/graph.h) can be
// replayed.
#pragma once
#include <array>
#include <cmath>
#include <optional>
#include <string_view>
#include <vector>

#include "core/slot.h"
#include "core/tensor.h"

namespace sg {

enum class ClipMode { norm, value };
ClipMode parse_clip_mode(std::string_view text);  // throws ExitCode::usage

struct AdamWSettings {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.05;
  double ema_decay = 0;  // 0: no EMA
  double clip_grad = 0;  // largest norm of the gradient, or size of its elements; 0: no clipping
  ClipMode clip_mode = ClipMode::norm;

  double clip_norm() const { return clip_mode == ClipMode::norm ? clip_grad : 0; }
  double clip_value() const {  // infinite where elements are not clipped
    return clip_mode == ClipMode::value && clip_grad > 0 ? clip_grad : HUGE_VAL;
  }
};

// Elements [begin, end) of the buffers that share factors on lr and weight decay.
struct AdamWSegment {
  int64_t begin = 0, end = 0;
  double lr_scale = 1, weight_decay_scale = 1;  // 0: the no-decay group
};

// The segments of the buffers, cut once into the pieces that blocks of a GPU work at.
struct AdamWPlan {
  std::vector<AdamWSegment> segments;
  // (n, 4) f64: begin, end, lr_scale, weight_decay_scale of pieces of at most kPiece elements; on
  // devices other than the CPU.
  Tensor pieces;
  static constexpr int64_t kPiece = 1 << 14;
};
// Segments are ascending and disjoint, in buffers of n elements; others are left alone.
AdamWPlan plan_adamw(std::vector<AdamWSegment> segments, int64_t n, Device device);

struct AdamWBuffers {
  Out p;  // (n) f32 or f64
  In g;   // the gradient, of the shape and dtype of p, as m, v and ema
  Out m, v;
  Out ema;          // used where ema_decay > 0
  Out bf16_values;  // (n) bf16 that follows a p of f32, or undefined
};

// The numbers of a step as adamw() reads them: t counts applied steps from 1.
struct AdamWStep {
  double lr = 1e-3;
  int64_t t = 1;
  double grad_scale = 1;
  std::optional<double> ema_decay{};  // default: that of the settings
};
constexpr int64_t kAdamWControl = 5, kAdamWOutcome = 3;
// (kAdamWControl) f64: lr, 1 - beta1^t, sqrt(1 - beta2^t), grad_scale, 1 - ema_decay.
std::array<double, kAdamWControl> adamw_control(const AdamWStep& step,
                                                const AdamWSettings& settings);

// control: (kAdamWControl) f64, from adamw_control(). loss (1), f32 or f64: decides whether the
// step is applied, or undefined. outcome (kAdamWOutcome) f64 receives the norm of grad_scale * g
// before clipping; 1 where the step was applied, else 0; and the loss, or 0. All on one device.
void adamw(const AdamWBuffers& buffers, const AdamWPlan& plan, const AdamWSettings& settings,
           const Tensor& control, const Tensor& loss, Out outcome);

// Sum of squares of g (n) in a fixed order, in float64; not finite when any element is not.
double sum_of_squares(const Tensor& g);

namespace kernels {
// sum (1) f64: of the squares of g.
using AdamW = void(Stream&, const AdamWBuffers&, const AdamWPlan&, const AdamWSettings&, In control,
                   In loss, In sum, Out outcome);
using SumOfSquares = void(Stream&, In g, Out result);  // result (1) f64
constinit inline Slot<AdamW> adamw{"adamw"};
constinit inline Slot<SumOfSquares> sum_of_squares{"sum_of_squares"};
}  // namespace kernels

}  // namespace sg
