// One pass: pixels are read once (in mixed rows the partner's too) and numbers written once, 8 a
// thread and step. The 768 values that pixels can become are computed by each block, in f64 as on
// the CPU, and looked up in shared memory. Erased pixels are written over what their thread has
// just written.
#include <Random123/philox.h>

#include "core/cuda/kernel.cuh"
#include "ops/normalize_images/normalize_images.h"

namespace sg {
namespace {

constexpr int kThreads = 256, kSteps = 8;  // a thread a value in the table

struct ImageBatch {
  const uint8_t* pixels;
  const MixErase* changes;  // or null
  const int32_t* valid;     // or null
  int64_t batch;
  int height, width;
  int blocks;                      // an image
  double offset[3], deviation[3];  // 255 mean, 255 std
  __device__ int size() const { return height * width * 3; }
};

// As in normalize_images_cpu.cpp.
__device__ void noise_of(const RandomStream& s, uint32_t pixel, float (&noise)[3]) {
  const r123::Philox4x32::ctr_type counter{{pixel, s.counter[0], s.counter[1], s.counter[2]}};
  const r123::Philox4x32::key_type key{{s.key[0], s.key[1]}};
  const auto words = r123::Philox4x32()(counter, key);
  const auto length = [](uint32_t w) {
    return sqrtf(-2.0f * logf(float((w >> 8) + 1) * 0x1p-24f));
  };
  const auto half_turns = [](uint32_t w) { return float(w >> 8) * 0x1p-23f; };
  const float a = length(words.v[0]), b = length(words.v[2]);
  float sine, cosine;
  cuda::sincos_pi(half_turns(words.v[1]), sine, cosine);
  noise[0] = a * cosine, noise[1] = a * sine;
  cuda::sincos_pi(half_turns(words.v[3]), sine, cosine);
  noise[2] = b * cosine;
}

__device__ __forceinline__ int mix(float weight, int own, int partner) {
  return int(
      rintf(cuda::multiply(weight, float(own)) + cuda::multiply(1 - weight, float(partner))));
}

// v (+)= the partner's, for the elements from `first` on that lie in the box.
template <int N>
__device__ void mix_in(const ImageBatch& p, const MixErase& change, int first,
                       cuda::Vec<uint8_t, N>& v) {
  int y = first / 3 / p.width, x = first / 3 % p.width, channel = first % 3;
  const int last_y = (first + N - 1) / 3 / p.width;
  if (last_y < change.mixed.top || y >= change.mixed.bottom()) return;
  const auto partner = cuda::load<N>(p.pixels + int64_t{change.partner} * p.size() + first);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    if (change.mixed.has(y, x)) v[i] = uint8_t(mix(change.pixel_lambda, v[i], partner[i]));
    if (++channel == 3) channel = 0, ++x;
    if (x == p.width) x = 0, ++y;
  }
}

// 0 for the elements from `first` on that are padding.
template <int N>
__device__ void pad(const ImageBatch& p, const Box& valid, int first, cuda::Vec<float, N>& v) {
  int y = first / 3 / p.width, x = first / 3 % p.width, channel = first % 3;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    if (!valid.has(y, x)) v[i] = 0;
    if (++channel == 3) channel = 0, ++x;
    if (x == p.width) x = 0, ++y;
  }
}

// Writes the elements [first, first + n) of an image that lie in an erased box and are no padding.
template <class T>
__device__ void erase(const ImageBatch& p, const MixErase& change, const Box& valid, int first,
                      int n, T* y) {
#pragma unroll 1
  for (int pixel = first / 3; 3 * pixel < first + n; ++pixel) {
    int box = -1;  // the last one that covers the pixel
    for (int i = 0; i < kMaxErased && !change.erased[i].empty(); ++i)
      if (change.erased[i].has(pixel / p.width, pixel % p.width)) box = i;
    if (box < 0 || !valid.has(pixel / p.width, pixel % p.width)) continue;
    float value[3] = {};
    if (change.erase_mode != EraseMode::constant)
      noise_of(change.noise, uint32_t(change.erase_mode == EraseMode::colour ? box : pixel), value);
#pragma unroll
    for (int c = 0; c < 3; ++c) {
      const int i = 3 * pixel + c;
      if (i >= first && i < first + n) y[i] = cuda::from_float<T>(value[c]);
    }
  }
}

// Block i works at part i % p.blocks of image i / p.blocks.
template <class T, int N>
__global__ void __launch_bounds__(kThreads) normalize_kernel(ImageBatch p, T* y) {
  __shared__ float table[3 * 256];
#pragma unroll
  for (int c = 0; c < 3; ++c)
    table[c * 256 + threadIdx.x] = float((double(threadIdx.x) - p.offset[c]) / p.deviation[c]);
  const int64_t image = int64_t{blockIdx.x} / p.blocks;
  const int part = int(int64_t{blockIdx.x} % p.blocks);
  const MixErase* const change = p.changes ? p.changes + image : nullptr;
  const bool broken = change && (change->partner < 0 || change->partner >= p.batch);
  const bool mixed = change && !broken && !change->mixed.empty();
  const bool erased = change && !change->erased[0].empty();
  const Box valid{0, 0, p.valid ? p.valid[2 * image + 1] : p.width,
                  p.valid ? p.valid[2 * image] : p.height};
  const uint8_t* const from = p.pixels + image * p.size();
  y += image * p.size();
  __syncthreads();
#pragma unroll 1
  for (int step = 0; step < kSteps; ++step) {
    const int64_t place = ((int64_t{part} * kSteps + step) * kThreads + threadIdx.x) * N;
    if (place >= p.size()) break;
    const int first = int(place);
    auto v = cuda::load<N>(from + first);
    if (mixed) mix_in<N>(p, *change, first, v);
    cuda::Vec<float, N> out;
    int channel = first % 3;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      out[i] = broken ? NAN : table[channel * 256 + v[i]];
      channel = channel == 2 ? 0 : channel + 1;
    }
    if (p.valid) pad(p, valid, first, out);
    cuda::store_float<N>(y + first, out);
    if (erased) erase(p, *change, valid, first, N, y);
  }
}

void normalize_images(Stream& stream, In pixels, In changes, In valid, const ChannelStats& stats,
                      Out y) {
  dispatch<float, bf16>(y.dtype(), "normalize_images on cuda", [&]<class T>() {
    const int64_t size = y.dim(1) * y.dim(2) * 3;
    // As many values are read as written at a time.
    cuda::with_vectors<bf16>(size, [&](auto width) {
      constexpr int N = decltype(width)::value;
      ImageBatch p{pixels.data<uint8_t>(),
                   changes ? static_cast<const MixErase*>(changes.raw()) : nullptr,
                   valid ? valid.data<int32_t>() : nullptr,
                   y.dim(0),
                   int(y.dim(1)),
                   int(y.dim(2)),
                   int(cuda::ceil_div(size, kThreads * kSteps * N))};
      for (size_t c = 0; c < 3; ++c)
        p.offset[c] = 255 * stats.mean[c], p.deviation[c] = 255 * stats.std[c];
      cuda::launch(stream, {"normalize_images", unsigned(p.batch * p.blocks), kThreads},
                   normalize_kernel<T, N>, p, y.data<T>());
    });
  });
}
const Register r{kernels::normalize_images, DeviceType::cuda, normalize_images};

}  // namespace
}  // namespace sg
