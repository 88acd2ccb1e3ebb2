// Bound by memory: each map passes through the caches once.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/nearest_resize/nearest_resize_cpu.cpp"
#include <hwy/foreach_target.h>

#include <vector>

#include "core/cpu/parallel.h"
#include "core/cpu/simd-inl.h"
#include "core/cpu/simd_register.h"
#include "ops/nearest_resize/axis.h"
#include "ops/nearest_resize/nearest_resize.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

void forward(Stream&, In x, In base, Out y) {
  dispatch<float, double, bf16>(x.dtype(), "nearest_resize", [&]<class S>() HWY_ATTR {
    const int64_t w = x.dim(2), c = x.dim(3), out_h = y.dim(1), out_w = y.dim(2);
    const NearestAxis rows(x.dim(1), out_h), columns(w, out_w);
    parallel_for(y.dim(0) * out_h, 1, [&](int64_t begin, int64_t end) HWY_ATTR {
      for (int64_t i = begin; i < end; ++i) {
        const S* const row = x.data<S>() + (i / out_h * rows.in + rows.at(i % out_h)) * w * c;
        for (int64_t j = 0; j < out_w; ++j) {
          const S* const from = row + columns.at(j) * c;
          const int64_t at = (i * out_w + j) * c;
          S* const to = y.data<S>() + at;
          if (!base) {
            std::copy_n(from, c, to);
            continue;
          }
          const S* const more = base.data<S>() + at;
          for_lanes<AccType<S>>(c, [&](auto d, int64_t k) SG_INLINE_ATTR {
            store(hn::Add(load(d, from + k), load(d, more + k)), d, to + k);
          });
        }
      }
    });
  });
}

// The first output position of each input position, and the end.
std::vector<int64_t> firsts_of(const NearestAxis& axis) {
  std::vector<int64_t> firsts;
  for (int64_t r = 0; r <= axis.in; ++r) firsts.push_back(axis.first(r));
  return firsts;
}

void backward(Stream&, In dy, Grad dx) {
  dispatch<float, double, bf16>(dy.dtype(), "nearest_resize", [&]<class S>() HWY_ATTR {
    const int64_t h = dx.tensor.dim(1), w = dx.tensor.dim(2), c = dx.tensor.dim(3);
    const int64_t out_h = dy.dim(1), out_w = dy.dim(2);
    const auto rows = firsts_of({h, out_h}), columns = firsts_of({w, out_w});
    parallel_for(dx.tensor.dim(0) * h, 1, [&](int64_t begin, int64_t end) HWY_ATTR {
      for (int64_t r = begin; r < end; ++r) {
        const S* const image = dy.data<S>() + r / h * out_h * out_w * c;
        const int64_t top = rows[size_t(r % h)], bottom = rows[size_t(r % h + 1)];
        for (int64_t q = 0; q < w; ++q) {
          const int64_t left = columns[size_t(q)], right = columns[size_t(q + 1)];
          S* const to = dx.tensor.data<S>() + (r * w + q) * c;
          for_lanes<AccType<S>>(c, [&](auto d, int64_t k) SG_INLINE_ATTR {
            auto sum = hn::Zero(d);
            for (int64_t i = top; i < bottom; ++i)
              for (int64_t j = left; j < right; ++j)
                sum = hn::Add(sum, load(d, image + (i * out_w + j) * c + k));
            if (dx.accumulate) sum = hn::Add(sum, load(d, to + k));
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
SG_REGISTER_SIMD(kernels::nearest_resize_fwd, forward);
SG_REGISTER_SIMD(kernels::nearest_resize_bwd, backward);
}  // namespace
}  // namespace sg
#endif
