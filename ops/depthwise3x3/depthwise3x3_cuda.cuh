// What the forward and backward kernels of depthwise3x3 share.
//
// A thread has two channels (one where they are odd) of a strip of seven columns and walks down the
// rows. The widths of the network's maps are multiples of seven. Neighbouring lanes have
// neighbouring channels, so a warp reads whole lines of memory, and the next row is on its way
// while one is computed. A row is read once: what it gives to the three rows of the result around
// it is added to sums in registers (Sweep).
#pragma once
#include <bit>

#include "core/cuda/kernel.cuh"
#include "ops/depthwise3x3/depthwise3x3.h"

namespace sg::depthwise {

using cuda::Vec;

constexpr int kStrip = 7;
constexpr int kThreads = 128;  // of a block, at most

// N channels of a pixel as they lie in memory, in as few registers.
template <class T, int N>
struct Pixel {
  Vec<T, N> v;
  __device__ void load(const T* p) { v = cuda::load<N>(p); }
  __device__ void store(T* p) const { cuda::store<N>(p, v); }
  __device__ Vec<float, N> floats() const {
    Vec<float, N> f;
#pragma unroll
    for (int n = 0; n < N; ++n) f[n] = cuda::to_float(v[n]);
    return f;
  }
  __device__ static Pixel of(const Vec<float, N>& f) {
    Pixel p;
#pragma unroll
    for (int n = 0; n < N; ++n) p.v[n] = cuda::from_float<T>(f[n]);
    return p;
  }
};
template <>
struct Pixel<bf16, 2> {
  uint32_t pair;
  __device__ void load(const bf16* p) { pair = std::bit_cast<uint32_t>(cuda::load<2>(p)); }
  __device__ void store(bf16* p) const { cuda::store<2>(p, std::bit_cast<Vec<bf16, 2>>(pair)); }
  __device__ Vec<float, 2> floats() const {
    return {{std::bit_cast<float>(pair << 16), std::bit_cast<float>(pair & 0xffff0000u)}};
  }
  __device__ static Pixel of(const Vec<float, 2>& f) { return {cuda::pack_bf16(f.v[0], f.v[1])}; }
};

// M pixels of a row, side by side; bit m of `inside` says that pixel m is in the map. Those outside
// are zero from the start and stay so. Whole strips, the rule, need no test but at their ends;
// `whole`: it is known when the kernel is compiled.
template <class T, int N, int M>
struct Pixels {
  static constexpr unsigned kAll = (1u << M) - 1, kEnds = M == kStrip ? 0 : 1u << (M - 1) | 1u;
  Pixel<T, N> at[M] = {};
  template <bool whole = false>
  __device__ void load(const T* first, int ld, unsigned inside) {
    if (whole || (inside | kEnds) == kAll)
      load_if<kEnds>(first, ld, inside);
    else
      load_if<kAll>(first, ld, inside);
  }
  template <bool whole = false>
  __device__ void store(T* first, int ld, unsigned inside) const {
    if (whole || inside == kAll)
      store_if<0>(first, ld, inside);
    else
      store_if<kAll>(first, ld, inside);
  }
  template <int Count>
  __device__ void floats(Vec<float, N> (&f)[Count]) const {
    static_assert(Count == M);
#pragma unroll
    for (int m = 0; m < M; ++m) f[m] = at[m].floats();
  }

 private:
  template <unsigned tested>
  __device__ void load_if(const T* first, int ld, unsigned inside) {
#pragma unroll
    for (int m = 0; m < M; ++m)
      if (!(tested >> m & 1) || inside >> m & 1) at[m].load(first + m * int64_t{ld});
  }
  template <unsigned tested>
  __device__ void store_if(T* first, int ld, unsigned inside) const {
#pragma unroll
    for (int m = 0; m < M; ++m)
      if (!(tested >> m & 1) || inside >> m & 1) at[m].store(first + m * int64_t{ld});
  }
};

// Bits of the columns first, first + 1, .. that a row of `width` has.
template <int M>
__device__ __forceinline__ unsigned inside_bits(int first, int width) {
  unsigned bits = 0;
#pragma unroll
  for (int m = 0; m < M; ++m) bits |= unsigned(first + m >= 0 && first + m < width) << m;
  return bits;
}

// Channels of (B, h, w, ld) from a column on.
template <class T>
struct Map {
  T* data = nullptr;
  int h = 0, w = 0, ld = 0;
  int64_t row = 0;  // elements from a row to the next
  Map() = default;
  template <class InOrOut>
  Map(const InOrOut& t, kernels::Columns cols)
      : data(t.template data<std::remove_const_t<T>>() + cols.column),
        h(int(t.dim(1))),
        w(int(t.dim(2))),
        ld(int(cols.ld)),
        row(t.dim(2) * cols.ld) {}
  // Channel c of a pixel; it need not be in the map.
  __device__ T* at(int64_t image, int row, int column, int c) const {
    return data + (image * h + row) * this->row + int64_t{column} * ld + c;
  }
};

// Weights of N channels, times `scale`; a residual connection is 1 on the centre tap.
template <int N>
struct Taps {
  Vec<float, N> at[3][3], bias;
  __device__ Taps(const float* w, const float* b, int channels, int c, bool residual,
                  float scale = 1) {
#pragma unroll
    for (int t = 0; t < 9; ++t) at[t / 3][t % 3] = cuda::load<N>(w + t * channels + c);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      at[1][1][n] += residual ? 1.0f : 0.0f;
      bias[n] = scale * (b ? b[c + n] : 0);
#pragma unroll
      for (int t = 0; t < 9; ++t) at[t / 3][t % 3][n] *= scale;
    }
  }
};

template <int N>
using Strip = Vec<float, N>[kStrip];

template <int N>
__device__ __forceinline__ void fill(Strip<N>& s, const Vec<float, N>& v) {
#pragma unroll
  for (int j = 0; j < kStrip; ++j) s[j] = v;
}

// to[j] = from[j] + a row of taps over the pixels x[S j], x[S j + 1], x[S j + 2]; `transposed`: the
// taps in reverse.
template <int S, bool transposed, int N, int M>
__device__ __forceinline__ void add_row(const Vec<float, N> (&w)[3], const Vec<float, N> (&x)[M],
                                        const Strip<N>& from, Strip<N>& to) {
  static_assert(M == S * (kStrip - 1) + 3);
#pragma unroll
  for (int j = 0; j < kStrip; ++j)
#pragma unroll
    for (int n = 0; n < N; ++n) {
      float sum = from[j][n];
#pragma unroll
      for (int b = 0; b < 3; ++b) sum = fmaf(w[transposed ? 2 - b : b][n], x[S * j + b][n], sum);
      to[j][n] = sum;
    }
}

// A convolution of stride 1 whose input arrives row by row.
template <int N, bool transposed>
struct Sweep {
  Strip<N> before, here;  // sums of the rows before input row r and of row r, up to row r - 1
  __device__ void start(const Vec<float, N>& bias) { fill<N>(before, bias), fill<N>(here, bias); }
  // Row r - 1 of the result, given input row r.
  __device__ void finish(const Taps<N>& w, const Vec<float, N> (&x)[kStrip + 2],
                         Strip<N>& done) const {
    add_row<1, transposed>(w.at[transposed ? 0 : 2], x, before, done);
  }
  // Goes on to row r + 1.
  __device__ void advance(const Taps<N>& w, const Vec<float, N> (&x)[kStrip + 2],
                          const Vec<float, N>& bias) {
    Strip<N> fresh;
    fill<N>(fresh, bias);
    add_row<1, transposed>(w.at[1], x, here, before);
    add_row<1, transposed>(w.at[transposed ? 2 : 0], x, fresh, here);
  }
};

// f(integral_constant N): the channels a thread has.
template <class F>
void with_channels(int64_t channels, kernels::Columns cols, const F& f) {
  if (channels % 2 == 0 && cols.column % 2 == 0 && cols.ld % 2 == 0)
    f(std::integral_constant<int, 2>());
  else
    f(std::integral_constant<int, 1>());
}

}  // namespace sg::depthwise
