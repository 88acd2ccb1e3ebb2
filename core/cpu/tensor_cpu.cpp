#include <algorithm>

#include "core/tensor_kernels.h"

namespace sg {
namespace {

void convert(Stream&, In x, Out y) {
  dispatch<float, bf16, double, int32_t, uint8_t>(y.dtype(), "convert", [&]<class D>() {
    dispatch<float, bf16, double, int32_t, uint8_t>(x.dtype(), "convert", [&]<class S>() {
      D* const to = y.data<D>();
      const S* const from = x.data<S>();
      for (int64_t i = 0; i < y.numel(); ++i) {
        if constexpr (std::is_same_v<S, bf16> || std::is_same_v<D, bf16>)
          to[i] = D(static_cast<float>(from[i]));
        else
          to[i] = static_cast<D>(from[i]);
      }
    });
  });
}

void fill(Stream&, double value, Out y) {
  dispatch<float, bf16, double, int32_t, uint8_t>(y.dtype(), "fill", [&]<class T>() {
    T v;
    if constexpr (std::is_same_v<T, bf16>)
      v = T(float(value));
    else
      v = static_cast<T>(value);
    std::fill_n(y.data<T>(), y.numel(), v);
  });
}

const Register r_convert{kernels::convert, DeviceType::cpu, convert};
const Register r_fill{kernels::fill, DeviceType::cpu, fill};

}  // namespace
}  // namespace sg
