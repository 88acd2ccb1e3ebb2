// Threads share bins, and the channels of a bin where there are few: each sum is made by one
// thread.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/adaptive_avg_pool/adaptive_avg_pool_cpu.cpp"
#include <hwy/foreach_target.h>

#include "core/cpu/parallel.h"
#include "core/cpu/simd-inl.h"
#include "core/cpu/simd_register.h"
#include "ops/adaptive_avg_pool/adaptive_avg_pool.h"
#include "ops/adaptive_avg_pool/bins.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

void forward(Stream&, In x, Out y) {
  constexpr int64_t kChannels = 128;  // of a thread at least
  dispatch<float, double, bf16>(x.dtype(), "adaptive_avg_pool", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int h = int(x.dim(1)), w = int(x.dim(2)), side = int(y.dim(1));
    const int64_t c = x.dim(3), parts = (c + kChannels - 1) / kChannels;
    parallel_for(y.dim(0) * side * side * parts, 1, [&](int64_t begin, int64_t end) HWY_ATTR {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t bin = i / parts, first = i % parts * kChannels;
        const int64_t n = std::min(kChannels, c - first);
        const Bin rows = positions_of(int(bin / side % side), side, h);
        const Bin columns = positions_of(int(bin % side), side, w);
        const S* const image = x.data<S>() + bin / side / side * h * w * c + first;
        S* const to = y.data<S>() + bin * c + first;
        for_lanes<T>(n, [&](auto d, int64_t k) SG_INLINE_ATTR {
          auto sum = hn::Zero(d);
          for (int64_t r = rows.begin; r < rows.end; ++r) {
            auto of_row = hn::Zero(d);
            for (int64_t q = columns.begin; q < columns.end; ++q)
              of_row = hn::Add(of_row, load(d, image + (r * w + q) * c + k));
            sum = hn::Add(sum, of_row);
          }
          store(hn::Div(sum, set(d, double(rows.size()) * columns.size())), d, to + k);
        });
      }
    });
  });
}

void backward(Stream&, In dy, Grad dx) {
  dispatch<float, double, bf16>(dy.dtype(), "adaptive_avg_pool", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int h = int(dx.tensor.dim(1)), w = int(dx.tensor.dim(2)), side = int(dy.dim(1));
    const int64_t c = dy.dim(3);
    parallel_for(dx.tensor.dim(0) * h, 1, [&](int64_t begin, int64_t end) HWY_ATTR {
      for (int64_t i = begin; i < end; ++i) {
        const Bin rows = positions_of(int(i % h), h, side);
        const S* const image = dy.data<S>() + i / h * side * side * c;
        for (int q = 0; q < w; ++q) {
          const Bin columns = positions_of(q, w, side);
          S* const to = dx.tensor.data<S>() + (i * w + q) * c;
          std::vector<T> weights;  // of the bins that cover the pixel
          for (int r = rows.begin; r < rows.end; ++r)
            for (int p = columns.begin; p < columns.end; ++p)
              weights.push_back(
                  1 / (T(positions_of(r, side, h).size()) * T(positions_of(p, side, w).size())));
          for_lanes<T>(c, [&](auto d, int64_t k) SG_INLINE_ATTR {
            auto sum = dx.accumulate ? load(d, to + k) : hn::Zero(d);
            const T* weight = weights.data();
            for (int r = rows.begin; r < rows.end; ++r)
              for (int p = columns.begin; p < columns.end; ++p)
                sum = hn::MulAdd(load(d, image + (int64_t{r} * side + p) * c + k),
                                 set(d, *weight++), sum);
            store(sum, d, to + k);
          });
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
SG_REGISTER_SIMD(kernels::adaptive_avg_pool_fwd, forward);
SG_REGISTER_SIMD(kernels::adaptive_avg_pool_bwd, backward);
}  // namespace
}  // namespace sg
#endif
