#include "core/cuda/kernel.cuh"
#include "core/tensor_kernels.h"

namespace sg {
namespace {

constexpr int kThreads = 256;

template <class S, class D>
__device__ D convert_one(S v) {
  if constexpr (std::is_same_v<S, bf16> && std::is_same_v<D, bf16>)
    return v;
  else if constexpr (std::is_same_v<S, bf16>)
    return static_cast<D>(cuda::to_float(v));
  else if constexpr (std::is_same_v<D, bf16>)
    return cuda::from_float<bf16>(static_cast<float>(v));
  else
    return static_cast<D>(v);
}

template <class S, class D>
__global__ void convert_kernel(const S* from, D* to, int64_t n) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < n) to[i] = convert_one<S, D>(from[i]);
}

template <class T>
__global__ void fill_kernel(T* to, T value, int64_t n) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < n) to[i] = value;
}

cuda::Launch flat(const char* name, int64_t n) {
  return {name, unsigned(cuda::ceil_div(n, kThreads)), kThreads};
}

void convert(Stream& stream, In x, Out y) {
  dispatch<float, bf16, double, int32_t, uint8_t>(y.dtype(), "convert", [&]<class D>() {
    dispatch<float, bf16, double, int32_t, uint8_t>(x.dtype(), "convert", [&]<class S>() {
      cuda::launch(stream, flat("convert", y.numel()), convert_kernel<S, D>, x.data<S>(),
                   y.data<D>(), y.numel());
    });
  });
}

void fill(Stream& stream, double value, Out y) {
  dispatch<float, bf16, double, int32_t, uint8_t>(y.dtype(), "fill", [&]<class T>() {
    T v;
    if constexpr (std::is_same_v<T, bf16>)
      v = T(float(value));
    else
      v = static_cast<T>(value);
    cuda::launch(stream, flat("fill", y.numel()), fill_kernel<T>, y.data<T>(), v, y.numel());
  });
}

const Register r_convert{kernels::convert, DeviceType::cuda, convert};
const Register r_fill{kernels::fill, DeviceType::cuda, fill};

}  // namespace
}  // namespace sg
