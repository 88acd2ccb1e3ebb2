// x and dy are read once from device memory and dx is written once. With dz the gradient before the
// activation, dx is the transposed convolution of dz, and the gradients of weights and bias are
// sums over pixels of x dz.
//
// A block has strips side by side, whole rows where it can, for some channels, and walks down the
// rows of one or more images. add_gelu makes dz of each pixel once, from the pre-activation
// recomputed; neighbouring strips hand each other the columns at their ends in shared memory (a
// barrier a row). A row of dz at once gives its part to three rows of dx, and with three rows of x,
// of which two are kept in shared memory, to the sums of the weights, which stay in registers. Each
// block leaves its sums in device memory, to be added up in order.
#include "ops/depthwise3x3/depthwise3x3_cuda.cuh"
#include "ops/reduce_cuda.cuh"

namespace sg::depthwise {
namespace {

using kernels::Columns, kernels::DepthwiseForm;

// How blocks share the work. Where a row takes several blocks that exchange columns, the strips at
// their ends (`beside`: one at each) are there for their neighbours alone.
struct BackwardSplit {
  int lanes, strips, beside;  // of a block; lanes have the channels
  unsigned groups, segments;  // blocks over the channels, and along a row
  int rows, all_rows;         // of a block, and of the whole batch
  bool whole;                 // every thread has channels and a strip that lies inside the map
};

template <int N>
struct GradSums {
  Vec<float, N> tap[3][3], bias, dx;
};

// The strip and the channels that a thread works on.
template <int N>
struct ThreadStrip {
  int lane, index, c, first;  // index and first column of the strip
  bool active, own;           // is there such a strip with such channels; are its results wanted
  int begin, end;             // rows of dy, counted over the batch
  int part;                   // number of the block among those with the same channels
  __device__ ThreadStrip(const BackwardSplit& s, int channels, int width) {
    const int inner = s.strips - 2 * s.beside;
    lane = int(threadIdx.x) % s.lanes, index = int(threadIdx.x) / s.lanes;
    c = (int(blockIdx.x % s.groups) * s.lanes + lane) * N;
    part = int(blockIdx.x / s.groups);
    first = (part % int(s.segments) * inner - s.beside + index) * kStrip;
    active = index < s.strips && c < channels && first >= 0 && first < width;
    own = active && index >= s.beside && index < s.strips - s.beside;
    if (!active) c = 0;
    begin = part / int(s.segments) * s.rows, end = std::min(begin + s.rows, s.all_rows);
  }
};

// tap[b] += sum over the strip of s[j] row[S j + b]; `transposed`: the taps in reverse.
template <int S, bool transposed, int N, int Count, int M>
__device__ __forceinline__ void add_products(const Vec<float, N> (&s)[Count],
                                             const Vec<float, N> (&row)[M],
                                             Vec<float, N> (&tap)[3]) {
  static_assert(Count >= kStrip && M == S * (kStrip - 1) + 3);
#pragma unroll
  for (int b = 0; b < 3; ++b)
#pragma unroll
    for (int j = 0; j < kStrip; ++j)
#pragma unroll
      for (int n = 0; n < N; ++n)
        tap[b][n] = fmaf(s[j][n], row[S * j + (transposed ? 2 - b : b)][n], tap[b][n]);
}

template <int N>
__device__ __forceinline__ void add(Vec<float, N>& sum, const Vec<float, N>& v) {
#pragma unroll
  for (int n = 0; n < N; ++n) sum[n] += v[n];
}

// Writes, or adds, a row of the gradient, and adds it to `sum`; `usual`: writes, and all of it.
template <bool usual, class T, int N, int M>
__device__ __forceinline__ void put_row(const Vec<float, N> (&v)[M], bool accumulate, T* first,
                                        int ld, unsigned inside, Vec<float, N>& sum) {
  Vec<float, N> row = {};
#pragma unroll
  for (int m = 0; m < M; ++m) {
    T* const at = first + m * int64_t{ld};
    if (!usual && !(inside >> m & 1)) continue;
    Vec<float, N> to = v[m];
    add<N>(row, to);
    if (!usual && accumulate) {
      Pixel<T, N> before;
      before.load(at), add<N>(to, before.floats());
    }
    Pixel<T, N>::of(to).store(at);
  }
  add<N>(sum, row);
}

// Partial sums of the blocks: (parts, 9, channels), and twice (parts, channels).
struct Partial {
  float *taps, *bias, *dx;
};

// Adds the sums of the strips of a block, in order.
template <int N>
__device__ __forceinline__ void put_sums(const GradSums<N>& sums, float scale,
                                         const BackwardSplit& s, int part, int channels,
                                         Partial partial) {
  constexpr int kAll = 11;
  __shared__ Vec<float, N> all[kAll][kThreads];
#pragma unroll
  for (int t = 0; t < 9; ++t) all[t][threadIdx.x] = sums.tap[t / 3][t % 3];
  all[9][threadIdx.x] = sums.bias, all[10][threadIdx.x] = sums.dx;
  __syncthreads();
  for (int i = int(threadIdx.x); i < kAll * s.lanes; i += int(blockDim.x)) {
    const int t = i / s.lanes, lane = i % s.lanes;
    const int c = (int(blockIdx.x % s.groups) * s.lanes + lane) * N;
    if (c >= channels) continue;
    Vec<float, N> sum = {};
    for (int k = s.beside; k < s.strips - s.beside; ++k) add<N>(sum, all[t][k * s.lanes + lane]);
#pragma unroll
    for (int n = 0; n < N; ++n) sum[n] *= t < 10 ? scale : 1;
    float* const to = t < 9 ? partial.taps + (int64_t{part} * 9 + t) * channels
                            : (t == 9 ? partial.bias : partial.dx) + int64_t{part} * channels;
    cuda::store<N>(to + c, sum);
  }
}

// f(image, first row, last row + 1) for the rows begin .. end of the batch.
template <class F>
__device__ __forceinline__ void each_image(int begin, int end, int h, const F& f) {
  while (begin < end) {
    const int first = begin % h, last = std::min(h, first + end - begin);
    f(begin / h, first, last);
    begin += last - first;
  }
}

// `usual`: blocks are full (BackwardSplit), dx is written and not added to.
template <class T, int N, bool gelu, bool usual>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 2 && (usual || !gelu) ? 3 : 2)
    backward_kernel(Map<const T> x, Map<const T> dy, const float* w, const float* b, int channels,
                    BackwardSplit split, Map<T> dx, bool accumulate, Partial partial) {
  // By parity of the row: a thread's own row of x; the columns of dz at the ends of all strips for
  // their neighbours, with zeros before the first strip and behind the last.
  constexpr int kLeft = kStrip * kThreads, kRight = kLeft + 2 * kThreads;
  constexpr int kParity = gelu ? kRight + 2 * kThreads : kLeft;
  __shared__ Vec<float, N> shared[2 * kParity];
  constexpr float kScale = gelu ? cuda::kGeluScale<T> : 1;
  constexpr int kX = gelu ? 1 : 0, kDy = 1 - kX;  // columns to read beside a strip
  const ThreadStrip<N> strip(split, channels, x.w);
  const Taps<N> taps(w, b, channels, strip.c, gelu, kScale);
  const int h = x.h, self = int(threadIdx.x), lanes = split.lanes;
  const unsigned inside = strip.active ? inside_bits<kStrip + 2>(strip.first - 1, x.w) : 0;
  const unsigned in_x = gelu ? inside : inside >> 1, in_dy = gelu ? inside >> 1 : inside;
  const unsigned in_dx = inside >> 1;
  const bool wanted = usual || (strip.own && dx.data);
  __shared__ Vec<float, N> dx_sum[kThreads];  // a register too many
  dx_sum[self] = {};
  GradSums<N> sums = {};
  if constexpr (gelu)
    for (int i = self; i < lanes; i += int(blockDim.x))
      for (int at = 0; at < 2 * kParity; at += kParity)
        shared[at + kRight + i] = shared[at + kLeft + split.strips * lanes + i] = {};

  each_image(strip.begin, strip.end, h, [&](int image, int begin, int end) {
    const int first_dz = std::max(begin - 1, 0), last_dz = std::min(end, h - 1);
    Sweep<N, false> z;
    Sweep<N, true> back;
    z.start(taps.bias), back.start({});
    Pixels<T, N, kStrip + 2 * kX> x_next;
    Pixels<T, N, kStrip + 2 * kDy> dy_next;
    int r = std::max(begin - 2, 0);
    const T* x_at = x.at(image, r, strip.first - kX, strip.c);
    const T* dy_at = dy.at(image, first_dz, strip.first - kDy, strip.c);
    T* dx_at = dx.at(image, begin, strip.first, strip.c);
    int own = self;  // strip of row r - 2 of x, and then of row r
    const auto other = [&] { return kParity + 2 * self - own; };  // of row r - 1
    const auto keep = [&](const Vec<float, N>(&row)[kStrip + 2 * kX]) {
#pragma unroll
      for (int j = 0; j < kStrip; ++j) shared[own + j * kThreads] = row[kX + j];
      own = other();
    };

    keep({});  // row -1, where the map begins
    x_next.template load<usual>(x_at, x.ld, in_x);
    for (; r <= first_dz; ++r) {
      Vec<float, N> row[kStrip + 2 * kX];
      x_next.floats(row), keep(row);
      if constexpr (gelu) z.advance(taps, row, taps.bias);
      if (x_at += x.row; r < h - 1)
        x_next.template load<usual>(x_at, x.ld, in_x);
      else
        x_next = {};
    }
    dy_next.template load<usual>(dy_at, dy.ld, in_dy);
    // With row r of x, row r - 1 of dz and row r - 2 of dx are complete.
    for (; r <= last_dz + 1; ++r) {
      Vec<float, N> row[kStrip + 2 * kX], middle[kStrip], dz[kStrip + 2];
      x_next.floats(row);
      if constexpr (gelu) {
        Strip<N> v;
        z.finish(taps, row, v);
#pragma unroll
        for (int j = 0; j < kStrip; ++j) {
          dz[1 + j] = dy_next.at[j].floats();
#pragma unroll
          for (int n = 0; n < N; ++n) dz[1 + j][n] *= cuda::scaled_gelu_grad<T>(v[j][n]);
        }
        if (usual || strip.index < split.strips)  // a thread without a strip writes nothing
          shared[own + kLeft] = dz[1], shared[own + kRight + lanes] = dz[kStrip];
        z.advance(taps, row, taps.bias);
      } else {
        dy_next.floats(dz);
      }
      // The rows after, as far as the map has them; a block that ends inside reads one too many.
      if (x_at += x.row, dy_at += dy.row; r < h - 1) {
        x_next.template load<usual>(x_at, x.ld, in_x);
        dy_next.template load<usual>(dy_at, dy.ld, in_dy);
      } else {
        x_next = {};
        if (r < h) dy_next.template load<usual>(dy_at, dy.ld, in_dy);
      }
      if constexpr (gelu) {
        __syncthreads();
        dz[0] = shared[own + kRight], dz[kStrip + 1] = shared[own + kLeft + lanes];
      }

      if (r > begin && r <= end) {  // else row r - 1 of dz counts for another block
#pragma unroll
        for (int j = 0; j < kStrip; ++j) add<N>(sums.bias, dz[1 + j]);
#pragma unroll
        for (int j = 0; j < kStrip; ++j) middle[j] = shared[own + j * kThreads];
        add_products<1, true>(middle, dz, sums.tap[0]);
#pragma unroll
        for (int j = 0; j < kStrip; ++j) middle[j] = shared[other() + j * kThreads];
        add_products<1, true>(middle, dz, sums.tap[1]);
#pragma unroll
        for (int j = 0; j < kStrip; ++j) middle[j] = row[kX + j];
        add_products<1, true>(middle, dz, sums.tap[2]);
      }
      keep(row);
      Strip<N> done;
      back.finish(taps, dz, done), back.advance(taps, dz, {});
      if (r - 2 < begin) continue;
      if (wanted) put_row<usual>(done, accumulate, dx_at, dx.ld, in_dx, dx_sum[self]);
      dx_at += dx.row;
    }
    // The last row of a map has no row of dz below it.
    if (end == h && wanted)
      put_row<usual>(back.before, accumulate, dx_at, dx.ld, in_dx, dx_sum[self]);
    if constexpr (gelu) __syncthreads();  // what strips hand over, before the next image
  });
  sums.dx = dx_sum[self];
  put_sums(sums, kScale, split, strip.part, channels, partial);
}

// The part that a row of dy (one column more than the strip) gives to a row of dx at stride 2.
template <int N>
__device__ __forceinline__ void spread_row(const Vec<float, N> (&w)[3],
                                           const Vec<float, N> (&dy)[kStrip + 1],
                                           Vec<float, N> (&dx)[2 * kStrip]) {
#pragma unroll
  for (int j = 0; j < kStrip; ++j)
#pragma unroll
    for (int n = 0; n < N; ++n) {
      dx[2 * j][n] = fmaf(w[1][n], dy[j][n], dx[2 * j][n]);
      dx[2 * j + 1][n] = fmaf(w[2][n], dy[j][n], dx[2 * j + 1][n]);
      dx[2 * j + 1][n] = fmaf(w[0][n], dy[j + 1][n], dx[2 * j + 1][n]);
    }
}

// Stride 2, plain: rows i and i + 1 of dy give rows 2i and 2i + 1 of dx, and with those rows of x
// their part of the sums.
template <class T, int N>
__global__ void __launch_bounds__(kThreads, 2)
    backward2_kernel(Map<const T> x, Map<const T> dy, const float* w, int channels,
                     BackwardSplit split, Map<T> dx, bool accumulate, Partial partial) {
  const ThreadStrip<N> strip(split, channels, dy.w);
  const Taps<N> taps(w, nullptr, channels, strip.c, false);
  constexpr int kRow = 2 * kStrip + 1;
  const int column = 2 * strip.first;
  const unsigned in_x = strip.active ? inside_bits<kRow>(column - 1, x.w) : 0;
  const unsigned in_dy = strip.active ? inside_bits<kStrip + 1>(strip.first, dy.w) : 0;
  const unsigned in_dx = strip.active ? inside_bits<2 * kStrip>(column, x.w) : 0;
  __shared__ Vec<float, N> dx_sum[kThreads];
  dx_sum[threadIdx.x] = {};
  GradSums<N> sums = {};

  each_image(strip.begin, strip.end, dy.h, [&](int image, int begin, int end) {
    const T* x_at = x.at(image, 2 * begin, column - 1, strip.c);
    const T* dy_at = dy.at(image, begin, strip.first, strip.c);
    T* dx_at = dx.at(image, 2 * begin, column, strip.c);
    Vec<float, N> here[kStrip + 1], below[kStrip + 1], row[kRow];
    Pixels<T, N, kStrip + 1> dy_next;
    Pixels<T, N, kRow> x_next;
    dy_next.load(dy_at, dy.ld, in_dy);
    x_next.load(x_at, x.ld, in_x);
    dy_next.floats(below);
    for (int i = begin; i < end; ++i) {
#pragma unroll
      for (int j = 0; j <= kStrip; ++j) here[j] = below[j];
      if (dy_at += dy.row; i + 1 < dy.h)
        dy_next.load(dy_at, dy.ld, in_dy);
      else
        dy_next = {};
      const bool odd_row = 2 * i + 1 < x.h;
      x_next.floats(row);
      dy_next.floats(below);
      add_products<2, false>(here, row, sums.tap[1]);
      if (x_at += x.row; odd_row) x_next.load(x_at, x.ld, in_x);
#pragma unroll
      for (int j = 0; j < kStrip; ++j) add<N>(sums.bias, here[j]);
      if (dx.data) {
        Vec<float, N> sum[2 * kStrip] = {};
        spread_row(taps.at[1], here, sum);
        put_row<false>(sum, accumulate, dx_at, dx.ld, in_dx, dx_sum[threadIdx.x]);
        dx_at += dx.row;
      }
      if (!odd_row) break;
      x_next.floats(row);
      add_products<2, false>(here, row, sums.tap[2]);
      add_products<2, false>(below, row, sums.tap[0]);
      if (x_at += x.row; i + 1 < end) x_next.load(x_at, x.ld, in_x);
      if (dx.data) {
        Vec<float, N> sum[2 * kStrip] = {};
        spread_row(taps.at[2], here, sum), spread_row(taps.at[0], below, sum);
        put_row<false>(sum, accumulate, dx_at, dx.ld, in_dx, dx_sum[threadIdx.x]);
        dx_at += dx.row;
      }
    }
  });
  sums.dx = dx_sum[threadIdx.x];
  put_sums(sums, 1, split, strip.part, channels, partial);
}

// A block takes as many whole images as make kRows rows, so that sums are few and no row is read
// twice, unless that leaves a GPU with too few blocks.
BackwardSplit split_work(In dy, int64_t vectors, bool exchange) {
  constexpr int64_t kMaxStrips = 16, kRows = 28, kFewestRows = 7, kEnoughThreads = 1024 * kThreads;
  const int64_t all = cuda::ceil_div(dy.dim(2), kStrip), strips = std::min(all, kMaxStrips);
  const int64_t beside = exchange && all > strips ? 1 : 0;
  const int64_t segments = cuda::ceil_div(all, strips - 2 * beside);
  int64_t lanes = 1;
  while (2 * lanes * strips <= kThreads && lanes < vectors) lanes *= 2;
  const int64_t h = dy.dim(1), threads = vectors * strips * segments;
  int64_t rows = h * cuda::ceil_div(kRows, h);
  while (rows > kFewestRows && cuda::ceil_div(dy.dim(0) * h, rows) * threads < kEnoughThreads)
    rows = cuda::ceil_div(rows, 2);
  return {int(lanes),
          int(strips),
          int(beside),
          unsigned(cuda::ceil_div(vectors, lanes)),
          unsigned(segments),
          int(rows),
          int(dy.dim(0) * h),
          dy.dim(2) % kStrip == 0 && all == strips && vectors % lanes == 0 &&
              lanes * strips % cuda::kWarp == 0};
}

void backward(Stream& stream, In dy, In x, Columns cols, In w, In b, int stride, DepthwiseForm form,
              Grad dx, Out dx_sums, Grad dw, Grad db) {
  const int64_t channels = w.dim(2), all_rows = dy.dim(0) * dy.dim(1);
  check(all_rows <= INT32_MAX, "depthwise3x3: a batch of {} rows is more than 2^31 - 1", all_rows);
  const bool gelu = form == DepthwiseForm::add_gelu;
  dispatch<float, bf16>(x.dtype(), "depthwise3x3", [&]<class T>() {
    with_channels(channels, cols, [&](auto width) {
      constexpr int N = decltype(width)::value;
      const BackwardSplit s = split_work(dy, channels / N, gelu);
      const int64_t parts = cuda::ceil_div(all_rows, s.rows) * s.segments;
      Tensor dw_parts = empty({parts, 1, 9 * channels}, Dtype::f32, x.device());
      Tensor db_parts = empty({parts, 1, channels}, Dtype::f32, x.device());
      Tensor dx_parts = empty_like(db_parts);
      const Partial partial{dw_parts.data<float>(), db_parts.data<float>(), dx_parts.data<float>()};
      const Map<const T> from(x, cols), grad(dy, {0, channels});
      const Map<T> to = dx ? Map<T>(dx.tensor, cols) : Map<T>();
      const int64_t threads = cuda::ceil_div(s.lanes * s.strips, cuda::kWarp) * cuda::kWarp;
      const cuda::Launch launch{"depthwise3x3.bwd", unsigned(parts * s.groups), unsigned(threads)};
      const float *taps = w.data<float>(), *bias = b ? b.data<float>() : nullptr;
      const bool usual = s.whole && dx && !dx.accumulate;
      const auto kernel =
          gelu    ? usual ? backward_kernel<T, N, true, true> : backward_kernel<T, N, true, false>
             : usual ? backward_kernel<T, N, false, true>
                  : backward_kernel<T, N, false, false>;
      if (stride == 2)
        cuda::launch(stream, launch, backward2_kernel<T, N>, from, grad, taps, int(channels), s, to,
                     dx.accumulate, partial);
      else
        cuda::launch(stream, launch, kernel, from, grad, taps, bias, int(channels), s, to,
                     dx.accumulate, partial);
      if (dw) cuda::sum_parts(stream, "depthwise3x3.bwd.sum", dw_parts, {dw});
      if (db) cuda::sum_parts(stream, "depthwise3x3.bwd.sum", db_parts, {db});
      if (dx_sums) cuda::sum_parts(stream, "depthwise3x3.bwd.sum", dx_parts, {Grad{dx_sums}});
    });
  });
}
const Register r{kernels::depthwise3x3_bwd, DeviceType::cuda, backward};

}  // namespace
}  // namespace sg::depthwise
