// Bound by memory: each way the larger map passes through the caches once, and what is read of the
// smaller one stays in them.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/bilinear_resize/bilinear_resize_cpu.cpp"
#include <hwy/foreach_target.h>

#include "core/cpu/parallel.h"
#include "core/cpu/scratch.h"
#include "core/cpu/simd-inl.h"
#include "core/cpu/simd_register.h"
#include "ops/bilinear_resize/axis.h"
#include "ops/bilinear_resize/bilinear_resize.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

BilinearAxis axis(int64_t in, int64_t out) { return {unsigned(in), unsigned(out)}; }

// The two input positions of an output position, and their weights.
template <class T>
struct Taps {
  int64_t at[2];
  T weight[2];
};
template <class T>
std::vector<Taps<T>> taps_of(const BilinearAxis& axis) {
  std::vector<Taps<T>> taps;
  for (unsigned i = 0; i < axis.out; ++i) {
    const unsigned at = axis.at(i);
    const T t = axis.t<T>(i, at);
    taps.push_back({{at, axis.next(at)}, {1 - t, t}});
  }
  return taps;
}

void forward(Stream&, In x, In base, int64_t begin_channel, Out y) {
  dispatch<float, double, bf16>(x.dtype(), "bilinear_resize", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t h = x.dim(1), w = x.dim(2), c = x.dim(3);
    const int64_t out_h = y.dim(1), out_w = y.dim(2), ld = y.dim(3);
    const auto rows = taps_of<T>(axis(h, out_h)), columns = taps_of<T>(axis(w, out_w));
    parallel_for(y.dim(0) * out_h, 1, [&](int64_t begin, int64_t end) HWY_ATTR {
      for (int64_t i = begin; i < end; ++i) {
        const Taps<T>& row = rows[size_t(i % out_h)];
        const S* const image = x.data<S>() + i / out_h * h * w * c;
        const S *const top = image + row.at[0] * w * c, *const bottom = image + row.at[1] * w * c;
        for (int64_t j = 0; j < out_w; ++j) {
          const Taps<T>& column = columns[size_t(j)];
          const int64_t left = column.at[0] * c, right = column.at[1] * c;
          const T w00 = row.weight[0] * column.weight[0], w01 = row.weight[0] * column.weight[1];
          const T w10 = row.weight[1] * column.weight[0], w11 = row.weight[1] * column.weight[1];
          const int64_t at = (i * out_w + j) * ld + begin_channel;
          const S* const more = base ? base.data<S>() + at : nullptr;
          S* const to = y.data<S>() + at;
          for_lanes<T>(c, [&](auto d, int64_t k) SG_INLINE_ATTR {
            auto v = hn::Mul(load(d, top + left + k), set(d, w00));
            v = hn::MulAdd(load(d, top + right + k), set(d, w01), v);
            v = hn::MulAdd(load(d, bottom + left + k), set(d, w10), v);
            v = hn::MulAdd(load(d, bottom + right + k), set(d, w11), v);
            if (more) v = hn::Add(v, load(d, more + k));
            store(v, d, to + k);
          });
        }
      }
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

// Rows [begin, end) of one image's dx. A row of dy is read once, summed over its columns in
// registers, and added to the two rows of dx that it was made of, which are kept as sums.
template <class S, class T = AccType<S>>
void backward_rows(const S* dy, int64_t ld, const BilinearAxis& rows,
                   const std::vector<Readers<T>>& columns, int64_t out_w, int64_t begin,
                   int64_t end, int64_t c, T* sums, S* dx, bool accumulate) {
  const int64_t size = int64_t(columns.size()) * c;
  T *here = sums, *below = sums + size;  // of rows a and a + 1
  std::fill_n(here, size, T(0));
  for (int64_t a = std::max<int64_t>(begin - 1, 0); a < end; ++a) {
    std::fill_n(below, size, T(0));
    for (unsigned i = rows.first(unsigned(a)); i < rows.first(unsigned(a) + 1); ++i) {
      const T t = rows.next(unsigned(a)) == unsigned(a) ? T(0) : rows.t<T>(i, unsigned(a));
      const T u = 1 - t;
      const S* const row = dy + int64_t{i} * out_w * ld;
      for (size_t j = 0; j < columns.size(); ++j) {
        const Readers<T>& readers = columns[j];
        const S* const from = row + readers.begin * ld;
        T *const to_here = here + int64_t(j) * c, *const to_below = below + int64_t(j) * c;
        for_lanes<T>(c, [&](auto d, int64_t k) SG_INLINE_ATTR {
          auto sum = hn::Zero(d);
          const S* p = from + k;
          for (const T weight : readers.weights) {
            sum = hn::MulAdd(load(d, p), set(d, weight), sum);
            p += ld;
          }
          hn::StoreU(hn::MulAdd(sum, set(d, u), hn::LoadU(d, to_here + k)), d, to_here + k);
          hn::StoreU(hn::MulAdd(sum, set(d, t), hn::LoadU(d, to_below + k)), d, to_below + k);
        });
      }
    }
    if (a >= begin) {
      S* const to = dx + a * size;
      for_lanes<T>(size, [&](auto d, int64_t k) SG_INLINE_ATTR {
        auto v = hn::LoadU(d, here + k);
        if (accumulate) v = hn::Add(v, load(d, to + k));
        store(v, d, to + k);
      });
    }
    std::swap(here, below);
  }
}

void backward(Stream&, In dy, int64_t begin_channel, Grad dx) {
  dispatch<float, double, bf16>(dy.dtype(), "bilinear_resize", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t h = dx.tensor.dim(1), w = dx.tensor.dim(2), c = dx.tensor.dim(3);
    const int64_t out_h = dy.dim(1), out_w = dy.dim(2), ld = dy.dim(3);
    const BilinearAxis rows = axis(h, out_h);
    const auto columns = readers_of<T>(axis(w, out_w));
    Scratch<T> sums(2 * w * c);
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
