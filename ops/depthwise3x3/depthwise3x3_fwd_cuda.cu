// Each element of x is read once from device memory and each of y written once (and read once where
// it is added to); the two columns beside a strip come from the caches. A thread needs no other.
#include "ops/depthwise3x3/depthwise3x3_cuda.cuh"

namespace sg::depthwise {
namespace {

using kernels::Columns, kernels::DepthwiseForm;

// How the work is split: a block has up to kThreads pairs of strip and channels of one chunk of
// rows of one image.
struct ForwardSplit {
  unsigned blocks_per_chunk, chunks;
  int chunk_rows;
};

template <DepthwiseForm form, class T, int N>
__device__ __forceinline__ void put(const Strip<N>& sums, const Pixels<T, N, kStrip>& old, T* out,
                                    int ld, unsigned inside) {
  Pixels<T, N, kStrip> to;
#pragma unroll
  for (int j = 0; j < kStrip; ++j) {
    Vec<float, N> v = sums[j];
    const Vec<float, N> before = old.at[j].floats();
#pragma unroll
    for (int n = 0; n < N; ++n) {
      if (form == DepthwiseForm::add_into) v[n] += before[n];
      if (form == DepthwiseForm::add_gelu) v[n] = cuda::gelu<T>(v[n]);
    }
    to.at[j] = Pixel<T, N>::of(v);
  }
  to.store(out, ld, inside);
}

template <class T, int N, int S, DepthwiseForm form>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 2 ? 4 : 3)
    forward_kernel(Map<const T> x, const float* w, const float* b, int channels, ForwardSplit split,
                   Map<T> y) {
  const int64_t chunk = blockIdx.x / split.blocks_per_chunk, image = chunk / split.chunks;
  const int64_t place = int64_t{blockIdx.x % split.blocks_per_chunk} * blockDim.x + threadIdx.x;
  const int lanes = channels / N, c = int(place % lanes) * N;
  if (place / lanes * kStrip >= y.w) return;
  const int first = int(place / lanes) * kStrip;  // column of y
  const int begin = int(chunk % split.chunks) * split.chunk_rows;
  const int end = std::min(begin + split.chunk_rows, y.h);

  constexpr int kRow = S * (kStrip - 1) + 3;
  const Taps<N> taps(w, b, channels, c, form == DepthwiseForm::add_gelu);
  const unsigned from = inside_bits<kRow>(S * first - 1, x.w);
  const unsigned to = inside_bits<kStrip>(first, y.w);
  int r = std::max(S * begin - 1, 0);
  const int last = S * (end - 1) + 1;  // may be the row below the map
  const T* in = x.at(image, r, S * first - 1, c);
  T* out = y.at(image, begin, first, c);
  Sweep<N, false> sweep;  // at stride 2 only `here` is in use
  sweep.start(taps.bias);
  Pixels<T, N, kRow> next;
  Pixels<T, N, kStrip> old;
  next.load(in, x.ld, from);
  for (; r <= last && r < x.h; ++r) {
    const bool completes = r > S * begin && (S == 1 || r % 2 == 1);
    if (form == DepthwiseForm::add_into && completes) old.load(out, y.ld, to);
    Vec<float, N> row[kRow];
    next.floats(row);
    if (in += x.row; r < last && r + 1 < x.h) next.load(in, x.ld, from);
    Strip<N> done;
    if constexpr (S == 1) {
      sweep.finish(taps, row, done), sweep.advance(taps, row, taps.bias);
    } else if (r % 2 == 0) {
      add_row<2, false>(taps.at[1], row, sweep.here, sweep.here);
    } else {
      add_row<2, false>(taps.at[2], row, sweep.here, done);
      fill<N>(sweep.here, taps.bias);
      add_row<2, false>(taps.at[0], row, sweep.here, sweep.here);
    }
    if (!completes) continue;
    put<form>(done, old, out, y.ld, to);
    out += y.row;
  }
  if (last < x.h) return;  // else a row of the result has no row below it
  if (form == DepthwiseForm::add_into) old.load(out, y.ld, to);
  put<form>(S == 1 ? sweep.before : sweep.here, old, out, y.ld, to);
}

// Whole columns, unless that leaves a GPU with too few warps: a chunk reads up to two rows beside
// its own.
ForwardSplit split_rows(int64_t images, int64_t rows, int64_t places) {
  constexpr int64_t kEnoughBlocks = 1024, kFewestRows = 7;
  const int64_t blocks = cuda::ceil_div(places, kThreads);
  int64_t chunk = rows;
  while (chunk > kFewestRows && images * cuda::ceil_div(rows, chunk) * blocks < kEnoughBlocks)
    chunk = cuda::ceil_div(chunk, 2);
  return {unsigned(blocks), unsigned(cuda::ceil_div(rows, chunk)), int(chunk)};
}

void forward(Stream& stream, In x, Columns cols, In w, In b, int stride, DepthwiseForm form,
             Out y) {
  const int64_t channels = w.dim(2);
  if (y.numel() == 0) return;
  dispatch<float, bf16>(x.dtype(), "depthwise3x3", [&]<class T>() {
    with_channels(channels, cols, [&](auto width) {
      constexpr int N = decltype(width)::value;
      const int64_t places = channels / N * cuda::ceil_div(y.dim(2), kStrip);
      const ForwardSplit split = split_rows(y.dim(0), y.dim(1), places);
      const unsigned blocks = unsigned(y.dim(0)) * split.chunks * split.blocks_per_chunk;
      const auto start = [&](auto kernel) {
        cuda::launch(stream, {"depthwise3x3.fwd", blocks, kThreads}, kernel, Map<const T>(x, cols),
                     w.data<float>(), b ? b.data<float>() : nullptr, int(channels), split,
                     Map<T>(y, {0, channels}));
      };
      if (stride == 2)
        start(forward_kernel<T, N, 2, DepthwiseForm::plain>);
      else if (form == DepthwiseForm::plain)
        start(forward_kernel<T, N, 1, DepthwiseForm::plain>);
      else if (form == DepthwiseForm::add_into)
        start(forward_kernel<T, N, 1, DepthwiseForm::add_into>);
      else
        start(forward_kernel<T, N, 1, DepthwiseForm::add_gelu>);
    });
  });
}
const Register r{kernels::depthwise3x3_fwd, DeviceType::cuda, forward};

}  // namespace
}  // namespace sg::depthwise
