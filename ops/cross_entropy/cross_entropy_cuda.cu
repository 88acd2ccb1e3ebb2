// One block a row. Forward reads logits and targets once from memory (logits a second time from
// the cache, after their maximum is known); the mean is a second kernel of one block. Backward
// reads both once more (targets a second time from the cache, after their sum is known) and writes
// the gradient.
#include "core/cuda/kernel.cuh"
#include "ops/cross_entropy/cross_entropy.h"
#include "ops/reduce_cuda.cuh"

namespace sg {
namespace {

constexpr int kThreads = 256;

// f(first element of a vector) for the vectors of a row that are this thread's.
template <int N, class F>
__device__ __forceinline__ void for_row(int64_t k, const F& f) {
  for (int64_t i = int64_t{threadIdx.x} * N; i < k; i += kThreads * N) f(i);
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const T* logits, const float* targets, int64_t k, float* per_sample,
                   float* softmax) {
  __shared__ float scratch[33];
  const int64_t row = blockIdx.x;
  logits += row * k, targets += row * k;
  float top = -INFINITY;
  for_row<N>(k, [&](int64_t i) {
    const auto z = cuda::load_float<N>(logits + i);
#pragma unroll
    for (int j = 0; j < N; ++j) top = fmaxf(top, z[j]);
  });
  top = cuda::block_reduce(top, -INFINITY, scratch, cuda::Max());
  float sum = 0, target_sum = 0, below = 0;
  for_row<N>(k, [&](int64_t i) {
    const auto z = cuda::load_float<N>(logits + i);
    const auto t = cuda::load_float<N>(targets + i);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      sum += expf(z[j] - top);
      target_sum += t[j];
      below = fmaf(t[j], top - z[j], below);
    }
  });
  sum = cuda::block_sum(sum, scratch);
  target_sum = cuda::block_sum(target_sum, scratch);
  below = cuda::block_sum(below, scratch);
  if (threadIdx.x != 0) return;
  const float loss = below + target_sum * logf(sum);
  per_sample[row] = loss;
  // A loss that is no number must not have a finite gradient.
  if (softmax) softmax[2 * row] = top, softmax[2 * row + 1] = loss != loss ? loss : sum;
}

__global__ void __launch_bounds__(kThreads)
    mean_kernel(const float* per_sample, int64_t batch, float* loss) {
  __shared__ float scratch[33];
  float sum = 0;
  for_row<1>(batch, [&](int64_t i) { sum += per_sample[i]; });
  sum = cuda::block_sum(sum, scratch);
  if (threadIdx.x == 0) *loss = sum / float(batch);
}

// dz = dloss / B (softmax(z) sum_k t - t).
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const float* dloss, const T* logits, const float* targets, const float* softmax,
                    int64_t k, cuda::GradPtr<T> dlogits) {
  __shared__ float scratch[33];
  const int64_t row = blockIdx.x;
  logits += row * k, targets += row * k, dlogits.data += row * k;
  float target_sum = 0;
  for_row<N>(k, [&](int64_t i) {
    const auto t = cuda::load_float<N>(targets + i);
#pragma unroll
    for (int j = 0; j < N; ++j) target_sum += t[j];
  });
  target_sum = cuda::block_sum(target_sum, scratch);
  const float scale = *dloss / float(gridDim.x), top = softmax[2 * row];
  const float factor = target_sum / softmax[2 * row + 1];
  for_row<N>(k, [&](int64_t i) {
    const auto z = cuda::load_float<N>(logits + i);
    const auto t = cuda::load_float<N>(targets + i);
    cuda::Vec<float, N> d{};
    if (dlogits.accumulate) d = cuda::load_float<N>(dlogits.data + i);
#pragma unroll
    for (int j = 0; j < N; ++j) d[j] = fmaf(scale, fmaf(expf(z[j] - top), factor, -t[j]), d[j]);
    cuda::store_float<N>(dlogits.data + i, d);
  });
}

void forward(Stream& stream, In logits, In targets, Out per_sample, Out softmax, Out loss) {
  const int64_t batch = logits.dim(0), k = logits.dim(1);
  dispatch<float, bf16>(logits.dtype(), "soft_cross_entropy on cuda", [&]<class T>() {
    cuda::with_vectors<T>(k, [&](auto width) {
      cuda::launch(stream, {"cross_entropy.fwd", unsigned(batch), kThreads},
                   forward_kernel<T, decltype(width)::value>, logits.data<T>(),
                   targets.data<float>(), k, per_sample.data<float>(),
                   softmax ? softmax.data<float>() : nullptr);
    });
  });
  cuda::launch(stream, {"cross_entropy.mean", 1, kThreads}, mean_kernel, per_sample.data<float>(),
               batch, loss.data<float>());
}

void backward(Stream& stream, In dloss, In logits, In targets, In softmax, Grad dlogits) {
  if (!dlogits) return;
  const int64_t batch = logits.dim(0), k = logits.dim(1);
  dispatch<float, bf16>(logits.dtype(), "soft_cross_entropy on cuda", [&]<class T>() {
    cuda::with_vectors<T>(k, [&](auto width) {
      cuda::launch(stream, {"cross_entropy.bwd", unsigned(batch), kThreads},
                   backward_kernel<T, decltype(width)::value>, dloss.data<float>(),
                   logits.data<T>(), targets.data<float>(), softmax.data<float>(), k,
                   cuda::grad_ptr<T>(dlogits));
    });
  });
}

struct Labels {
  int32_t own, other;  // its own, and that of its partner; -1: outside the batch
  double share;        // of its own
  __device__ bool valid(int64_t classes) const {
    return own >= 0 && own < classes && other >= 0 && other < classes;
  }
};
__device__ __forceinline__ Labels labels_of(const int32_t* labels, const MixErase* changes,
                                            int64_t row, int64_t batch) {
  const int64_t partner = changes ? changes[row].partner : row;
  const bool paired = partner >= 0 && partner < batch;
  return {labels[row], paired ? labels[partner] : -1,
          changes ? double(changes[row].label_lambda) : 1.0};
}

// One block a row. In f64, as on the CPU: two elements of a row are more than `off`.
__global__ void __launch_bounds__(kThreads)
    one_hot_kernel(const int32_t* labels, const MixErase* changes, const float* weights,
                   int64_t classes, double smoothing, float* targets) {
  const int64_t row = blockIdx.x, batch = gridDim.x;
  const Labels of_row = labels_of(labels, changes, row, batch);
  const auto [own, other, share] = of_row;
  const bool valid = of_row.valid(classes);
  // Sum of the weights of the labels, by each thread in the order of the CPU: a batch is short.
  double sum = 0;
  for (int64_t r = 0; weights && r < batch; ++r)
    if (const Labels l = labels_of(labels, changes, r, batch); l.valid(classes))
      sum += l.share * double(weights[l.own]) + (1 - l.share) * double(weights[l.other]);
  const double off = smoothing / double(classes), on = 1 - smoothing;
  for_row<1>(classes, [&](int64_t i) {
    const double weight = (i == own ? share : 0) + (i == other ? 1 - share : 0);
    const double target = off + on * weight;
    targets[row * classes + i] =
        !valid ? NAN
               : float(weights ? target * double(weights[i]) * (double(batch) / sum) : target);
  });
}

void one_hot(Stream& stream, In labels, In changes, In weights, double smoothing, Out targets) {
  dispatch<float>(targets.dtype(), "smooth_one_hot on cuda", [&]<class T>() {
    cuda::launch(
        stream, {"smooth_one_hot", unsigned(targets.dim(0)), kThreads}, one_hot_kernel,
        labels.data<int32_t>(), changes ? static_cast<const MixErase*>(changes.raw()) : nullptr,
        weights ? weights.data<T>() : nullptr, targets.dim(1), smoothing, targets.data<T>());
  });
}

const Register r_fwd{kernels::cross_entropy_fwd, DeviceType::cuda, forward};
const Register r_bwd{kernels::cross_entropy_bwd, DeviceType::cuda, backward};
const Register r_one_hot{kernels::smooth_one_hot, DeviceType::cuda, one_hot};

}  // namespace
}  // namespace sg
