// One pass: a thread a vector, all of one sample. Bytes are the least there can be: x, branch and y
// once forward; dy and dbranch once backward.
#include "ops/drop_path/drop_path.h"
#include "ops/reduce_cuda.cuh"

namespace sg {
namespace {

constexpr int kThreads = 256;

// Blocks of one sample follow each other: `chunks` of them for its `vectors`.
struct Samples {
  int64_t vectors;
  unsigned chunks;
};

// f(N, samples, grid) with the vector width for samples of n elements.
template <class T, class F>
void each_sample(int64_t batch, int64_t n, const F& f) {
  cuda::with_vectors<T>(n, [&](auto width) {
    const int64_t vectors = n / decltype(width)::value;
    const auto chunks = unsigned(cuda::ceil_div(vectors, kThreads));
    f(width, Samples{vectors, chunks}, unsigned(batch) * chunks);
  });
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const T* x, const T* branch, const float* keep, T* y, Samples s) {
  const int64_t sample = int64_t{blockIdx.x / s.chunks};
  const int64_t i = int64_t{blockIdx.x % s.chunks} * kThreads + threadIdx.x;
  if (i >= s.vectors) return;
  const int64_t at = (sample * s.vectors + i) * N;
  auto sum = cuda::load_float<N>(x + at);
  const auto more = cuda::load_float<N>(branch + at);
  const float k = keep ? keep[sample] : 1.0f;
#pragma unroll
  for (int j = 0; j < N; ++j) sum[j] = fmaf(k, more[j], sum[j]);
  cuda::store_float<N>(y + at, sum);
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const T* dy, const float* keep, cuda::GradPtr<T> dbranch, Samples s) {
  const int64_t sample = int64_t{blockIdx.x / s.chunks};
  const int64_t i = int64_t{blockIdx.x % s.chunks} * kThreads + threadIdx.x;
  if (i >= s.vectors) return;
  const int64_t at = (sample * s.vectors + i) * N;
  auto v = cuda::load_float<N>(dy + at);
  const float k = keep[sample];
#pragma unroll
  for (int j = 0; j < N; ++j) v[j] *= k;
  dbranch.put(at, v);
}

void forward(Stream& stream, In x, In branch, In keep, Out y) {
  const int64_t batch = keep ? x.dim(0) : 1;
  dispatch<float, bf16>(x.dtype(), "drop_path", [&]<class T>() {
    each_sample<T>(batch, batch ? x.numel() / batch : 0, [&](auto width, Samples s, unsigned grid) {
      cuda::launch(stream, {"drop_path.fwd", grid, kThreads},
                   forward_kernel<T, decltype(width)::value>, x.data<T>(), branch.data<T>(),
                   keep ? keep.data<float>() : nullptr, y.data<T>(), s);
    });
  });
}

void backward(Stream& stream, In dy, In keep, Grad dbranch) {
  const int64_t batch = dy.dim(0);
  dispatch<float, bf16>(dy.dtype(), "drop_path", [&]<class T>() {
    each_sample<T>(batch, batch ? dy.numel() / batch : 0,
                   [&](auto width, Samples s, unsigned grid) {
                     cuda::launch(stream, {"drop_path.bwd", grid, kThreads},
                                  backward_kernel<T, decltype(width)::value>, dy.data<T>(),
                                  keep.data<float>(), cuda::grad_ptr<T>(dbranch), s);
                   });
  });
}

const Register r0{kernels::drop_path_fwd, DeviceType::cuda, forward};
const Register r1{kernels::drop_path_bwd, DeviceType::cuda, backward};

}  // namespace
}  // namespace sg
