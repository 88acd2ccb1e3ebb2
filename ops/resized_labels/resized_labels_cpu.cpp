// Along columns of the image the map's rows are blended once for each row of labels, in a row of
// the map's width; along that row, where values are used.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/resized_labels/resized_labels_cpu.cpp"
#include <hwy/foreach_target.h>

#include <limits>

#include "core/cpu/parallel.h"
#include "core/cpu/scratch.h"
#include "core/cpu/simd-inl.h"
#include "core/cpu/simd_register.h"
#include "ops/class_rows-inl.h"
#include "ops/resized_labels/blend.h"
#include "ops/resized_labels/resized_labels.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

// The rows that a blend reads, `stride` elements apart, and their weights: those that are not 0.
template <class S, class T>
struct Taps {
  int count = 0;
  const S* from[4];
  T weight[4];

  Taps(const Blend<T>& blend, const S* first, int64_t stride) {
    for (int k = 0; k < 4; ++k)
      if (blend.weight[k] != 0)
        from[count] = first + blend.at[k] * stride, weight[count++] = blend.weight[k];
  }
  // f(N) for the number of taps as std::integral_constant.
  template <class F>
  HWY_INLINE void with_count(const F& f) const {
    switch (count) {
      case 1:
        return f(std::integral_constant<int, 1>());
      case 2:
        return f(std::integral_constant<int, 2>());
      case 3:
        return f(std::integral_constant<int, 3>());
      default:
        return f(std::integral_constant<int, 4>());
    }
  }
  template <int N, class D>
  HWY_INLINE hn::Vec<D> blended(D d, int64_t i) const {
    auto sum = hn::Mul(load(d, from[0] + i), hn::Set(d, weight[0]));
    for (int k = 1; k < N; ++k) sum = hn::MulAdd(load(d, from[k] + i), hn::Set(d, weight[k]), sum);
    return sum;
  }
};

// The first of the largest v(d, i) over [0, n).
template <class T, class F>
HWY_INLINE uint8_t argmax_of(int64_t n, const F& v) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  auto most = hn::Set(d, -std::numeric_limits<T>::infinity());
  auto where = hn::Iota(d, T(0));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto found = v(d, i);
    const auto more = hn::Gt(found, most);
    most = hn::IfThenElse(more, found, most);
    where = hn::IfThenElse(more, hn::Iota(d, T(i)), where);
  }
  T top = hn::GetLane(hn::MaxOfLanes(d, most));
  T first = hn::GetLane(
      hn::MinOfLanes(d, hn::IfThenElse(hn::Eq(most, hn::Set(d, top)), where, hn::Set(d, T(255)))));
  const hn::CappedTag<T, 1> one;
  for (; i < n; ++i)
    if (const T found = hn::GetLane(v(one, i)); found > top) top = found, first = T(i);
  return uint8_t(first);
}

// f(row of the image, x, N, taps in the blended row, padded classes) for all pixels of `height` x
// `width` images.
template <class S, class F>
void each_pixel(In logits, ImageSize seen, int64_t height, int64_t width, bool flipped,
                const F& f) {
  using T = AccType<S>;
  const int64_t h = logits.dim(1), w = logits.dim(2), classes = logits.dim(3);
  const int64_t padded = padded_classes<T>(classes);
  const BilinearAxis rows{unsigned(h), unsigned(seen.height)},
      image_rows{unsigned(seen.height), unsigned(height)},
      columns{unsigned(w), unsigned(seen.width)},
      image_columns{unsigned(seen.width), unsigned(width)};
  Scratch<T> scratch(w * padded);
  parallel_for(logits.dim(0) * height, 1, [&](int64_t begin, int64_t end) HWY_ATTR {
    T* const mixed = scratch.mine();
    std::fill_n(mixed, w * padded, kClassPad<T>);
    std::vector<Taps<T, T>> taps;
    for (int64_t x = 0; x < width; ++x)
      taps.emplace_back(Blend<T>(columns, image_columns, unsigned(flipped ? width - 1 - x : x)),
                        mixed, padded);
    for (int64_t row = begin; row < end; ++row) {
      const Taps<S, T> down(Blend<T>(rows, image_rows, unsigned(row % height)),
                            logits.data<S>() + row / height * h * w * classes, w * classes);
      down.with_count([&](auto n) HWY_ATTR {
        for (int64_t x = 0; x < w; ++x)
          for_lanes<T>(classes, [&](auto d, int64_t i) HWY_ATTR {
            hn::StoreU(down.template blended<decltype(n)::value>(d, x * classes + i), d,
                       mixed + x * padded + i);
          });
      });
      for (int64_t x = 0; x < width; ++x)
        taps[size_t(x)].with_count([&](auto n) HWY_ATTR { f(row, x, n, taps[size_t(x)], padded); });
    }
  });
}

void resized_argmax_of(Stream&, In logits, ImageSize seen, Out labels) {
  dispatch<float, double, bf16>(logits.dtype(), "resized_argmax", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t height = labels.dim(1), width = labels.dim(2);
    each_pixel<S>(logits, seen, height, width, false,
                  [&](int64_t row, int64_t x, auto n, const auto& taps, int64_t padded) HWY_ATTR {
                    labels.data<uint8_t>()[row * width + x] =
                        argmax_of<T>(padded, [&](auto d, int64_t i) HWY_ATTR {
                          return taps.template blended<decltype(n)::value>(d, i);
                        });
                  });
  });
}

void add_softmax(Stream&, In logits, ImageSize seen, bool flipped, Out sum) {
  dispatch<float, double, bf16>(logits.dtype(), "add_resized_softmax", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t height = sum.dim(0), width = sum.dim(1), classes = sum.dim(2);
    each_pixel<S>(logits, seen, height, width, flipped,
                  [&](int64_t row, int64_t x, auto n, const auto& taps, int64_t padded) HWY_ATTR {
                    const hn::ScalableTag<T> d;
                    const int64_t lanes = int64_t(hn::Lanes(d));
                    HWY_ALIGN T z[256];
                    auto most = hn::Set(d, kClassPad<T>);
                    for (int64_t i = 0; i < padded; i += lanes) {
                      const auto v = taps.template blended<decltype(n)::value>(d, i);
                      most = hn::Max(most, v);
                      hn::Store(v, d, z + i);
                    }
                    const T top = hn::GetLane(hn::MaxOfLanes(d, most));
                    auto total = hn::Zero(d);
                    for (int64_t i = 0; i < padded; i += lanes) {
                      const auto e = exp(d, hn::Sub(hn::Load(d, z + i), hn::Set(d, top)));
                      total = hn::Add(total, e);
                      hn::Store(e, d, z + i);
                    }
                    const T factor = 1 / hn::GetLane(hn::SumOfLanes(d, total));
                    T* const to = sum.data<T>() + (row * width + x) * classes;
                    for_lanes<T>(classes, [&](auto d, int64_t i) HWY_ATTR {
                      hn::StoreU(
                          hn::MulAdd(hn::LoadU(d, z + i), hn::Set(d, factor), hn::LoadU(d, to + i)),
                          d, to + i);
                    });
                  });
  });
}

void argmax_labels(Stream&, In scores, Out labels) {
  dispatch<float, double, bf16>(scores.dtype(), "argmax", [&]<class S>() HWY_ATTR {
    const int64_t classes = scores.dim(2);
    parallel_for(labels.numel(), 1 << 10, [&](int64_t begin, int64_t end) HWY_ATTR {
      for (int64_t p = begin; p < end; ++p) {
        const S* const from = scores.data<S>() + p * classes;
        labels.data<uint8_t>()[p] = argmax_of<AccType<S>>(
            classes, [&](auto d, int64_t i) HWY_ATTR { return load(d, from + i); });
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
void scores_of_labels(Stream&, In scores, In labels, Out found) {
  dispatch<float, double>(scores.dtype(), "scores_of", [&]<class T>() {
    const int64_t classes = scores.dim(2);
    parallel_for(labels.numel(), 1 << 14, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        const int64_t label = labels.data<uint8_t>()[p];
        found.data<T>()[p] = label < classes ? scores.data<T>()[p * classes + label] : T(0);
      }
    });
  });
}
const Register r{kernels::scores_of, DeviceType::cpu, scores_of_labels};
SG_REGISTER_SIMD(kernels::resized_argmax, resized_argmax_of);
SG_REGISTER_SIMD(kernels::add_resized_softmax, add_softmax);
SG_REGISTER_SIMD(kernels::argmax, argmax_labels);
}  // namespace
}  // namespace sg
#endif
