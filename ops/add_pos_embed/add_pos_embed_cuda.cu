// One pass each way. Forward: a thread holds a vector of the table and adds it to that of several
// images, so that the table is read once for these. Backward: a thread adds a vector of all images
// in order, loads of kAhead images under way at a time.
#include "ops/add_pos_embed/add_pos_embed.h"
#include "ops/reduce_cuda.cuh"

namespace sg {
namespace {

constexpr int kForwardThreads = 256, kBackwardThreads = 128, kImages = 8, kAhead = 8;

template <class T, int N>
__global__ void __launch_bounds__(kForwardThreads)
    forward_kernel(const T* __restrict__ x, const float* table, T* __restrict__ y, int64_t vectors,
                   unsigned chunks, int64_t batch) {
  const int64_t i = int64_t{blockIdx.x % chunks} * kForwardThreads + threadIdx.x;
  const int64_t image = int64_t{blockIdx.x / chunks} * kImages;
  if (i >= vectors) return;
  const auto row = cuda::load_float<N>(table + i * N);
#pragma unroll
  for (int k = 0; k < kImages; ++k)
    if (image + k < batch) {
      const int64_t at = ((image + k) * vectors + i) * N;
      auto v = cuda::load_float<N>(x + at);
#pragma unroll
      for (int j = 0; j < N; ++j) v[j] += row[j];
      cuda::store_float<N>(y + at, v);
    }
}

template <class T, int N>
__global__ void __launch_bounds__(kBackwardThreads)
    backward_kernel(const T* dy, cuda::GradPtr<float> dtable, int64_t vectors, int64_t batch) {
  const int64_t i = int64_t{blockIdx.x} * kBackwardThreads + threadIdx.x;
  if (i >= vectors) return;
  cuda::Vec<float, N> sum{};
  for (int64_t b = 0; b < batch; b += kAhead) {
    cuda::Vec<T, N> next[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; ++k)
      if (b + k < batch) next[k] = cuda::load<N>(dy + ((b + k) * vectors + i) * N);
#pragma unroll
    for (int k = 0; k < kAhead; ++k)
      if (b + k < batch)
        for (int j = 0; j < N; ++j) sum[j] += cuda::to_float(next[k][j]);
  }
  dtable.put(i * N, sum);
}

void forward(Stream& stream, In x, In table, Out y) {
  dispatch<float, bf16>(x.dtype(), "add_pos_embed", [&]<class T>() {
    cuda::with_vectors<T>(table.numel(), [&](auto width) {
      constexpr int N = decltype(width)::value;
      const int64_t vectors = table.numel() / N;
      const auto chunks = unsigned(cuda::ceil_div(vectors, kForwardThreads));
      const auto grid = chunks * unsigned(cuda::ceil_div(x.dim(0), kImages));
      cuda::launch(stream, {"add_pos_embed.fwd", grid, kForwardThreads}, forward_kernel<T, N>,
                   x.data<T>(), table.data<float>(), y.data<T>(), vectors, chunks, x.dim(0));
    });
  });
}

void backward(Stream& stream, In dy, Grad dtable) {
  dispatch<float, bf16>(dy.dtype(), "add_pos_embed", [&]<class T>() {
    cuda::with_vectors<T>(dtable.tensor.numel(), [&](auto width) {
      constexpr int N = decltype(width)::value;
      const int64_t vectors = dtable.tensor.numel() / N;
      const auto grid = unsigned(cuda::ceil_div(vectors, kBackwardThreads));
      cuda::launch(stream, {"add_pos_embed.bwd", grid, kBackwardThreads}, backward_kernel<T, N>,
                   dy.data<T>(), cuda::grad_ptr<float>(dtable), vectors, dy.dim(0));
    });
  });
}

const Register r0{kernels::add_pos_embed_fwd, DeviceType::cuda, forward};
const Register r1{kernels::add_pos_embed_bwd, DeviceType::cuda, backward};

}  // namespace
}  // namespace sg
