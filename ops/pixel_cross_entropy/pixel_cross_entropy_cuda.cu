// Bound by arithmetic: an exp a class and pixel in forward, and about 1.3 in backward.
//
// Forward: a thread a pixel, which reads the four logits around it class by class (neighbours read
// the same ones, from the cache) and keeps a running maximum.
// Backward: a thread a class. It walks along kRows rows of the map, and holds its logits and sums
// of gradients in registers: between each column and the next it goes over the pixels there. So
// sums have a set order, and pixels at the border of a walk are computed by both walks.
#include "core/cuda/kernel.cuh"
#include "ops/bilinear_resize/axis.h"
#include "ops/pixel_cross_entropy/pixel_cross_entropy.h"
#include "ops/reduce_cuda.cuh"

namespace sg {
namespace {

constexpr int kThreads = 256;
constexpr int kChunk = 8;                // classes between two looks at the maximum
constexpr int kRows = 4, kColumns = 16;  // of a walk

struct Problem {
  const uint8_t* labels;
  BilinearAxis rows, columns;
  int classes, ignore;
  int64_t pixels;  // of all labels
};

// e^x. In f32 as exact as the library's: x is not rounded after a product.
template <class T>
__device__ __forceinline__ float exp_of(float x) {
  if constexpr (std::is_same_v<T, bf16>)
    return cuda::exp2_fast(x * 1.4426950408889634f);
  else
    return expf(x);
}

// softmax: of each pixel its largest logit, and 1 / sum exp(z - that), or null; a sum of losses
// a block. A label that is out of range makes its loss and gradient NaN.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const T* logits, Problem p, float* softmax, float* sums) {
  __shared__ float scratch[cuda::kWarp + 1];
  const int64_t pixel = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  float loss = 0;
  if (const int label = pixel < p.pixels ? int(p.labels[pixel]) : p.ignore; label != p.ignore) {
    const unsigned column = unsigned(pixel % p.columns.out);
    const unsigned row = unsigned(pixel / p.columns.out % p.rows.out);
    const int64_t image = pixel / p.columns.out / p.rows.out;
    const unsigned x = p.columns.at(column), y = p.rows.at(row);
    const float tx = p.columns.t<float>(column, x), ty = p.rows.t<float>(row, y);
    const auto from = [&](unsigned y, unsigned x) {
      return logits + ((image * p.rows.in + y) * p.columns.in + x) * p.classes;
    };
    const T* const corners[4] = {from(y, x), from(y, p.columns.next(x)), from(p.rows.next(y), x),
                                 from(p.rows.next(y), p.columns.next(x))};
    float top = -INFINITY, sum = 0, own = 0;
#pragma unroll 1
    for (int first = 0; first < p.classes; first += kChunk) {
      float z[kChunk], most = top;
#pragma unroll
      for (int i = 0; i < kChunk; i += N) {
        if (first + i >= p.classes) {
#pragma unroll
          for (int j = 0; j < N; ++j) z[i + j] = -INFINITY;
          continue;
        }
        cuda::Vec<float, N> v[4];
#pragma unroll
        for (int k = 0; k < 4; ++k) v[k] = cuda::load_float<N>(corners[k] + first + i);
#pragma unroll
        for (int j = 0; j < N; ++j) {
          const float left = fmaf(ty, v[2][j] - v[0][j], v[0][j]);
          const float right = fmaf(ty, v[3][j] - v[1][j], v[1][j]);
          z[i + j] = fmaf(tx, right - left, left);
          most = fmaxf(most, z[i + j]);
          if (first + i + j == label) own = z[i + j];
        }
      }
      sum *= exp_of<T>(top - most);
      top = most;
#pragma unroll
      for (int i = 0; i < kChunk; ++i) sum += exp_of<T>(z[i] - top);
    }
    if (label >= p.classes) sum = NAN;
    loss = (top - own) + logf(sum);
    if (softmax) softmax[2 * pixel] = top, softmax[2 * pixel + 1] = 1.0f / sum;
  }
  loss = cuda::block_sum(loss, scratch);
  if (threadIdx.x == 0) sums[blockIdx.x] = loss;
}

__global__ void __launch_bounds__(kThreads)
    mean_kernel(const float* sums, int64_t count, float pixels, float* loss) {
  __shared__ float scratch[cuda::kWarp + 1];
  float sum = 0;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < count; i += kThreads) sum += sums[i];
  sum = cuda::block_sum(sum, scratch);
  if (threadIdx.x == 0) *loss = sum / pixels;
}

// Thread (walk, class).
template <class T>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const float* dloss, const T* logits, Problem p, const float* softmax,
                    cuda::GradPtr<T> dlogits, int64_t walks, int per_block) {
  const int slot = int(threadIdx.x) / p.classes, own = int(threadIdx.x) % p.classes;
  int64_t walk = int64_t{blockIdx.x} * per_block + slot;
  if (slot >= per_block || walk >= walks) return;
  const int h = int(p.rows.in), w = int(p.columns.in);
  const int runs = (w + kColumns - 1) / kColumns, bands = (h + kRows - 1) / kRows;
  const int x_begin = int(walk % runs) * kColumns;
  const int x_end = x_begin + kColumns < w ? x_begin + kColumns : w;
  walk /= runs;
  const int y_begin = int(walk % bands) * kRows;
  const int64_t image = walk / bands;
  const float scale = *dloss / float(p.pixels);
  const float to_t = 1.0f / float(2 * p.columns.out);

  const auto at = [&](int y, int x) { return ((image * h + y) * w + x) * p.classes + own; };
  // Of rows y_begin - 1 to y_begin + kRows, at the left and right column.
  float left[kRows + 2], right[kRows + 2];
  const auto load_column = [&](int x, float(&z)[kRows + 2]) {
#pragma unroll
    for (int r = 0; r < kRows + 2; ++r) {
      const int y = y_begin - 1 + r;
      z[r] = cuda::to_float(logits[at(y < 0 ? 0 : y < h ? y : h - 1, x)]);
    }
  };
  float to_left[kRows] = {}, to_right[kRows];  // sums of rows y_begin to y_begin + kRows - 1
  const int x_first = x_begin > 0 ? x_begin - 1 : 0;
  load_column(x_first, left);
#pragma unroll 1
  for (int x = x_first; x < x_end; ++x) {
    const bool last = x + 1 == w;
    load_column(last ? x : x + 1, right);
#pragma unroll
    for (int r = 0; r < kRows; ++r) to_right[r] = 0;
    const unsigned column_begin = p.columns.first(unsigned(x));
    const unsigned column_end = p.columns.first(unsigned(x) + 1);
    // t of the first column, in parts of 1 / (2 columns.out); 2 columns.in more at each.
    const int place =
        int((2 * column_begin + 1) * p.columns.in - p.columns.out) - 2 * x * int(p.columns.out);
#pragma unroll
    for (int r = 0; r <= kRows; ++r) {
      const int y = y_begin - 1 + r;
      if (y < 0 || y >= h) continue;
      for (unsigned row = p.rows.first(unsigned(y)); row < p.rows.first(unsigned(y) + 1); ++row) {
        const float ty = p.rows.t<float>(row, unsigned(y));
        const float z = fmaf(ty, left[r + 1] - left[r], left[r]);
        const float slope = fmaf(ty, right[r + 1] - right[r], right[r]) - z;
        const int64_t line = (image * p.rows.out + row) * p.columns.out;
        float sum = 0, moment = 0;  // of the gradients of logits, and of those times t
        int t_place = place;
        for (unsigned column = column_begin; column < column_end; ++column) {
          const float t = float(t_place > 0 ? t_place : 0) * to_t;
          t_place += 2 * int(p.columns.in);
          const int label = p.labels[line + column];
          if (label == p.ignore) continue;
          const auto of = cuda::load<2>(softmax + 2 * (line + column));
          float d = exp_of<T>(fmaf(t, slope, z) - of.v[0]) * of.v[1];
          if (label == own) d -= 1.0f;
          sum += d, moment = fmaf(t, d, moment);
        }
        // The row above has 1 - ty of it and the row below ty.
        const float below_left = ty * (sum - moment), below_right = ty * moment;
        if (r > 0) {
          const bool both = y + 1 == h;
          to_left[r - 1] += both ? sum - moment : sum - moment - below_left;
          to_right[r - 1] += both ? moment : moment - below_right;
        }
        if (r < kRows && y + 1 < h) to_left[r] += below_left, to_right[r] += below_right;
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (last) to_left[r] += to_right[r];
      if (x >= x_begin && y_begin + r < h) dlogits.put(at(y_begin + r, x), scale * to_left[r]);
      to_left[r] = to_right[r];
    }
#pragma unroll
    for (int r = 0; r < kRows + 2; ++r) left[r] = right[r];
  }
}

Problem problem_of(In logits, In labels, int ignore) {
  return {labels.data<uint8_t>(),
          {unsigned(logits.dim(1)), unsigned(labels.dim(1))},
          {unsigned(logits.dim(2)), unsigned(labels.dim(2))},
          int(logits.dim(3)),
          ignore,
          labels.numel()};
}

void forward(Stream& stream, In logits, In labels, int ignore, Out softmax, Out loss) {
  const Problem p = problem_of(logits, labels, ignore);
  const int64_t blocks = cuda::ceil_div(p.pixels, kThreads);
  Tensor sums = empty({blocks}, Dtype::f32, logits.device());
  dispatch<float, bf16>(logits.dtype(), "pixel_cross_entropy on cuda", [&]<class T>() {
    cuda::with_vectors<T>(p.classes, [&](auto n) {
      cuda::launch(stream, {"pixel_cross_entropy.fwd", unsigned(blocks), kThreads},
                   forward_kernel<T, decltype(n)::value>, logits.data<T>(), p,
                   softmax ? softmax.data<float>() : nullptr, sums.data<float>());
    });
  });
  cuda::launch(stream, {"pixel_cross_entropy.mean", 1, kThreads}, mean_kernel, sums.data<float>(),
               blocks, float(p.pixels), loss.data<float>());
}

void backward(Stream& stream, In dloss, In logits, In labels, int ignore, In softmax,
              Grad dlogits) {
  if (!dlogits) return;
  const Problem p = problem_of(logits, labels, ignore);
  const int64_t walks = logits.dim(0) * cuda::ceil_div(logits.dim(1), kRows) *
                        cuda::ceil_div(logits.dim(2), kColumns);
  const int per_block = std::max(1, kThreads / p.classes);
  const int64_t threads = cuda::ceil_div(per_block * p.classes, cuda::kWarp) * cuda::kWarp;
  dispatch<float, bf16>(logits.dtype(), "pixel_cross_entropy on cuda", [&]<class T>() {
    cuda::launch(
        stream,
        {"pixel_cross_entropy.bwd", unsigned(cuda::ceil_div(walks, per_block)), unsigned(threads)},
        backward_kernel<T>, dloss.data<float>(), logits.data<T>(), p, softmax.data<float>(),
        cuda::grad_ptr<T>(dlogits), walks, per_block);
  });
}

const Register r0{kernels::pixel_cross_entropy_fwd, DeviceType::cuda, forward};
const Register r1{kernels::pixel_cross_entropy_bwd, DeviceType::cuda, backward};

}  // namespace
}  // namespace sg
