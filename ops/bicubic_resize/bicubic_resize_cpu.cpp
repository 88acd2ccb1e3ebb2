// f32 and f64 only: the table is a parameter, and parameters beside bf16 activations are f32.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/bicubic_resize/bicubic_resize_cpu.cpp"
#include <hwy/foreach_target.h>

#include "core/cpu/parallel.h"
#include "core/cpu/simd-inl.h"
#include "core/cpu/simd_register.h"
#include "ops/bicubic_resize/bicubic_resize.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

// The four input positions and weights of one output position along an axis.
struct CubicTaps {
  int64_t at[4];
  double weight[4];
};

std::vector<CubicTaps> taps_of(int64_t in, int64_t out) {
  constexpr double a = -0.75;
  const auto near = [](double t) { return ((a + 2) * t - (a + 3)) * t * t + 1; };       // t <= 1
  const auto far = [](double t) { return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a; };  // 1 < t < 2
  std::vector<CubicTaps> taps;
  for (int64_t i = 0; i < out; ++i) {
    const double centre = (double(i) + 0.5) * double(in) / double(out) - 0.5;
    const double whole = std::floor(centre), t = centre - whole;
    CubicTaps& p = taps.emplace_back(CubicTaps{{}, {far(t + 1), near(t), near(1 - t), far(2 - t)}});
    for (int k = 0; k < 4; ++k) p.at[k] = std::clamp<int64_t>(int64_t(whole) - 1 + k, 0, in - 1);
  }
  return taps;
}

void forward(Stream&, In x, Out y) {
  dispatch<float, double>(x.dtype(), "bicubic_resize", [&]<class T>() HWY_ATTR {
    const int64_t w = x.dim(1), out_w = y.dim(1), c = x.dim(2);
    const auto rows = taps_of(x.dim(0), y.dim(0)), columns = taps_of(w, out_w);
    parallel_for(y.dim(0), 1, [&](int64_t begin, int64_t end) HWY_ATTR {
      for (int64_t i = begin; i < end; ++i)
        for (int64_t j = 0; j < out_w; ++j)
          for_lanes<T>(c, [&](auto d, int64_t ch) HWY_ATTR {
            auto sum = hn::Zero(d);
            for (int p = 0; p < 4; ++p)
              for (int q = 0; q < 4; ++q) {
                const T* from = x.data<T>() + (rows[i].at[p] * w + columns[j].at[q]) * c;
                sum = hn::MulAdd(hn::LoadU(d, from + ch),
                                 set(d, rows[i].weight[p] * columns[j].weight[q]), sum);
              }
            hn::StoreU(sum, d, y.data<T>() + (i * out_w + j) * c + ch);
          });
    });
  });
}

// Each row of dx is summed over the output rows that read it, by one thread.
void backward(Stream&, In dy, Grad dx) {
  if (!dx) return;
  dispatch<float, double>(dy.dtype(), "bicubic_resize", [&]<class T>() HWY_ATTR {
    const int64_t h = dx.tensor.dim(0), w = dx.tensor.dim(1), c = dx.tensor.dim(2);
    const int64_t out_h = dy.dim(0), out_w = dy.dim(1);
    const auto rows = taps_of(h, out_h), columns = taps_of(w, out_w);
    parallel_for(h, 1, [&](int64_t begin, int64_t end) HWY_ATTR {
      for (int64_t r = begin; r < end; ++r) {
        T* dxp = dx.tensor.data<T>() + r * w * c;
        if (!dx.accumulate) std::fill_n(dxp, w * c, T(0));
        for (int64_t i = 0; i < out_h; ++i) {
          double row_weight = 0;
          for (int p = 0; p < 4; ++p)
            if (rows[i].at[p] == r) row_weight += rows[i].weight[p];
          if (row_weight == 0) continue;
          for (int64_t j = 0; j < out_w; ++j)
            for (int q = 0; q < 4; ++q) {
              const T* from = dy.data<T>() + (i * out_w + j) * c;
              T* to = dxp + columns[j].at[q] * c;
              for_lanes<T>(c, [&](auto d, int64_t ch) HWY_ATTR {
                hn::StoreU(
                    hn::MulAdd(hn::LoadU(d, from + ch), set(d, row_weight * columns[j].weight[q]),
                               hn::LoadU(d, to + ch)),
                    d, to + ch);
              });
            }
        }
      }
    });
  });
}

}  // namespace
}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sg {
namespace {
SG_REGISTER_SIMD(kernels::bicubic_resize_fwd, forward);
SG_REGISTER_SIMD(kernels::bicubic_resize_bwd, backward);
}  // namespace
}  // namespace sg
#endif
