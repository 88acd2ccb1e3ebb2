#include <algorithm>

#include "core/acc_type.h"
#include "core/cpu/convert.h"
#include "core/cpu/parallel.h"
#include "core/tensor_kernels.h"

namespace sg {
namespace {

void convert(Stream&, In x, Out y) {
  dispatch<float, bf16, double, int32_t, uint8_t>(y.dtype(), "convert", [&]<class D>() {
    dispatch<float, bf16, double, int32_t, uint8_t>(x.dtype(), "convert", [&]<class S>() {
      D* const to = y.data<D>();
      const S* const from = x.data<S>();
      if constexpr (!std::is_same_v<D, S> && std::is_same_v<AccType<D>, float> &&
                    std::is_same_v<AccType<S>, float>)
        parallel_for(y.numel(), 1 << 15, [&](int64_t begin, int64_t end) {
          sg::convert(from + begin, to + begin, end - begin);
        });
      else
        for (int64_t i = 0; i < y.numel(); ++i) to[i] = D(AccType<D>(AccType<S>(from[i])));
    });
  });
}

void fill(Stream&, double value, Out y) {
  dispatch<float, bf16, double, int32_t, uint8_t>(y.dtype(), "fill", [&]<class S>() {
    std::fill_n(y.data<S>(), y.numel(), S(AccType<S>(value)));
  });
}

const Register r_convert{kernels::convert, DeviceType::cpu, convert};
const Register r_fill{kernels::fill, DeviceType::cpu, fill};

}  // namespace
}  // namespace sg
