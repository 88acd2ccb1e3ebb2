// A warp a pixel, its lanes over the classes, which they keep in registers. The map is read from
// the cache: neighbouring pixels read the same logits.
#include "core/cuda/kernel.cuh"
#include "ops/resized_labels/blend.h"
#include "ops/resized_labels/resized_labels.h"

namespace sg {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / cuda::kWarp;
constexpr int kHeld = 8;  // classes a lane: 255 at most

template <class T>
struct FromMap {
  const T* logits;
  BilinearAxis rows, image_rows, columns, image_columns;
  int classes;
  bool flipped;

  // z[v]: class lane + 32 v of the pixel.
  __device__ void load(int64_t pixel, int lane, float (&z)[kHeld]) const {
    const unsigned width = image_columns.out;
    const unsigned x = unsigned(pixel % width), y = unsigned(pixel / width % image_rows.out);
    const T* const map =
        logits + pixel / width / image_rows.out * rows.in * columns.in * classes + lane;
    const Blend<float> down(rows, image_rows, y);
    const Blend<float> across(columns, image_columns, flipped ? width - 1 - x : x);
#pragma unroll
    for (int v = 0; v < kHeld; ++v) z[v] = 0;
#pragma unroll
    for (int p = 0; p < 4; ++p) {
      if (down.weight[p] == 0) continue;
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        const float weight = down.weight[p] * across.weight[q];
        if (weight == 0) continue;
        const T* const from = map + (int64_t{down.at[p]} * columns.in + across.at[q]) * classes;
#pragma unroll
        for (int v = 0; v < kHeld; ++v)
          if (lane + v * cuda::kWarp < classes)
            z[v] = fmaf(weight, cuda::to_float(from[v * cuda::kWarp]), z[v]);
      }
    }
  }
};

template <class T>
struct FromScores {
  const T* scores;
  int classes;
  __device__ void load(int64_t pixel, int lane, float (&z)[kHeld]) const {
#pragma unroll
    for (int v = 0; v < kHeld; ++v)
      z[v] = lane + v * cuda::kWarp < classes
                 ? cuda::to_float(scores[pixel * classes + lane + v * cuda::kWarp])
                 : 0.0f;
  }
};

template <class Source>
__global__ void __launch_bounds__(kThreads)
    argmax_kernel(Source source, int64_t pixels, uint8_t* labels) {
  const int lane = int(threadIdx.x) % cuda::kWarp;
  const int64_t pixel = int64_t{blockIdx.x} * kWarps + int(threadIdx.x) / cuda::kWarp;
  if (pixel >= pixels) return;
  float z[kHeld];
  source.load(pixel, lane, z);
  float most = -INFINITY;
  int where = lane;
#pragma unroll
  for (int v = 0; v < kHeld; ++v)
    if (const int i = lane + v * cuda::kWarp; i < source.classes && z[v] > most)
      most = z[v], where = i;
#pragma unroll
  for (int offset = cuda::kWarp / 2; offset > 0; offset /= 2) {
    const float other = cuda::shuffle_xor(most, offset);
    const int other_where = cuda::shuffle_xor(where, offset);
    if (other > most || (other == most && other_where < where)) most = other, where = other_where;
  }
  if (lane == 0) labels[pixel] = uint8_t(where);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    softmax_kernel(FromMap<T> source, int64_t pixels, float* sum) {
  const int lane = int(threadIdx.x) % cuda::kWarp;
  const int64_t pixel = int64_t{blockIdx.x} * kWarps + int(threadIdx.x) / cuda::kWarp;
  if (pixel >= pixels) return;
  float z[kHeld], top = -INFINITY, total = 0;
  source.load(pixel, lane, z);
  // f(v) for the classes of the lane.
  const auto each = [&](const auto& f) {
#pragma unroll
    for (int v = 0; v < kHeld; ++v)
      if (lane + v * cuda::kWarp < source.classes) f(v);
  };
  each([&](int v) { top = fmaxf(top, z[v]); });
  top = cuda::warp_max(top);
  each([&](int v) { total += z[v] = expf(z[v] - top); });
  const float factor = 1.0f / cuda::warp_sum(total);
  each([&](int v) {
    float& to = sum[pixel * source.classes + lane + v * cuda::kWarp];
    to = fmaf(z[v], factor, to);
  });
}

__global__ void __launch_bounds__(kThreads)
    scores_of_kernel(const float* scores, const uint8_t* labels, int64_t pixels, int classes,
                     float* found) {
  const int64_t pixel = int64_t{blockIdx.x} * kThreads + int(threadIdx.x);
  if (pixel >= pixels) return;
  const int label = labels[pixel];
  found[pixel] = label < classes ? scores[pixel * classes + label] : 0.0f;
}

template <class T>
FromMap<T> map_of(In logits, ImageSize seen, int64_t height, int64_t width, bool flipped) {
  const unsigned h = unsigned(seen.height), w = unsigned(seen.width);
  return {logits.data<T>(),
          {unsigned(logits.dim(1)), h},
          {h, unsigned(height)},
          {unsigned(logits.dim(2)), w},
          {w, unsigned(width)},
          int(logits.dim(3)),
          flipped};
}

cuda::Launch of_pixels(const char* name, int64_t pixels) {
  return {name, unsigned(cuda::ceil_div(pixels, kWarps)), kThreads};
}

void resized_argmax(Stream& stream, In logits, ImageSize seen, Out labels) {
  dispatch<float, bf16>(logits.dtype(), "resized_argmax on cuda", [&]<class T>() {
    cuda::launch(stream, of_pixels("resized_argmax", labels.numel()), argmax_kernel<FromMap<T>>,
                 map_of<T>(logits, seen, labels.dim(1), labels.dim(2), false), labels.numel(),
                 labels.data<uint8_t>());
  });
}

void add_resized_softmax(Stream& stream, In logits, ImageSize seen, bool flipped, Out sum) {
  const int64_t pixels = sum.dim(0) * sum.dim(1);
  dispatch<float, bf16>(logits.dtype(), "add_resized_softmax on cuda", [&]<class T>() {
    cuda::launch(stream, of_pixels("add_resized_softmax", pixels), softmax_kernel<T>,
                 map_of<T>(logits, seen, sum.dim(0), sum.dim(1), flipped), pixels,
                 sum.data<float>());
  });
}

void argmax(Stream& stream, In scores, Out labels) {
  dispatch<float, bf16>(scores.dtype(), "argmax on cuda", [&]<class T>() {
    cuda::launch(stream, of_pixels("argmax", labels.numel()), argmax_kernel<FromScores<T>>,
                 FromScores<T>{scores.data<T>(), int(scores.dim(2))}, labels.numel(),
                 labels.data<uint8_t>());
  });
}

void scores_of(Stream& stream, In scores, In labels, Out found) {
  dispatch<float>(scores.dtype(), "scores_of on cuda", [&]<class T>() {
    cuda::launch(stream,
                 {"scores_of", unsigned(cuda::ceil_div(labels.numel(), kThreads)), kThreads},
                 scores_of_kernel, scores.data<T>(), labels.data<uint8_t>(), labels.numel(),
                 int(scores.dim(2)), found.data<T>());
  });
}

const Register r0{kernels::resized_argmax, DeviceType::cuda, resized_argmax};
const Register r1{kernels::add_resized_softmax, DeviceType::cuda, add_resized_softmax};
const Register r2{kernels::argmax, DeviceType::cuda, argmax};
const Register r3{kernels::scores_of, DeviceType::cuda, scores_of};

}  // namespace
}  // namespace sg
