// Two kernels for the sum of squares (partial sums a block, then one block adds them in order), and
// one for the whole step: a block takes one piece of the plan, reads p, g, m, v and the EMA once
// and writes p, m, v, the EMA and the bf16 copy once: 38 bytes a weight, 48 with the squares and
// copy.
#include "core/cuda/kernel.cuh"
#include "ops/adamw/adamw.h"

namespace sg {
namespace {

constexpr int kThreads = 256, kSumBlocks = 528;  // four a multiprocessor of an H200

// Adds v over the block, in double, by a tree of a set order.
__device__ double block_sum(double v) {
  __shared__ double part[kThreads];
  part[threadIdx.x] = v;
  __syncthreads();
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
    __syncthreads();
  }
  return part[0];
}

__global__ void __launch_bounds__(kThreads)
    sum_of_squares_kernel(const float* g, int64_t n, double* partial) {
  double sum = 0;
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; 4 * i < n; i += stride) {
    if (4 * i + 4 <= n) {
      const auto v = cuda::load<4>(g + 4 * i);
#pragma unroll
      for (int j = 0; j < 4; ++j) sum += double(v[j]) * double(v[j]);
    } else {
      for (int64_t j = 4 * i; j < n; ++j) sum += double(g[j]) * double(g[j]);
    }
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kThreads)
    add_partial_kernel(const double* partial, int count, double* result) {
  double sum = 0;
  for (int i = int(threadIdx.x); i < count; i += kThreads) sum += partial[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *result = sum;
}

void sum_of_squares(Stream& stream, In g, Out result) {
  const int blocks =
      int(std::clamp<int64_t>(cuda::ceil_div(g.numel(), 4 * kThreads), 1, kSumBlocks));
  Tensor partial = empty({blocks}, Dtype::f64, g.device());
  cuda::launch(stream, {"sum_of_squares", unsigned(blocks), kThreads}, sum_of_squares_kernel,
               g.data<float>(), g.numel(), partial.data<double>());
  cuda::launch(stream, {"sum_of_squares.add", 1, kThreads}, add_partial_kernel,
               partial.data<double>(), blocks, result.data<double>());
}

struct Pointers {
  float* p;
  const float* g;
  float *m, *v, *ema;  // ema: null where there is none
  bf16* bf16_values;   // null where there is none
};
struct Factors {
  float one_minus_beta1, one_minus_beta2, eps, clip_value;
  double weight_decay, clip_norm;
};
// What this step does to one piece.
struct Step {
  bool applied;
  float grad_scale, rate, decay, correction2, one_minus_ema_decay;
};

template <int N>
__device__ void update(const Pointers& b, const Factors& f, const Step& s, int64_t i) {
  auto p = cuda::load<N>(b.p + i);
  if (s.applied) {
    const auto g = cuda::load<N>(b.g + i);
    auto m = cuda::load<N>(b.m + i), v = cuda::load<N>(b.v + i);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const float grad = fminf(fmaxf(g[j] * s.grad_scale, -f.clip_value), f.clip_value);
      m[j] = fmaf(f.one_minus_beta1, grad - m[j], m[j]);
      v[j] = fmaf(f.one_minus_beta2, grad * grad - v[j], v[j]);
      const float step = m[j] / (sqrtf(v[j]) / s.correction2 + f.eps);
      p[j] -= fmaf(s.rate, step, s.decay * p[j]);  // rounded once: see the CPU's kernel
    }
    cuda::store(b.p + i, p), cuda::store(b.m + i, m), cuda::store(b.v + i, v);
    if (b.bf16_values) cuda::store_float<N>(b.bf16_values + i, p);
  }
  if (!b.ema) return;
  auto e = cuda::load<N>(b.ema + i);
#pragma unroll
  for (int j = 0; j < N; ++j) e[j] = fmaf(s.one_minus_ema_decay, p[j] - e[j], e[j]);
  cuda::store(b.ema + i, e);
}

__global__ void __launch_bounds__(kThreads)
    adamw_kernel(Pointers b, Factors f, const double* pieces, const double* control,
                 const float* loss, const double* sum, double* outcome) {
  const double* const piece = pieces + 4 * int64_t{blockIdx.x};
  const int64_t begin = int64_t(piece[0]), end = int64_t(piece[1]);
  const double norm = sqrt(*sum) * control[3], lr = control[0] * piece[2];
  Step s;
  const double loss_value = loss ? double(*loss) : 0;
  s.applied = isfinite(norm) && isfinite(loss_value);
  const bool clipped = f.clip_norm > 0 && norm > f.clip_norm;
  s.grad_scale = float(control[3] * (clipped ? f.clip_norm / (norm + 1e-6) : 1.0));
  s.rate = float(lr / control[1]);
  s.decay = float(lr * f.weight_decay * piece[3]);
  s.correction2 = float(control[2]);
  s.one_minus_ema_decay = float(control[4]);
  if (blockIdx.x == 0 && threadIdx.x == 0)
    outcome[0] = norm, outcome[1] = s.applied, outcome[2] = loss_value;
  if ((begin | end) % 4 == 0) {
    for (int64_t i = begin + 4 * int64_t{threadIdx.x}; i < end; i += 4 * kThreads)
      update<4>(b, f, s, i);
  } else {
    for (int64_t i = begin + threadIdx.x; i < end; i += kThreads) update<1>(b, f, s, i);
  }
}

void adamw(Stream& stream, const AdamWBuffers& b, const AdamWPlan& plan, const AdamWSettings& s,
           In control, In loss, In sum, Out outcome) {
  const Pointers pointers{b.p.data<float>(),
                          b.g.data<float>(),
                          b.m.data<float>(),
                          b.v.data<float>(),
                          s.ema_decay > 0 ? b.ema.data<float>() : nullptr,
                          b.bf16_values ? b.bf16_values.data<bf16>() : nullptr};
  const Factors factors{float(1 - s.beta1),    float(1 - s.beta2), float(s.eps),
                        float(s.clip_value()), s.weight_decay,     s.clip_norm()};
  cuda::launch(stream, {"adamw", unsigned(plan.pieces.dim(0)), kThreads}, adamw_kernel, pointers,
               factors, plan.pieces.data<double>(), control.data<double>(),
               loss ? loss.data<float>() : nullptr, sum.data<double>(), outcome.data<double>());
}

const Register r_adamw{kernels::adamw, DeviceType::cuda, adamw};
const Register r_sum{kernels::sum_of_squares, DeviceType::cuda, sum_of_squares};

}  // namespace
}  // namespace sg
