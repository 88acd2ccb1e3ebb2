// What the kernels of implicit_gemm.cuh and implicit_gemm_weights.cuh are given, for
// conv2d_cuda.cu.
#pragma once
#include "core/cuda/column_sums.cuh"
#include "ops/conv2d/implicit_gemm_weights.cuh"
#include "ops/conv2d/tuning_cuda.h"

namespace sg::conv2d_cuda {

// Is the convolution one for these kernels?
inline bool is_conv3x3(In x, In w, const Conv2dGeometry& g) {
  const int64_t c = x.dim(3);
  return x.dtype() == Dtype::bf16 && w.dim(1) == 3 && w.dim(2) == 3 && w.dim(0) == c &&
         (c == 64 || c == 96) && g.stride <= 2;
}

// The taps of a phase: of row, or column, `at` of the output; f(place in the input, kernel's row).
template <class F>
void for_taps(bool gradient, int at, int padding, int stride, const F& f) {
  for (int k = 0; k < 3; ++k) {
    // The gradient's pixel is under tap k of window (at + padding - k) / stride, where that is
    // whole.
    const int from = gradient ? at + padding - k : k - padding;
    if (!gradient)
      f(from, k);
    else if (from % stride == 0)
      f(from / stride, k);
  }
}

// y, the convolution of x, or the gradient of x from that of y, `in` to `out`.
inline TapSum tap_sum(bool gradient, In in, In out, const Conv2dGeometry& g) {
  const int stride = gradient ? g.stride : 1;
  TapSum p{.in_height = int(in.dim(1)),
           .in_width = int(in.dim(2)),
           .out_height = int(out.dim(1)),
           .out_width = int(out.dim(2)),
           .batch = in.dim(0),
           .rows = (int(out.dim(1)) + stride - 1) / stride,
           .columns = (int(out.dim(2)) + stride - 1) / stride,
           .out_stride = stride,
           .phases = stride * stride,
           .first_row = 3,
           .first_column = 3,
           .extra_rows = 0,
           .extra_columns = 0,
           .phase = {}};
  int last_row = -3, last_column = -3;
  for (int i = 0; i < p.phases; ++i) {
    Phase& phase = p.phase[i];
    phase.row = i / stride, phase.column = i % stride;
    for_taps(gradient, phase.row, g.top, g.stride, [&](int row, int ky) {
      for_taps(gradient, phase.column, g.left, g.stride, [&](int column, int kx) {
        phase.taps[phase.count++] = {row, column, 3 * ky + kx};
        p.first_row = std::min(p.first_row, row), last_row = std::max(last_row, row);
        p.first_column = std::min(p.first_column, column);
        last_column = std::max(last_column, column);
      });
    });
  }
  p.extra_rows = last_row - p.first_row, p.extra_columns = last_column - p.first_column;
  return p;
}

template <int C, int S>
int halo_size(const TapSum& p) {
  return Tile<C, S>::halo_rows_of(p) * Tile<C, S>::halo_width_of(p) * C;
}

// f(C, N): N of the C channels of the output make a slice.
template <class F>
void with_channels(int64_t channels, const F& f) {
  if (channels == 64)
    f(std::integral_constant<int, 64>(), std::integral_constant<int, 64>());
  else
    f(std::integral_constant<int, 96>(), std::integral_constant<int, 32>());
}

// Blocks a slice, for `tiles` of work.
inline int blocks_of(int tiles, int slices, int a_multiprocessor) {
  return std::clamp(conv2d_cuda::tuning.multiprocessors * a_multiprocessor / slices, 1, tiles);
}

template <int S, bool Transposed>
void run_taps(Stream& stream, const TapSum& p, In in, In w, const TapOut& out) {
  with_channels(in.dim(3), [&](auto channels, auto slice) {
    constexpr int C = decltype(channels)::value, N = decltype(slice)::value;
    const int blocks = blocks_of(Tile<C, S>::tiles_of(p), C / N, 2);
    cuda::launch(stream,
                 {Transposed ? "conv2d.taps_bwd" : "conv2d.taps_fwd",
                  {unsigned(blocks), C / N},
                  kTapThreads,
                  size_t(9 * C * N + halo_size<C, S>(p)) * sizeof(bf16)},
                 taps_kernel<C, N, S, Transposed>, p, in.data<bf16>(), w.data<bf16>(), out);
  });
}

inline void conv3x3_forward(Stream& stream, In x, In w, In b, const Conv2dGeometry& g, Out y) {
  const TapSum p = tap_sum(false, x, y, g);
  const TapOut out{y.data<bf16>(), b ? b.data<bf16>() : nullptr, false};
  if (g.stride == 1)
    run_taps<1, false>(stream, p, x, w, out);
  else
    run_taps<2, false>(stream, p, x, w, out);
}

inline void conv3x3_backward_input(Stream& stream, In dy, In w, const Conv2dGeometry& g,
                                   const Grad& dx) {
  run_taps<1, true>(stream, tap_sum(true, dy, dx.tensor, g), dy, w,
                    {dx.tensor.data<bf16>(), nullptr, dx.accumulate});
}

template <int C, int N, int S>
void run_taps_weights(Stream& stream, const TapSum& p, In x, In dy, const Grad& dw) {
  const int blocks = blocks_of(Tile<C, S>::tiles_of(p), C / N, 1);
  const int buffer = Tile<C, S>::kRows * kTileColumns * N + halo_size<C, S>(p);
  Tensor parts = empty({blocks, 9 * C * C}, Dtype::f32, stream.device);
  cuda::launch(stream,
               {"conv2d.implicit_gemm_weights",
                {unsigned(blocks), C / N},
                kGradThreads<C>,
                2 * size_t(buffer) * sizeof(bf16)},
               taps_weights_kernel<C, N, S>, p, buffer, x.data<bf16>(), dy.data<bf16>(),
               parts.data<float>());
  cuda::column_sums(stream, parts.data<float>(), blocks, 9 * C * C,
                    cuda::GradPtr<float>{dw.tensor.data<float>(), dw.accumulate});
}

inline void conv3x3_backward_weights(Stream& stream, In dy, In x, const Conv2dGeometry& g,
                                     const Grad& dw) {
  const TapSum p = tap_sum(false, x, dy, g);
  const bool narrow = x.dim(3) == 64;
  if (g.stride == 1)
    (narrow ? run_taps_weights<64, 64, 1> : run_taps_weights<96, 48, 1>)(stream, p, x, dy, dw);
  else
    (narrow ? run_taps_weights<64, 64, 2> : run_taps_weights<96, 48, 2>)(stream, p, x, dy, dw);
}

}  // namespace sg::conv2d_cuda
