// Bound by memory: each way the larger map passes through the caches once, and what is read of the
// smaller one stays in them.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/bilinear_resize/bilinear_resize_cpu.cpp"
#include <hwy/foreach_target.h>

#include <hwy/cache_control.h>

#include "core/cpu/blocks-inl.h"
#include "core/cpu/parallel.h"
#include "core/cpu/scratch.h"
#include "core/cpu/simd_register.h"
#include "ops/bilinear_resize/axis.h"
#include "ops/bilinear_resize/bilinear_resize.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

BilinearAxis axis(int64_t in, int64_t out) { return {unsigned(in), unsigned(out)}; }

// For each output position the weight of the second input position that it reads.
template <class T>
std::vector<T> second_weights(const BilinearAxis& axis) {
  std::vector<T> weights;
  for (unsigned i = 0; i < axis.out; ++i) weights.push_back(axis.t<T>(i, axis.at(i)));
  return weights;
}

// Whether channels of y are written past the caches, which then do not read them from memory first:
// where y is larger than caches are, and parts of pixels are whole cache lines.
bool past_caches(const Tensor& y, int64_t channels, int64_t begin_channel) {
  constexpr size_t kCaches = 32 << 20, kLine = 64;
  const auto whole = [&](int64_t n) { return size_t(n) * size_of(y.dtype()) % kLine == 0; };
  return y.bytes() > kCaches && reinterpret_cast<uintptr_t>(y.raw()) % kLine == 0 &&
         whole(channels) && whole(begin_channel) && whole(y.dim(3));
}

// Between two neighbouring columns of x all columns of y that read them are made at once.
void forward(Stream&, In x, In base, int64_t begin_channel, Out y) {
  dispatch<float, double, bf16>(x.dtype(), "bilinear_resize", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t h = x.dim(1), w = x.dim(2), c = x.dim(3);
    const int64_t out_h = y.dim(1), out_w = y.dim(2), ld = y.dim(3);
    const BilinearAxis rows = axis(h, out_h), columns = axis(w, out_w);
    const auto v = second_weights<T>(rows), u = second_weights<T>(columns);
    const S* const more = base ? base.data<S>() : nullptr;
    S* const y_data = y.data<S>();
    const bool past = past_caches(y, c, begin_channel);
    parallel_for(y.dim(0) * out_h, 1, [&](int64_t begin, int64_t end) HWY_ATTR {
      for (int64_t line = begin; line < end; ++line) {
        const auto i = unsigned(line % out_h), row = rows.at(i);
        const S* const image = x.data<S>() + line / out_h * h * w * c;
        const S *const top = image + row * w * c, *const bottom = image + rows.next(row) * w * c;
        const T below = v[i];
        for (unsigned q = 0; q < columns.in; ++q) {
          const unsigned first = columns.first(q), last = columns.first(q + 1);
          if (first == last) continue;
          const int64_t left = q * c, right = columns.next(q) * c;
          const int64_t at = (line * out_w + first) * ld + begin_channel;
          const S* const base_at = more ? more + at : nullptr;
          S* const y_at = y_data + at;
          for_lanes<T>(c, [=, &u](auto d, int64_t k) SG_INLINE_ATTR {
            const auto a = hn::MulAdd(load(d, bottom + left + k), set(d, below),
                                      hn::Mul(load(d, top + left + k), set(d, 1 - below)));
            const auto b = hn::MulAdd(load(d, bottom + right + k), set(d, below),
                                      hn::Mul(load(d, top + right + k), set(d, 1 - below)));
            int64_t to = k;
            for (const T* t = u.data() + first; t < u.data() + last; ++t, to += ld) {
              auto sum = hn::MulAdd(b, set(d, *t), hn::Mul(a, set(d, 1 - *t)));
              if (base_at) sum = hn::Add(sum, load(d, base_at + to));
              if constexpr (std::is_same_v<S, T>) {
                if (past) {
                  hn::Stream(sum, d, y_at + to);
                  continue;
                }
              }
              store(sum, d, y_at + to);
            }
          });
        }
      }
      if (past) hwy::FlushStream();  // before other threads read it
    });
  });
}

// The output positions that read an input position, begin + 0, 1, ..., and their weights.
template <class T>
struct Readers {
  int64_t begin;
  std::vector<T> weights;
};
template <class T>
std::vector<Readers<T>> readers_of(const BilinearAxis& axis) {
  std::vector<Readers<T>> readers;
  for (unsigned r = 0; r < axis.in; ++r) {
    const unsigned begin = axis.first(r ? r - 1 : 0), end = axis.first(r + 1);
    std::vector<T> weights;
    for (unsigned i = begin; i < end; ++i) {
      const unsigned at = axis.at(i);
      const T t = axis.t<T>(i, at);
      weights.push_back(at < r ? t : axis.next(r) == r ? T(1) : 1 - t);
    }
    readers.push_back({begin, std::move(weights)});
  }
  return readers;
}

// Rows [begin, end) of one image's dx. The rows of dy between two neighbouring rows of dx add to
// both: what they add to the second is carried to the next pass. `sums` holds a row of dx and one
// pixel more.
template <class S, class T = AccType<S>>
void backward_rows(const S* dy, int64_t ld, const BilinearAxis& rows,
                   const std::vector<Readers<T>>& columns, int64_t out_w, int64_t begin,
                   int64_t end, int64_t c, T* sums, S* dx, bool accumulate) {
  const auto w = int64_t(columns.size());
  std::fill_n(sums, w * c, T(0));
  T* const here = sums + w * c;
  for (int64_t r = std::max<int64_t>(begin - 1, 0); r < end; ++r) {
    const auto row = unsigned(r), first = rows.first(row), last = rows.first(row + 1);
    for (int64_t q = 0; q < w; ++q) {
      T* const below = sums + q * c;
      std::copy_n(below, c, here);
      std::fill_n(below, c, T(0));
      const T *const weights = columns[size_t(q)].weights.data(), *const weights_end =
                                                                      weights + columns[size_t(q)]
                                                                                    .weights.size();
      for (unsigned i = first; i < last; ++i) {
        const T t = rows.next(row) == row ? T(0) : rows.t<T>(i, row);
        const S* const from = dy + (i * out_w + columns[size_t(q)].begin) * ld;
        for_blocks<T>(c, [=](auto d, int64_t k, auto count) SG_INLINE_ATTR {
          constexpr int N = decltype(count)::value;
          const auto lanes = int64_t(hn::Lanes(d));
          hn::Vec<decltype(d)> sum[N];
#pragma GCC unroll 8
          for (int n = 0; n < N; ++n) sum[n] = hn::Zero(d);
          const S* p = from + k;
          for (const T* weight = weights; weight < weights_end; ++weight, p += ld) {
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n)
              sum[n] = hn::MulAdd(load(d, p + n * lanes), set(d, *weight), sum[n]);
          }
#pragma GCC unroll 8
          for (int n = 0; n < N; ++n) {
            T *const to_here = here + k + n * lanes, *const to_below = below + k + n * lanes;
            hn::StoreU(hn::MulAdd(sum[n], set(d, 1 - t), hn::LoadU(d, to_here)), d, to_here);
            hn::StoreU(hn::MulAdd(sum[n], set(d, t), hn::LoadU(d, to_below)), d, to_below);
          }
        });
      }
      if (r < begin) continue;  // the row belongs to another thread
      S* const to = dx + (r * w + q) * c;
      for_lanes<T>(c, [=](auto d, int64_t k) SG_INLINE_ATTR {
        auto sum = hn::LoadU(d, here + k);
        if (accumulate) sum = hn::Add(sum, load(d, to + k));
        store(sum, d, to + k);
      });
    }
  }
}

void backward(Stream&, In dy, int64_t begin_channel, Grad dx) {
  dispatch<float, double, bf16>(dy.dtype(), "bilinear_resize", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t h = dx.tensor.dim(1), w = dx.tensor.dim(2), c = dx.tensor.dim(3);
    const int64_t out_h = dy.dim(1), out_w = dy.dim(2), ld = dy.dim(3);
    const BilinearAxis rows = axis(h, out_h);
    const auto columns = readers_of<T>(axis(w, out_w));
    Scratch<T> sums((w + 1) * c);
    parallel_for(dx.tensor.dim(0) * h, 1, [&](int64_t begin, int64_t end) HWY_ATTR {
      for (int64_t next; begin < end; begin = next) {
        const int64_t image = begin / h, first = begin - image * h;
        next = std::min(end, (image + 1) * h);
        backward_rows(dy.data<S>() + image * out_h * out_w * ld + begin_channel, ld, rows, columns,
                      out_w, first, next - image * h, c, sums.mine(),
                      dx.tensor.data<S>() + image * h * w * c, dx.accumulate);
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
SG_REGISTER_SIMD(kernels::bilinear_resize_fwd, forward);
SG_REGISTER_SIMD(kernels::bilinear_resize_bwd, backward);
}  // namespace
}  // namespace sg
#endif
