#include "ops/conv2d/patchify.h"

#include "core/cuda/column_sums.cuh"
#include "ops/conv2d/patchify.cuh"
#include "ops/conv2d/tuning_cuda.h"

namespace sg::conv2d_cuda {
namespace {

MapWindows windows_of(In x, In y, const Conv2dGeometry& g) {
  const int down = int(y.dim(1)), across = int(y.dim(2)), segment = g.stride * int(x.dim(3)) / 8;
  return {.side = g.stride,
          .height = int(x.dim(1)),
          .width = int(x.dim(2) * x.dim(3) / 8),
          .count = int(y.dim(0)) * down * across,
          .down = down,
          .across = across,
          .segment = segment,
          .by_down = Divisor(down),
          .by_across = Divisor(across),
          .by_segment = Divisor(segment)};
}

// A matrix whose rows are the first `first` dimensions.
Matrix matrix_of(In t, int first) {
  int64_t rows = 1;
  for (int i = 0; i < first; ++i) rows *= t.dim(i);
  return {int(rows), int(t.numel() / rows / 8)};
}

int64_t slots() { return int64_t{conv2d_cuda::tuning.multiprocessors} * kMergeBlocks; }

// Sums are split where tiles are too few to fill the GPU, if `split` allows.
template <int M, int N>
Work work_of(int64_t rows, int64_t columns, int64_t terms, bool split) {
  const int across = int(cuda::ceil_div(columns, N));
  const int tiles = int(cuda::ceil_div(rows, M)) * across;
  const int64_t chunks = cuda::ceil_div(terms, kChunk);
  const int64_t parts = split ? std::clamp<int64_t>(slots() / tiles, 1, chunks) : 1;
  const int steps = int(cuda::ceil_div(chunks, parts));
  return {tiles, across, int(cuda::ceil_div(chunks, steps)), steps};
}

template <int M, int N, bool LeftTermRows, bool RightTermRows, class Left, class Right, class Out>
void run(Stream& stream, const char* name, const Work& work, const Operand<Left>& left,
         const Operand<Right>& right, const Out& out) {
  const int64_t blocks = std::min<int64_t>(int64_t{work.tiles} * work.parts, slots());
  cuda::launch(stream,
               {name, unsigned(blocks), kMergeThreads,
                size_t(kMergeBuffers<M, N> * kMergeBuffer<M, N>) * sizeof(bf16)},
               merge_kernel<M, N, LeftTermRows, RightTermRows, Left, Right, Out>, work, left, right,
               out);
}

// f(N): tiles are N channels of the result wide, and 128 windows, or elements of windows, long.
template <class F>
void with_tile(int64_t filters, const F& f) {
  if (filters % 96 == 0)
    f(std::integral_constant<int, 96>());
  else if (filters % 128 == 0)
    f(std::integral_constant<int, 128>());
  else
    f(std::integral_constant<int, 64>());
}

// y = the sum of `parts` parts, in order, and the bias. A thread takes four elements.
__global__ void __launch_bounds__(kMergeThreads)
    sum_parts_kernel(const float* parts, int count, int64_t size, const bf16* bias, int filters,
                     bf16* y) {
  const int64_t at = (int64_t{blockIdx.x} * kMergeThreads + threadIdx.x) * 4;
  if (at >= size) return;
  auto sum = cuda::load_float<4>(parts + at);
  for (int i = 1; i < count; ++i) add_from(sum, parts + i * size + at);
  if (bias) add_from(sum, bias + at % filters);
  cuda::store_float<4>(y + at, sum);
}

}  // namespace

bool is_patchify(In x, In w, const Conv2dGeometry& g, In y) {
  return x.dtype() == Dtype::bf16 && w.dim(1) == g.stride && w.dim(2) == g.stride && g.top == 0 &&
         g.left == 0 && y.dim(1) * g.stride >= x.dim(1) && y.dim(2) * g.stride >= x.dim(2) &&
         x.dim(3) % 8 == 0 && w.dim(0) % 8 == 0 && g.stride * x.dim(3) < kMaxSegment &&
         std::max({x.numel(), w.numel(), y.numel()}) < kMaxElements;
}

void patchify_forward(Stream& stream, In x, In w, In b, const Conv2dGeometry& g, Out y) {
  const Operand<MapWindows> windows{x.data<bf16>(), windows_of(x, y, g)};
  const Operand<Matrix> weights{w.data<bf16>(), matrix_of(w, 1)};
  const int64_t filters = w.dim(0), size = y.numel();
  const bf16* const bias = b ? b.data<bf16>() : nullptr;
  with_tile(filters, [&](auto tile) {
    constexpr int M = 128, N = decltype(tile)::value;
    const Work work = work_of<M, N>(size / filters, filters, w.numel() / filters, true);
    const auto product = [&]<class T>(T* to, const bf16* of_columns) {
      run<M, N, false, false>(stream, "conv2d.merge_fwd", work, windows, weights,
                              Result<T, Matrix>{to, matrix_of(y, 3), size / 8, of_columns, false});
    };
    if (work.parts == 1) return product(y.data<bf16>(), bias);
    Tensor parts = empty({work.parts, size}, Dtype::f32, stream.device);
    product(parts.data<float>(), nullptr);
    cuda::launch(
        stream,
        {"conv2d.sum_parts", unsigned(cuda::ceil_div(size, 4 * kMergeThreads)), kMergeThreads},
        sum_parts_kernel, parts.data<float>(), work.parts, size, bias, int(filters),
        y.data<bf16>());
  });
}

void patchify_backward_input(Stream& stream, In dy, In w, const Conv2dGeometry& g, const Grad& dx) {
  constexpr int M = 128, N = 128;
  const int64_t filters = w.dim(0);
  run<M, N, false, true>(
      stream, "conv2d.merge_bwd",
      work_of<M, N>(dy.numel() / filters, w.numel() / filters, filters, false),
      Operand<Matrix>{dy.data<bf16>(), matrix_of(dy, 3)},
      Operand<Matrix>{w.data<bf16>(), matrix_of(w, 1)},
      Result<bf16, MapWindows>{dx.tensor.data<bf16>(), windows_of(dx.tensor, dy, g), 0, nullptr,
                               dx.accumulate});
}

void patchify_backward_weights(Stream& stream, In dy, In x, const Conv2dGeometry& g,
                               const Grad& dw) {
  const int64_t filters = dy.dim(3), size = dw.tensor.numel();
  with_tile(filters, [&](auto tile) {
    constexpr int M = decltype(tile)::value, N = 128;
    const Work work = work_of<M, N>(filters, size / filters, dy.numel() / filters, true);
    Tensor parts = empty({work.parts, size}, Dtype::f32, stream.device);
    run<M, N, true, true>(stream, "conv2d.merge_weights", work,
                          Operand<Matrix>{dy.data<bf16>(), matrix_of(dy, 3)},
                          Operand<MapWindows>{x.data<bf16>(), windows_of(x, dy, g)},
                          Result<float, Matrix>{parts.data<float>(), matrix_of(dw.tensor, 1),
                                                size / 8, nullptr, false});
    cuda::column_sums(stream, parts.data<float>(), work.parts, size,
                      cuda::GradPtr<float>{dw.tensor.data<float>(), dw.accumulate});
  });
}

}  // namespace sg::conv2d_cuda
