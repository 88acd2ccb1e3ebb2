// One AdamW step and one EMA step over flat buffers, in one pass.
//   p *= 1 - lr * weight_decay;  m += (1 - beta1)(g - m);  v += (1 - beta2)(g^2 - v)
//   p -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps);  ema += (1 - d)(p - ema)
// as torch.optim.AdamW and timm's ModelEma.
#pragma once
#include <vector>

#include "core/slot.h"
#include "core/tensor.h"

namespace sg {

struct AdamWSettings {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.05;
  double ema_decay = 0;   // 0: no EMA
  int64_t step = 1;       // t, counted from 1
  double grad_scale = 1;  // gradients are multiplied by it first (accumulation, clipping)
};

// Elements [begin, end) of the buffers that share factors on lr and weight decay.
struct AdamWSegment {
  int64_t begin = 0, end = 0;
  double lr_scale = 1, weight_decay_scale = 1;  // 0: the no-decay group
};

// p, m, v, ema (or undefined): updated; g: read; all (n) of one dtype, f32 or f64. Segments are
// ascending and disjoint; elements outside of them are left alone.
void adamw(const Tensor& p, const Tensor& g, const Tensor& m, const Tensor& v, const Tensor& ema,
           const std::vector<AdamWSegment>& segments, const AdamWSettings& settings);

// Sum of squares of g (n) in a fixed order, in float64: for clipping, and not finite when any
// element is not.
double sum_of_squares(const Tensor& g);

namespace kernels {
using AdamW = void(Stream&, Out p, In g, Out m, Out v, Out ema, const std::vector<AdamWSegment>&,
                   const AdamWSettings&);
using SumOfSquares = void(Stream&, In g, Out result);  // result (1) f64
constinit inline Slot<AdamW> adamw{"adamw"};
constinit inline Slot<SumOfSquares> sum_of_squares{"sum_of_squares"};
}  // namespace kernels

}  // namespace sg
