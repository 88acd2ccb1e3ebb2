// A thread has some channels of one pixel of the result: in the forward pass it reads the 16 pixels
// around, in the backward pass all those of the output that read it, so that no two share a sum.
// The tables are small and stay in the caches.
#include "core/cuda/kernel.cuh"
#include "ops/bicubic_resize/bicubic_resize.h"

namespace sg {
namespace {

using cuda::Vec;

constexpr int kThreads = 128;

// One axis. Output position i has its centre at ((2i + 1) in - out) / (2 out) of the input: exact
// integers until the last step, since f32 positions would cost digits of the weights.
struct Axis {
  int64_t in, out;

  // Input positions and weights of an output position; `at` is clamped to the edge.
  struct Taps {
    int64_t at[4];
    float weight[4];
  };
  __device__ Taps taps(int64_t i) const {
    constexpr float a = -0.75f;
    const auto near = [](float t) { return ((a + 2) * t - (a + 3)) * t * t + 1; };  // t <= 1
    const auto far = [](float t) {
      return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a;
    };  // 1 < t < 2
    const int64_t centre = (2 * i + 1) * in - out;
    const int64_t whole = centre < 0 ? -1 : centre / (2 * out);
    const float t = float(centre - whole * 2 * out) / float(2 * out);
    Taps p{{}, {far(t + 1), near(t), near(1 - t), far(2 - t)}};
    for (int k = 0; k < 4; ++k) p.at[k] = std::min(std::max(whole - 1 + k, int64_t{0}), in - 1);
    return p;
  }

  // [first, last): the output positions that may read input position r, since `whole` is between
  // r - 2 and r + 1. Clamping brings no others to r.
  __device__ int64_t first(int64_t r) const {
    return std::max((((2 * r - 3) * out - in) + 2 * in - 1) / (2 * in), int64_t{0});
  }
  __device__ int64_t last(int64_t r) const {
    return std::min(((2 * r + 5) * out - in + 2 * in - 1) / (2 * in), out);
  }
  // Weight of input position r in output position i.
  __device__ float weight(int64_t i, int64_t r) const {
    const Taps p = taps(i);
    float sum = 0;
    for (int k = 0; k < 4; ++k) sum += p.at[k] == r ? p.weight[k] : 0.0f;
    return sum;
  }
};

template <int N>
__device__ void multiply_add(float w, const float* from, Vec<float, N>& sum) {
  const auto v = cuda::load<N>(from);
#pragma unroll
  for (int n = 0; n < N; ++n) sum[n] = fmaf(w, v[n], sum[n]);
}

template <int N>
__global__ void forward_kernel(const float* x, Axis rows, Axis columns, int64_t channels,
                               float* y) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x, vectors = channels / N;
  if (i >= rows.out * columns.out * vectors) return;
  const Axis::Taps row = rows.taps(i / vectors / columns.out);
  const Axis::Taps column = columns.taps(i / vectors % columns.out);
  const int64_t c = i % vectors * N;
  Vec<float, N> sum = {};
  for (int p = 0; p < 4; ++p)
    for (int q = 0; q < 4; ++q)
      multiply_add<N>(row.weight[p] * column.weight[q],
                      x + (row.at[p] * columns.in + column.at[q]) * channels + c, sum);
  cuda::store<N>(y + i * N, sum);
}

template <int N>
__global__ void backward_kernel(const float* dy, Axis rows, Axis columns, int64_t channels,
                                cuda::GradPtr<float> dx) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x, vectors = channels / N;
  if (i >= rows.in * columns.in * vectors) return;
  const int64_t r = i / vectors / columns.in, q = i / vectors % columns.in, c = i % vectors * N;
  Vec<float, N> sum = {};
  for (int64_t y = rows.first(r); y < rows.last(r); ++y) {
    const float weight = rows.weight(y, r);
    for (int64_t x = columns.first(q); x < columns.last(q); ++x)
      multiply_add<N>(weight * columns.weight(x, q), dy + (y * columns.out + x) * channels + c,
                      sum);
  }
#pragma unroll
  for (int n = 0; n < N; ++n) dx.put(i * N + n, sum[n]);
}

// Starts kernel(N) with a thread for every N channels of `pixels` pixels.
template <class F>
void each_vector(int64_t pixels, int64_t channels, const F& start) {
  cuda::with_vectors<float>(channels, [&](auto width) {
    start(width, unsigned(cuda::ceil_div(pixels * channels / decltype(width)::value, kThreads)));
  });
}

void forward(Stream& stream, In x, Out y) {
  const Axis rows{x.dim(0), y.dim(0)}, columns{x.dim(1), y.dim(1)};
  each_vector(rows.out * columns.out, y.dim(2), [&](auto width, unsigned blocks) {
    cuda::launch(stream, {"bicubic_resize.fwd", blocks, kThreads}, forward_kernel<width>,
                 x.data<float>(), rows, columns, y.dim(2), y.data<float>());
  });
}

void backward(Stream& stream, In dy, Grad dx) {
  if (!dx) return;
  const Out to = dx.tensor;
  const Axis rows{to.dim(0), dy.dim(0)}, columns{to.dim(1), dy.dim(1)};
  each_vector(rows.in * columns.in, to.dim(2), [&](auto width, unsigned blocks) {
    cuda::launch(stream, {"bicubic_resize.bwd", blocks, kThreads}, backward_kernel<width>,
                 dy.data<float>(), rows, columns, to.dim(2),
                 cuda::GradPtr<float>{to.data<float>(), dx.accumulate});
  });
}

const Register r_fwd{kernels::bicubic_resize_fwd, DeviceType::cuda, forward};
const Register r_bwd{kernels::bicubic_resize_bwd, DeviceType::cuda, backward};

}  // namespace
}  // namespace sg
