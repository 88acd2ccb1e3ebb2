// A tile of seven pixels of a row is computed at once (the widths of the network's maps are
// multiples of seven), channels innermost: memory is read in order, a pixel that is loaded goes
// into up to three sums in registers, and the rows in use stay in the second-level cache.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/depthwise3x3/depthwise3x3_cpu.cpp"
#include <hwy/foreach_target.h>

#include <array>

#include "core/cpu/parallel.h"
#include "core/cpu/scratch.h"
#include "core/cpu/simd-inl.h"
#include "core/cpu/simd_register.h"
#include "ops/depthwise3x3/depthwise3x3.h"
#include "ops/reduce_cpu.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

using kernels::Columns, kernels::DepthwiseForm;

constexpr int kTile = 7;
constexpr int64_t kChunkRows = 8;  // rows that share a partial sum of the gradients of w and b

// The channels of a map (B, H, W, ld) from a column on. S is const where they are only read.
template <class S>
struct MapColumns {
  S* data;
  int64_t h, w, ld;
  template <class InOrOut>
  MapColumns(const InOrOut& t, Columns cols)
      : data(t.template data<std::remove_const_t<S>>() + cols.column),
        h(t.dim(1)),
        w(t.dim(2)),
        ld(cols.ld) {}
  // The first pixel of row i of an image; null outside the map.
  S* row(int64_t image, int64_t i) const {
    return i < 0 || i >= h ? nullptr : data + (image * h + i) * w * ld;
  }
};

// Pointers to the pixel under the centre tap and to those above and below it (null: no such row),
// and whether the columns beside it (for a tile: left of the first and right of the last pixel)
// exist.
template <class S>
struct Window {
  const S* row[3];
  int64_t ld;
  bool left, right;
  Window at(int64_t column, int64_t last_column, int64_t width) const {
    const auto move = [&](const S* p) { return p ? p + column * ld : p; };
    return {{move(row[0]), move(row[1]), move(row[2])}, ld, column > 0, last_column + 1 < width};
  }
};

// The weights of tap t start at[t * step]; `residual` adds the pixel itself: 1 on the centre tap.
template <class T>
struct Taps {
  const T* at;
  int64_t step;
  bool residual;
  static Taps plain(const T* w, int64_t channels, bool residual) { return {w, channels, residual}; }
  static Taps transposed(const T* w, int64_t channels, bool residual) {
    return {w + 8 * channels, -channels, residual};
  }
};

// f(integral_constant N, first pixel) over tiles of a row.
template <class F>
HWY_INLINE void each_tile(int64_t width, const F& f) {
  int64_t j = 0;
  for (; j + kTile <= width; j += kTile) f(std::integral_constant<int, kTile>(), j);
  for (; j < width; ++j) f(std::integral_constant<int, 1>(), j);
}

// Asks for N pixels to be in the second-level cache by the time they are needed, a row later; the
// hardware does not see these short runs coming.
template <int N, bool write, class S>
HWY_INLINE void prefetch(const S* pixel, int64_t ld) {
  HWY_UNROLL(16)
  for (int j = 0; j < N; ++j) __builtin_prefetch(pixel + j * ld, write, 2);
}

// f(a, b, j, v) for every product of M rows of taps and the pixels of a tile: row a and column b of
// the taps, pixel j of the tile, and v, the lanes of the input pixel under that tap. Ordered by
// input pixel, so that each is loaded once. A row that is null is left out.
template <int N, int kStride, int M, class D, class S, class F>
HWY_INLINE void each_product(D d, const Window<S>& x, const S* const (&rows)[M], int64_t c,
                             const F& f) {
  HWY_UNROLL(16)
  for (int q = -1; q <= kStride * (N - 1) + 1; ++q) {
    if ((q == -1 && !x.left) || (q == kStride * (N - 1) + 1 && !x.right)) continue;
    HWY_UNROLL(3)
    for (int a = 0; a < M; ++a) {
      if (!rows[a]) continue;
      const auto v = load(d, rows[a] + c + q * x.ld);
      HWY_UNROLL(3)
      for (int b = 2; b >= 0; --b)
        if ((q + 1 - b) % kStride == 0 && q + 1 - b >= 0 && (q + 1 - b) / kStride < N)
          f(a, b, (q + 1 - b) / kStride, v);
    }
  }
}

// sum[j] += the convolution at pixel j of a tile, for the channels from c on.
template <int N, int kStride, class D, class T, class S>
HWY_INLINE void convolve(D d, int64_t c, const Taps<T>& w, const Window<S>& x,
                         hn::Vec<D> (&sum)[N]) {
  HWY_UNROLL(3)
  for (int a = 0; a < 3; ++a) {
    if (!x.row[a]) continue;
    hn::Vec<D> k[3];
    HWY_UNROLL(3)
    for (int b = 0; b < 3; ++b) k[b] = hn::LoadU(d, w.at + (3 * a + b) * w.step + c);
    if (a == 1 && w.residual) k[1] = hn::Add(k[1], set(d, 1));
    each_product<N, kStride, 1>(d, x, {x.row[a]}, c, [&](int, int b, int j, auto v) HWY_ATTR {
      sum[j] = hn::MulAdd(k[b], v, sum[j]);
    });
  }
}

// Adds to sums[0..9] (of `channels` each) what the gradients dz of a tile give to taps and bias.
template <int N, int kStride, class D, class S, class T>
HWY_INLINE void add_weight_grad(D d, int64_t c, const Window<S>& x, const hn::Vec<D> (&dz)[N],
                                T* sums, int64_t channels) {
  hn::Vec<D> k[9];
  HWY_UNROLL(9)
  for (int t = 0; t < 9; ++t) k[t] = hn::LoadU(d, sums + t * channels + c);
  // All three rows at once: nine sums, since each addition to one waits for the one before.
  each_product<N, kStride>(d, x, x.row, c, [&](int a, int b, int j, auto v) HWY_ATTR {
    k[3 * a + b] = hn::MulAdd(dz[j], v, k[3 * a + b]);
  });
  HWY_UNROLL(9)
  for (int t = 0; t < 9; ++t) hn::StoreU(k[t], d, sums + t * channels + c);
  auto bias = hn::LoadU(d, sums + 9 * channels + c);
  HWY_UNROLL(16)
  for (int j = 0; j < N; ++j) bias = hn::Add(bias, dz[j]);
  hn::StoreU(bias, d, sums + 9 * channels + c);
}

// Gradient at column q of the input of a stride-2 convolution: dz[a] is the row of output pixels
// that read this input row by row a of the taps (null: none did).
template <class D, class T, class S>
HWY_INLINE hn::Vec<D> transpose_stride2(D d, int64_t c, const T* w, int64_t channels,
                                        const std::array<const S*, 3>& dz, int64_t dz_width,
                                        int64_t q) {
  auto sum = hn::Zero(d);
  for (int a = 0; a < 3; ++a)
    for (int64_t b = (q + 1) % 2; b < 3; b += 2) {
      const int64_t j = (q + 1 - b) / 2;
      if (dz[a] && j < dz_width)
        sum = hn::MulAdd(hn::LoadU(d, w + (3 * a + b) * channels + c),
                         load(d, dz[a] + j * channels + c), sum);
    }
  return sum;
}

// f(integral_constant of the stride).
template <class F>
void with_stride(int stride, const F& f) {
  if (stride == 1)
    f(std::integral_constant<int, 1>());
  else
    f(std::integral_constant<int, 2>());
}

// The three input rows around output row r, counted over the batch.
template <class S>
Window<S> window(const MapColumns<const S>& x, int64_t r, int64_t out_h, int stride) {
  const int64_t n = r / out_h, i = r % out_h * stride;
  return {{x.row(n, i - 1), x.row(n, i), x.row(n, i + 1)}, x.ld, false, false};
}

void forward(Stream&, In x, Columns cols, In w, In b, int stride, DepthwiseForm form, Out y) {
  dispatch<float, double, bf16>(x.dtype(), "depthwise3x3", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t channels = w.dim(2);
    const MapColumns<const S> from(x, cols);
    const MapColumns<S> to(y, {0, channels});
    const auto taps = Taps<T>::plain(w.data<T>(), channels, form == DepthwiseForm::add_gelu);
    const T* const bp = b ? b.data<T>() : nullptr;
    const auto compute_row = [&](auto s, int64_t r) HWY_ATTR {
      constexpr int kStride = decltype(s)::value;
      const Window<S> rows = window<S>(from, r, to.h, kStride);
      const int64_t ld = channels;  // a copy of its own, which no store can change
      each_tile(to.w, [&](auto size, int64_t first) HWY_ATTR {
        constexpr int N = decltype(size)::value;
        const Window<S> tile = rows.at(first * kStride, (first + N - 1) * kStride, from.w);
        S* const out = to.data + (r * to.w + first) * ld;
        for_lanes<T>(ld, [&](auto d, int64_t c) SG_INLINE_ATTR {
          prefetch<N, false>(tile.row[1] + 2 * from.w * from.ld + c, from.ld);
          prefetch<N, true>(out + to.w * ld + c, ld);
          hn::Vec<decltype(d)> v[N];
          HWY_UNROLL(16)
          for (int j = 0; j < N; ++j) v[j] = bp ? hn::LoadU(d, bp + c) : hn::Zero(d);
          convolve<N, kStride>(d, c, taps, tile, v);
          if (form == DepthwiseForm::add_gelu) {
            HWY_UNROLL(16)
            for (int j = 0; j < N; ++j) v[j] = gelu<S>(d, v[j]);
          } else if (form == DepthwiseForm::add_into) {
            HWY_UNROLL(16)
            for (int j = 0; j < N; ++j) v[j] = hn::Add(v[j], load(d, out + j * ld + c));
          }
          store(v, d, out + c, ld);
        });
      });
    };
    with_stride(stride, [&](auto s) {
      parallel_for(x.dim(0) * to.h, 1, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) compute_row(s, r);
      });
    });
  });
}

// With dz the gradient before the activation: dx is the transposed convolution of dz; dw and db are
// sums over pixels. Row by row: dz of the next row is made from x and adds to dw while x is near,
// then dx is made from the three rows of dz in the cache.
void backward(Stream&, In dy, In x, Columns cols, In w, In b, int stride, DepthwiseForm form,
              Grad dx, Out dx_sums, Grad dw, Grad db) {
  dispatch<float, double, bf16>(x.dtype(), "depthwise3x3", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t channels = w.dim(2);
    const bool recompute = form == DepthwiseForm::add_gelu;
    const MapColumns<const S> from(x, cols), grad(dy, {0, channels});
    const T *wp = w.data<T>(), *bp = b ? b.data<T>() : nullptr;
    const int64_t rows = x.dim(0) * grad.h, row_size = grad.w * channels;
    const int chunks = chunks_of(rows, kChunkRows);
    // Rows of sums over the pixels of a chunk: nine for dw, one for db, one for dx_sums.
    constexpr int64_t kSumRows = 11;
    Tensor scratch =
        dw || db || dx_sums ? empty({chunks, kSumRows, channels}, dtype_of<T>()) : Tensor();

    // Adds what row r of dz gives to dw and db to `sums`. Where dz is recomputed, writes it to
    // `dz`.
    const auto visit = [&](auto s, int64_t r, T* dz, T* sums) HWY_ATTR {
      constexpr int kStride = decltype(s)::value;
      const Window<S> around = window<S>(from, r, grad.h, kStride);
      each_tile(grad.w, [&](auto size, int64_t first) HWY_ATTR {
        constexpr int N = decltype(size)::value;
        const Window<S> tile = around.at(first * kStride, (first + N - 1) * kStride, from.w);
        const auto taps = Taps<T>::plain(wp, channels, recompute);
        const S* const dyp = grad.data + r * row_size + first * channels;
        for_lanes<T>(channels, [&](auto d, int64_t c) SG_INLINE_ATTR {
          prefetch<N, false>(tile.row[1] + 2 * from.w * from.ld + c, from.ld);
          prefetch<N, false>(dyp + row_size + c, channels);
          hn::Vec<decltype(d)> v[N];
          if (recompute) {
            HWY_UNROLL(16)
            for (int j = 0; j < N; ++j) v[j] = bp ? hn::LoadU(d, bp + c) : hn::Zero(d);
            convolve<N, kStride>(d, c, taps, tile, v);
            HWY_UNROLL(16)
            for (int j = 0; j < N; ++j) {
              v[j] = hn::Mul(load(d, dyp + j * channels + c), gelu_grad<S>(d, v[j]));
              hn::StoreU(v[j], d, dz + (first + j) * channels + c);
            }
          } else {
            HWY_UNROLL(16)
            for (int j = 0; j < N; ++j) v[j] = load(d, dyp + j * channels + c);
          }
          if (sums) add_weight_grad<N, kStride>(d, c, tile, v, sums, channels);
        });
      });
    };

    // Writes row i of an image's dx, from three rows of dz, and adds it to `sums`. Z is T where dz
    // is recomputed, else S.
    const auto write_dx = [&]<class Z>(int64_t n, int64_t i, const std::array<const Z*, 3>& dz,
                                       T* sums) HWY_ATTR {
      S* const out = MapColumns<S>(dx.tensor, cols).row(n, i);
      if (stride == 2) {
        for (int64_t q = 0; q < from.w; ++q)
          for_lanes<T>(channels, [&](auto d, int64_t c) SG_INLINE_ATTR {
            const auto v = transpose_stride2(d, c, wp, channels, dz, grad.w, q);
            S* const p = out + q * from.ld + c;
            store(dx.accumulate ? hn::Add(v, load(d, p)) : v, d, p);
            if (sums) hn::StoreU(hn::Add(v, hn::LoadU(d, sums + c)), d, sums + c);
          });
        return;
      }
      const Window<Z> around{{dz[0], dz[1], dz[2]}, channels, false, false};
      each_tile(from.w, [&](auto size, int64_t first) HWY_ATTR {
        constexpr int N = decltype(size)::value;
        const Window<Z> tile = around.at(first, first + N - 1, from.w);
        const auto taps = Taps<T>::transposed(wp, channels, recompute);
        S* const pixel = out + first * from.ld;
        for_lanes<T>(channels, [&](auto d, int64_t c) SG_INLINE_ATTR {
          prefetch<N, true>(pixel + from.w * from.ld + c, from.ld);
          hn::Vec<decltype(d)> v[N];
          HWY_UNROLL(16)
          for (int j = 0; j < N; ++j) v[j] = hn::Zero(d);
          convolve<N, 1>(d, c, taps, tile, v);
          if (sums) {
            auto sum = hn::LoadU(d, sums + c);
            HWY_UNROLL(16)
            for (int j = 0; j < N; ++j) sum = hn::Add(sum, v[j]);
            hn::StoreU(sum, d, sums + c);
          }
          if (dx.accumulate) {
            HWY_UNROLL(16)
            for (int j = 0; j < N; ++j) v[j] = hn::Add(v[j], load(d, pixel + j * from.ld + c));
          }
          store(v, d, pixel + c, from.ld);
        });
      });
    };

    // Where dz is recomputed, row r of it is kept in row r % 3 of its thread's ring, in T, since it
    // is loaded many times; else dz is dy.
    const auto run = [&](auto s, auto recomputed) {
      constexpr bool kRecompute = decltype(recomputed)::value;
      using Z = std::conditional_t<kRecompute, T, S>;
      using Rows = std::array<const Z*, 3>;
      Scratch<T> rings(kRecompute ? 3 * row_size : 0);
      parallel_for(chunks, 1, [&](int64_t first_chunk, int64_t last_chunk) {
        const int64_t begin = rows * first_chunk / chunks, end = rows * last_chunk / chunks;
        if (scratch)
          std::fill(scratch.data<T>() + first_chunk * kSumRows * channels,
                    scratch.data<T>() + last_chunk * kSumRows * channels, T(0));
        const auto sums_of = [&](int64_t r) {  // those of the chunk that has row r
          return scratch.data<T>() + ((r + 1) * chunks - 1) / rows * kSumRows * channels;
        };
        T* const ring = rings.mine();
        const auto ring_row = [&](int64_t r) {
          return kRecompute ? ring + r % 3 * row_size : nullptr;
        };
        const auto dz_row = [&](int64_t r) -> const Z* {
          if constexpr (kRecompute)
            return ring_row(r);
          else
            return grad.data + r * row_size;
        };
        int64_t next = begin % grad.h ? begin - 1 : begin;  // the first row not yet visited
        for (int64_t r = begin; r < end; ++r) {
          const int64_t n = r / grad.h, o = r % grad.h;
          const bool last = o + 1 == grad.h;
          for (; next <= (last ? r : r + 1); ++next) {
            const bool ours = scratch && next >= begin && next < end;
            visit(s, next, ring_row(next), ours ? sums_of(next) : nullptr);
          }
          if (!dx) continue;
          const Z* const before = o ? dz_row(r - 1) : nullptr;
          const Z* const here = dz_row(r);
          const Z* const after = last ? nullptr : dz_row(r + 1);
          T* const sums = dx_sums ? sums_of(r) + 10 * channels : nullptr;
          if (s == 1) {
            write_dx(n, o, Rows{before, here, after}, sums);
          } else {
            write_dx(n, 2 * o, Rows{nullptr, here, nullptr}, sums);
            if (2 * o + 1 < from.h) write_dx(n, 2 * o + 1, Rows{after, nullptr, here}, sums);
          }
        }
      });
    };
    with_stride(stride, [&](auto s) {
      if (recompute)
        run(s, std::true_type());
      else
        run(s, std::false_type());
    });
    if (!scratch) return;
    sum_chunks(scratch.data<T>(), chunks, kSumRows * channels, dw);
    sum_chunks(scratch.data<T>() + 9 * channels, chunks, kSumRows * channels, db);
    sum_chunks(scratch.data<T>() + 10 * channels, chunks, kSumRows * channels, Grad{dx_sums});
  });
}

}  // namespace
}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sg {
namespace {
SG_REGISTER_SIMD(kernels::depthwise3x3_fwd, forward);
SG_REGISTER_SIMD(kernels::depthwise3x3_bwd, backward);
}  // namespace
}  // namespace sg
#endif
