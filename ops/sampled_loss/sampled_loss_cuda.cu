// Rows are few: forward is one block, whose threads take rows in turn; backward a thread a row.
#include "core/cuda/kernel.cuh"
#include "ops/reduce_cuda.cuh"
#include "ops/sampled_loss/sampled_loss.h"

namespace sg {
namespace {

constexpr int kThreads = 256;

// Values and gradients of the maps; the latter are added to, and null where not wanted.
template <class T>
struct Maps {
  const T* values[kMaxSampledMaps];
  cuda::GradPtr<T> grads[kMaxSampledMaps];
  SampledRows rows;
};
template <class T>
Maps<T> maps_of(const std::vector<Tensor>& values, const SampledRows& rows,
                const std::vector<Grad>& grads = {}) {
  Maps<T> maps{};
  for (size_t i = 0; i < values.size(); ++i) maps.values[i] = values[i].data<T>();
  for (size_t i = 0; i < grads.size(); ++i) maps.grads[i] = cuda::grad_ptr<T>(grads[i]);
  maps.rows = rows;
  return maps;
}

// Indices of rows whose target is 1, and then of those whose target is 0.
struct Samples {
  const int32_t *positive, *negative;
  int64_t positives, count;
  __device__ int64_t row(int64_t k) const {
    return k < positives ? positive[k] : negative[k - positives];
  }
  __device__ float target(int64_t k) const { return k < positives ? 1.0f : 0.0f; }
};
Samples samples_of(In positive, In negative) {
  return {positive.data<int32_t>(), negative.data<int32_t>(), positive.numel(),
          positive.numel() + negative.numel()};
}

// *loss = factor times the sum of f(k) over k below `count`.
template <class F>
__device__ void sum_rows(int64_t count, float factor, float* loss, const F& f) {
  __shared__ float scratch[33];
  float sum = 0;
  for (int64_t k = threadIdx.x; k < count; k += kThreads) sum += f(k);
  sum = cuda::block_sum(sum, scratch);
  if (threadIdx.x == 0) *loss = factor * sum;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    bce_forward_kernel(const __grid_constant__ Maps<T> maps, Samples samples, float factor,
                       float* loss) {
  sum_rows(samples.count, factor, loss, [&](int64_t k) {
    const int64_t i = samples.row(k);
    if (!maps.rows.contains(i)) return NAN;
    const auto at = maps.rows.at(i);
    const float z = cuda::to_float(maps.values[at.map][at.row]);
    return (z > 0 ? z : 0.0f) - samples.target(k) * z + log1pf(expf(-fabsf(z)));
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    bce_backward_kernel(const float* dloss, const __grid_constant__ Maps<T> maps, Samples samples,
                        float factor) {
  const int64_t k = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (k >= samples.count || !maps.rows.contains(samples.row(k))) return;
  const auto at = maps.rows.at(samples.row(k));
  if (!maps.grads[at.map]) return;
  const float z = cuda::to_float(maps.values[at.map][at.row]), e = expf(-fabsf(z));
  const float sigmoid = (z < 0 ? e : 1.0f) / (1.0f + e);
  maps.grads[at.map].put(at.row, *dloss * factor * (sigmoid - samples.target(k)));
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    l1_forward_kernel(const __grid_constant__ Maps<T> maps, const int32_t* index,
                      const float* targets, int64_t count, float factor, float* loss) {
  sum_rows(4 * count, factor, loss, [&](int64_t k) {
    const int64_t i = index[k / 4];
    if (!maps.rows.contains(i)) return NAN;
    const auto at = maps.rows.at(i);
    return fabsf(cuda::to_float(maps.values[at.map][4 * at.row + k % 4]) - targets[k]);
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    l1_backward_kernel(const float* dloss, const __grid_constant__ Maps<T> maps,
                       const int32_t* index, const float* targets, int64_t count, float factor) {
  const int64_t k = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (k >= 4 * count || !maps.rows.contains(index[k / 4])) return;
  const auto at = maps.rows.at(index[k / 4]);
  if (!maps.grads[at.map]) return;
  const int64_t element = 4 * at.row + k % 4;
  const float v = cuda::to_float(maps.values[at.map][element]) - targets[k];
  maps.grads[at.map].put(element, *dloss * factor * float((v > 0) - (v < 0)));
}

constexpr const char* kBce = "sampled_binary_cross_entropy";

void bce_forward(Stream& stream, const std::vector<Tensor>& logits, const SampledRows& rows,
                 In positive, In negative, double divisor, Out loss) {
  dispatch<float, bf16>(logits[0].dtype(), kBce, [&]<class T>() {
    cuda::launch(stream, {"sampled_binary_cross_entropy.fwd", 1, kThreads}, bce_forward_kernel<T>,
                 maps_of<T>(logits, rows), samples_of(positive, negative), float(1 / divisor),
                 loss.data<float>());
  });
}

void bce_backward(Stream& stream, In dloss, const std::vector<Tensor>& logits,
                  const SampledRows& rows, In positive, In negative, double divisor,
                  const std::vector<Grad>& dlogits) {
  dispatch<float, bf16>(logits[0].dtype(), kBce, [&]<class T>() {
    const Samples samples = samples_of(positive, negative);
    const auto grid = unsigned(cuda::ceil_div(samples.count, kThreads));
    cuda::launch(stream, {"sampled_binary_cross_entropy.bwd", grid, kThreads},
                 bce_backward_kernel<T>, dloss.data<float>(), maps_of<T>(logits, rows, dlogits),
                 samples, float(1 / divisor));
  });
}

void l1_forward(Stream& stream, const std::vector<Tensor>& deltas, const SampledRows& rows,
                In index, In targets, double divisor, Out loss) {
  dispatch<float, bf16>(deltas[0].dtype(), "sampled_l1", [&]<class T>() {
    cuda::launch(stream, {"sampled_l1.fwd", 1, kThreads}, l1_forward_kernel<T>,
                 maps_of<T>(deltas, rows), index.data<int32_t>(), targets.data<float>(),
                 index.numel(), float(1 / divisor), loss.data<float>());
  });
}

void l1_backward(Stream& stream, In dloss, const std::vector<Tensor>& deltas,
                 const SampledRows& rows, In index, In targets, double divisor,
                 const std::vector<Grad>& ddeltas) {
  dispatch<float, bf16>(deltas[0].dtype(), "sampled_l1", [&]<class T>() {
    const auto grid = unsigned(cuda::ceil_div(4 * index.numel(), kThreads));
    cuda::launch(stream, {"sampled_l1.bwd", grid, kThreads}, l1_backward_kernel<T>,
                 dloss.data<float>(), maps_of<T>(deltas, rows, ddeltas), index.data<int32_t>(),
                 targets.data<float>(), index.numel(), float(1 / divisor));
  });
}

const Register r1{kernels::sampled_bce_fwd, DeviceType::cuda, bce_forward};
const Register r2{kernels::sampled_bce_bwd, DeviceType::cuda, bce_backward};
const Register r3{kernels::sampled_l1_fwd, DeviceType::cuda, l1_forward};
const Register r4{kernels::sampled_l1_bwd, DeviceType::cuda, l1_backward};

}  // namespace
}  // namespace sg
