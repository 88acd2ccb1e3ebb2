// Convolutions of wide channels by cuDNN, and what it leaves to do: a bias, gradients that are
// added to others, or are of another dtype.
#pragma once
#include "core/cuda/cudnn_convolution.h"
#include "core/cuda/kernel.cuh"
#include "core/profile.h"
#include "ops/conv2d/conv2d.h"

namespace sg::conv2d_cuda {

// The heads' convolutions have 128 channels and more; narrower ones are the backbone's, which needs
// no library. Windows that do not overlap are a matmul. Channels that are no multiple of 8 make
// cuDNN copy maps to padded ones.
inline bool is_wide(In x, In w, const Conv2dGeometry& g) {
  constexpr int64_t kLeast = 128;
  const int64_t filters = w.dim(0), channels = w.dim(3);
  return g.stride < std::max(w.dim(1), w.dim(2)) && std::min(filters, channels) >= kLeast &&
         filters % 8 == 0 && channels % 8 == 0 && x.dim(0) > 0;
}

inline cuda::Convolution convolution_of(In x, In w, In y, const Conv2dGeometry& g) {
  return {.dtype = x.dtype(),
          .batch = x.dim(0),
          .height = x.dim(1),
          .width = x.dim(2),
          .channels = x.dim(3),
          .rows = y.dim(1),
          .columns = y.dim(2),
          .filters = y.dim(3),
          .kernel_height = w.dim(1),
          .kernel_width = w.dim(2),
          .stride = g.stride,
          .top = g.top,
          .left = g.left,
          .bottom = g.bottom,
          .right = g.right};
}

constexpr int kWideThreads = 256;

// A thread has N neighbours of the n elements.
template <class T, int N>
__global__ void __launch_bounds__(kWideThreads)
    add_bias_kernel(const T* bias, int64_t filters, int64_t n, T* y) {
  const int64_t i = (int64_t{blockIdx.x} * kWideThreads + threadIdx.x) * N;
  if (i >= n) return;
  cuda::GradPtr<T>{y, true}.put(i, cuda::load_float<N>(bias + i % filters));
}
template <class T, class G, int N>
__global__ void __launch_bounds__(kWideThreads)
    put_kernel(const T* from, int64_t n, cuda::GradPtr<G> to) {
  const int64_t i = (int64_t{blockIdx.x} * kWideThreads + threadIdx.x) * N;
  if (i < n) to.put(i, cuda::load_float<N>(from + i));
}

template <class T, class F>
void for_elements(const char* name, int64_t n, const F& f) {
  cuda::with_vectors<T>(n, [&](auto width) {
    constexpr int N = decltype(width)::value;
    f(width,
      cuda::Launch{name, unsigned(cuda::ceil_div(n, int64_t{kWideThreads} * N)), kWideThreads});
  });
}

inline bool wide_forward(Stream& stream, In x, In w, In b, const Conv2dGeometry& g, Out y) {
  if (!cuda::cudnn_convolution(stream, cuda::ConvolutionPass::forward, convolution_of(x, w, y, g),
                               x.raw(), w.raw(), y.raw()))
    return false;
  if (!b) return true;
  profile::add_bytes(2.0 * double(y.bytes()));
  dispatch<float, bf16>(x.dtype(), "conv2d", [&]<class T>() {
    for_elements<T>("conv2d.bias", y.numel(), [&](auto width, const cuda::Launch& l) {
      cuda::launch(stream, l, add_bias_kernel<T, decltype(width)::value>, b.data<T>(), y.dim(3),
                   y.numel(), y.data<T>());
    });
  });
  return true;
}

// f(void* to) writes a gradient of T and returns whether it did. One of another dtype, or that is
// added to what is there, goes by way of new memory.
template <class T, class G, class F>
bool write_gradient(Stream& stream, const Grad& grad, const F& f) {
  if (std::is_same_v<T, G> && !grad.accumulate) return f(grad.tensor.raw());
  Tensor made = empty(grad.tensor.shape(), dtype_of<T>(), stream.device);
  if (!f(made.raw())) return false;
  profile::add_bytes(2.0 * double(made.bytes()));
  for_elements<float>("conv2d.put", made.numel(), [&](auto width, const cuda::Launch& l) {
    cuda::launch(stream, l, put_kernel<T, G, decltype(width)::value>, made.data<T>(), made.numel(),
                 cuda::GradPtr<G>{grad.tensor.data<G>(), grad.accumulate});
  });
  return true;
}

template <class T>
bool wide_backward_input(Stream& stream, In dy, In w, const Conv2dGeometry& g, const Grad& dx) {
  return write_gradient<T, T>(stream, dx, [&](void* to) {
    return cuda::cudnn_convolution(stream, cuda::ConvolutionPass::input_gradient,
                                   convolution_of(dx.tensor, w, dy, g), to, w.raw(), dy.raw());
  });
}

template <class T>
bool wide_backward_weights(Stream& stream, In dy, In x, const Conv2dGeometry& g, const Grad& dw) {
  return write_gradient<T, float>(stream, dw, [&](void* to) {
    return cuda::cudnn_convolution(stream, cuda::ConvolutionPass::weight_gradient,
                                   convolution_of(x, dw.tensor, dy, g), x.raw(), to, dy.raw());
  });
}

}  // namespace sg::conv2d_cuda
