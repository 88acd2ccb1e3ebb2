// Building blocks of kernels. A kernel file includes this and its op's header; it is compiled by
// nvcc, and as plain C++ by the emulation (tests/emulation), which has its own launch.cuh, ptx.cuh
// and cuda_runtime.h. So kernels use no other CUDA header, no inline assembly and no <<<>>>.
//
// Conventions: a block is a multiple of 32 threads; all threads of a warp reach each warp function,
// and all threads of a block each block function; sums have a set order, there are no
// floating-point atomics.
#pragma once
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/cuda/launch.cuh"
#include "core/cuda/ptx.cuh"
#include "core/tensor.h"

namespace sg::cuda {

constexpr int kWarp = 32;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// N consecutive elements, loaded and stored as one access where the address is a multiple of their
// size: 16 bytes are the widest.
template <class T, int N>
struct alignas(sizeof(T) * N) Vec {
  T v[N];
  __device__ T& operator[](int i) { return v[i]; }
  __device__ const T& operator[](int i) const { return v[i]; }
};
template <int N, class T>
__device__ __forceinline__ Vec<T, N> load(const T* p) {
  return *reinterpret_cast<const Vec<T, N>*>(p);
}
template <int N, class T>
__device__ __forceinline__ void store(T* p, const Vec<T, N>& v) {
  *reinterpret_cast<Vec<T, N>*>(p) = v;
}

// N consecutive elements as floats, and back (rounded to nearest even).
template <int N, class T>
__device__ __forceinline__ Vec<float, N> load_float(const T* p) {
  const Vec<T, N> t = load<N>(p);
  Vec<float, N> f;
#pragma unroll
  for (int i = 0; i < N; ++i) f[i] = to_float(t[i]);
  return f;
}
template <int N, class T>
__device__ __forceinline__ void store_float(T* p, const Vec<float, N>& f) {
  Vec<T, N> t;
#pragma unroll
  for (int i = 0; i < N; ++i) t[i] = from_float<T>(f[i]);
  store<N>(p, t);
}

// f(std::integral_constant<int, N>) for the most elements N of T that one access holds and that
// divide n, so that rows of n stay aligned. Tensors, and rows of whole vectors, are aligned.
template <class T, class F>
void with_vectors(int64_t n, const F& f) {
  if constexpr (sizeof(T) == 2)
    if (n % 8 == 0) return f(std::integral_constant<int, 8>());
  if (n % 4 == 0) return f(std::integral_constant<int, 4>());
  if (n % 2 == 0) return f(std::integral_constant<int, 2>());
  f(std::integral_constant<int, 1>());
}

struct Sum {
  __device__ float operator()(float a, float b) const { return a + b; }
};
struct Max {
  __device__ float operator()(float a, float b) const { return a > b ? a : b; }
};

// Over the 32 lanes of a warp, or groups of `Lanes` neighbours; every lane gets the result.
template <int Lanes = kWarp, class F>
__device__ __forceinline__ float warp_reduce(float v, F f) {
#pragma unroll
  for (int offset = Lanes / 2; offset > 0; offset /= 2) v = f(v, shuffle_xor(v, offset));
  return v;
}
template <int Lanes = kWarp>
__device__ __forceinline__ float warp_sum(float v) {
  return warp_reduce<Lanes>(v, Sum());
}
template <int Lanes = kWarp>
__device__ __forceinline__ float warp_max(float v) {
  return warp_reduce<Lanes>(v, Max());
}

// Over all threads of a block, by every thread. `scratch` holds 33 floats in shared memory and may
// be used again at once.
template <class F>
__device__ __forceinline__ float block_reduce(float v, float identity, float* scratch, F f) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  v = warp_reduce(v, f);
  if (lane == 0) scratch[warp] = v;
  __syncthreads();
  if (warp == 0) {
    v = warp_reduce(lane < warps ? scratch[lane] : identity, f);
    if (lane == 0) scratch[kWarp] = v;
  }
  __syncthreads();
  v = scratch[kWarp];
  __syncthreads();
  return v;
}
__device__ __forceinline__ float block_sum(float v, float* scratch) {
  return block_reduce(v, 0.0f, scratch, Sum());
}

// Standard normal distribution function, the exact GELU, and its derivative, for results of type T.
// f32: x P(x^2) / Q(x^2) + 1/2, the fits of core/cpu/simd-inl.h (error 3e-7 with rounding; beyond
// the limits exactly 0 and 1), at a third of the price of erf and exp. bf16: the logistic function
// 1 / (1 + 2^(x P(x^2))), in half the instructions; an error of 3.2e-5 in gelu and 1.5e-4 in
// gelu_grad (tests/emulation/kernel_test.cpp) is far below the rounding of the result. The
// derivative at an infinite x is then not a number.
__device__ __forceinline__ float logistic(float x) { return reciprocal(1.0f + exp2_fast(x)); }

template <class T>
__device__ __forceinline__ float normal_cdf(float x) {
  if constexpr (std::is_same_v<T, bf16>) {
    const float t = fminf(x * x, 50.0f);  // beyond, P would rise again
    return logistic(x * fmaf(fmaf(9.84421372e-04f, t, -1.06544597e-01f), t, -2.30146676f));
  } else {
    x = fminf(fmaxf(x, -5.598f), 5.598f);
    const float t = x * x;
    float p = 2.214532761e-08f, q = 1.180213015e-06f;
    p = fmaf(p, t, 6.356539835e-06f), q = fmaf(q, t, 7.510206290e-05f);
    p = fmaf(p, t, 1.738510680e-04f), q = fmaf(q, t, 1.912979990e-03f);
    p = fmaf(p, t, 4.707261393e-03f), q = fmaf(q, t, 2.894010382e-02f);
    p = fmaf(p, t, 3.437613347e-02f), q = fmaf(q, t, 2.528339011e-01f);
    p = fmaf(p, t, 3.989422216e-01f), q = fmaf(q, t, 1.0f);
    return divide(x * p, q) + 0.5f;
  }
}
template <class T>
__device__ __forceinline__ float gelu(float x) {
  return x * normal_cdf<T>(x);
}

// s gelu_grad(s x), s = 1 / kGeluScale<T>: cheaper where the caller folds s into what makes x.
template <class T>
constexpr float kGeluScale = std::is_same_v<T, bf16> ? 0.8493218f : 1.0f;  // sqrt(log2(e) / 2)
template <class T>
__device__ __forceinline__ float scaled_gelu_grad(float x) {
  constexpr float kScale = kGeluScale<T>;
  if constexpr (std::is_same_v<T, bf16>) {
    const float t = fmaf(-x, x, -0.8545144f);  // 2^t: the density at s x, times s^2
    const float u = x * fmaf(t, 0.1661658f, -2.5717668f);
    return fmaf(x, exp2_fast(t), reciprocal(fmaf(exp2_fast(u), kScale, kScale)));
  } else {
    x = fminf(fmaxf(x, -5.826f), 5.826f);
    const float t = x * x;
    float p = 1.929292738e-07f, q = 8.952419342e-06f;
    p = fmaf(p, t, 3.595594343e-05f), q = fmaf(q, t, 1.920363442e-04f);
    p = fmaf(p, t, 1.922029832e-05f), q = fmaf(q, t, 3.523034409e-03f);
    p = fmaf(p, t, 1.423030671e-02f), q = fmaf(q, t, 4.098020671e-02f);
    p = fmaf(p, t, -3.099586854e-02f), q = fmaf(q, t, 2.944940241e-01f);
    p = fmaf(p, t, 7.978853613e-01f), q = fmaf(q, t, 1.0f);
    return divide(x * p, q) + 0.5f;
  }
}
template <class T>
__device__ __forceinline__ float gelu_grad(float x) {
  return kGeluScale<T> * scaled_gelu_grad<T>(kGeluScale<T> * x);
}

// Where a gradient goes, in a kernel: written, or added to what is there; nowhere where null.
template <class T>
struct GradPtr {
  T* data;
  bool accumulate;
  __device__ explicit operator bool() const { return data != nullptr; }
  __device__ void put(int64_t i, float v) const {
    data[i] = from_float<T>(accumulate ? to_float(data[i]) + v : v);
  }
  template <int N>
  __device__ void put(int64_t i, const Vec<float, N>& v) const {
    Vec<float, N> sum{};
    if (accumulate) sum = load_float<N>(data + i);
#pragma unroll
    for (int j = 0; j < N; ++j) sum[j] += v[j];
    store_float<N>(data + i, sum);
  }
};

}  // namespace sg::cuda
