// One block a row, in both directions; the rows' sums are added by a second kernel.
#include "core/cuda/kernel.cuh"
#include "ops/binary_cross_entropy/binary_cross_entropy.h"
#include "ops/reduce_cuda.cuh"

namespace sg {
namespace {

constexpr int kThreads = 256;

// Targets as the loss takes them.
struct Targets {
  const float* data;
  bool binary;
  float threshold;
  template <int N>
  __device__ cuda::Vec<float, N> load(int64_t i) const {
    auto t = cuda::load_float<N>(data + i);
#pragma unroll
    for (int j = 0; j < N; ++j) t[j] = binary ? float(t[j] > threshold) : t[j];
    return t;
  }
};

Targets targets_of(In targets, const BinaryCrossEntropy& settings) {
  return {targets.data<float>(), settings.threshold.has_value(),
          float(settings.threshold.value_or(0))};
}

// f(first element of a vector) for the vectors of this block's row that are this thread's.
template <int N, class F>
__device__ __forceinline__ void for_row(int64_t k, const F& f) {
  const int64_t begin = int64_t{blockIdx.x} * k;
  for (int64_t i = int64_t{threadIdx.x} * N; i < k; i += kThreads * N) f(begin + i);
}

// max(z, 0) - t z + log(1 + exp(-|z|)); z - z is NaN where z is not finite.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const T* logits, Targets targets, int64_t k, float scale, float* parts) {
  __shared__ float scratch[33];
  float sum = 0;
  for_row<N>(k, [&](int64_t i) {
    const auto z = cuda::load_float<N>(logits + i);
    const auto t = targets.load<N>(i);
#pragma unroll
    for (int j = 0; j < N; ++j)
      sum += fmaf(-t[j], z[j], fmaxf(z[j], 0.0f)) + log1pf(expf(-fabsf(z[j]))) + (z[j] - z[j]);
  });
  sum = cuda::block_sum(sum, scratch);
  if (threadIdx.x == 0) parts[blockIdx.x] = scale * sum;
}

// dz = dloss scale (sigmoid(z) - t).
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const float* dloss, const T* logits, Targets targets, int64_t k, float scale,
                    cuda::GradPtr<T> dlogits) {
  const float factor = *dloss * scale;
  for_row<N>(k, [&](int64_t i) {
    const auto z = cuda::load_float<N>(logits + i);
    const auto t = targets.load<N>(i);
    cuda::Vec<float, N> d{};
    if (dlogits.accumulate) d = cuda::load_float<N>(dlogits.data + i);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const float e = expf(-fabsf(z[j])), sigmoid = (z[j] < 0 ? e : 1.0f) / (1.0f + e);
      d[j] = fmaf(factor, sigmoid - t[j] + (z[j] - z[j]), d[j]);
    }
    cuda::store_float<N>(dlogits.data + i, d);
  });
}

void forward(Stream& stream, In logits, In targets, const BinaryCrossEntropy& settings,
             double scale, Out parts, Out loss) {
  const int64_t batch = logits.dim(0), k = logits.dim(1);
  dispatch<float, bf16>(logits.dtype(), "binary_cross_entropy on cuda", [&]<class T>() {
    cuda::with_vectors<T>(k, [&](auto width) {
      cuda::launch(stream, {"binary_cross_entropy.fwd", unsigned(batch), kThreads},
                   forward_kernel<T, decltype(width)::value>, logits.data<T>(),
                   targets_of(targets, settings), k, float(scale), parts.data<float>());
    });
  });
  cuda::sum_parts(stream, "binary_cross_entropy.sum", parts, {Grad{loss}});
}

void backward(Stream& stream, In dloss, In logits, In targets, const BinaryCrossEntropy& settings,
              double scale, Grad dlogits) {
  if (!dlogits) return;
  const int64_t batch = logits.dim(0), k = logits.dim(1);
  dispatch<float, bf16>(logits.dtype(), "binary_cross_entropy on cuda", [&]<class T>() {
    cuda::with_vectors<T>(k, [&](auto width) {
      cuda::launch(stream, {"binary_cross_entropy.bwd", unsigned(batch), kThreads},
                   backward_kernel<T, decltype(width)::value>, dloss.data<float>(),
                   logits.data<T>(), targets_of(targets, settings), k, float(scale),
                   cuda::grad_ptr<T>(dlogits));
    });
  });
}

const Register r_fwd{kernels::binary_cross_entropy_fwd, DeviceType::cuda, forward};
const Register r_bwd{kernels::binary_cross_entropy_bwd, DeviceType::cuda, backward};

}  // namespace
}  // namespace sg
