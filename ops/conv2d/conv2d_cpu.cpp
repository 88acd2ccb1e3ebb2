// A convolution is computed in one of three ways: by Winograd's algorithm (3x3 of whole vectors of
// channels), by oneDNN's direct convolution, or as a matmul of windows that are copied to the rows
// of a matrix (im2col), a slice at a time. is_winograd() and is_direct() choose. Sums are cut by
// sizes alone, so that bits do not depend on the number of threads.
#include "autograd/add_into.h"
#include "core/cpu/add_into.h"
#include "core/cpu/bf16_products.h"
#include "core/cpu/column_sums.h"
#include "core/cpu/convolution.h"
#include "core/cpu/gemm.h"
#include "core/cpu/onednn.h"
#include "core/cpu/parallel.h"
#include "core/cpu/scratch.h"
#include "core/cpu/winograd.h"
#include "core/profile.h"
#include "ops/conv2d/conv2d.h"
#include "ops/reduce_cpu.h"

namespace sg {
namespace {

Windows windows_of(In x, In w, In y, const Conv2dGeometry& g) {
  return {.batch = x.dim(0),
          .height = x.dim(1),
          .width = x.dim(2),
          .channels = x.dim(3),
          .rows = y.dim(1),
          .columns = y.dim(2),
          .kernel_height = w.dim(1),
          .kernel_width = w.dim(2),
          .stride = g.stride,
          .top = g.top,
          .left = g.left};
}

// For one row of the kernel in each window c of a row of windows: f(c, at, begin, end). Elements
// [begin, end) of that kernel row lie inside the image, where they begin at element `at` of a row.
template <class F>
void for_windows(const Windows& v, const F& f) {
  for (int64_t c = 0; c < v.columns; ++c) {
    const int64_t left = c * v.stride - v.left;
    const int64_t begin = std::max<int64_t>(0, -left);
    const int64_t end = std::min(v.kernel_width, v.width - left);
    f(c, (left + begin) * v.channels, begin * v.channels, end * v.channels);
  }
}

// Rows [begin, end) of windows, counted through the batch, to rows of a matrix.
template <class S>
void gather(const Windows& v, const S* x, int64_t begin, int64_t end, S* matrix) {
  const int64_t segment = v.kernel_width * v.channels;
  parallel_for(end - begin, 1, [&](int64_t first, int64_t last) {
    for (int64_t q = first; q < last; ++q)
      for (int64_t i = 0; i < v.kernel_height; ++i) {
        const int64_t image = (begin + q) / v.rows;
        const int64_t r = (begin + q) % v.rows * v.stride - v.top + i;
        const bool inside = 0 <= r && r < v.height;
        const S* from = x + (inside ? (image * v.height + r) * v.width * v.channels : 0);
        S* const to = matrix + q * v.columns * v.size() + i * segment;
        for_windows(v, [&](int64_t c, int64_t at, int64_t a, int64_t b) {
          S* const row = to + c * v.size();
          if (!inside) a = b = segment;
          std::fill(row, row + a, S(0));
          std::copy(from + at, from + at + (b - a), row + a);
          std::fill(row + b, row + segment, S(0));
        });
      }
  });
}

// The transpose: adds the matrix of an image's rows [begin, end) of windows to rows [top, bottom)
// of its dx, which begin at `dx`.
template <class T>
void scatter(const Windows& v, const T* matrix, int64_t begin, int64_t end, int64_t top,
             int64_t bottom, T* dx) {
  const int64_t segment = v.kernel_width * v.channels;
  for (int64_t row = begin; row < end; ++row)
    for (int64_t i = 0; i < v.kernel_height; ++i) {
      const int64_t r = row * v.stride - v.top + i;
      if (r < top || r >= bottom) continue;
      T* const to = dx + (r - top) * v.width * v.channels;
      const T* const from = matrix + (row - begin) * v.columns * v.size() + i * segment;
      for_windows(v, [&](int64_t c, int64_t at, int64_t a, int64_t b) {
        add_into(from + c * v.size() + a, to + at, b - a);
      });
    }
}

// How many rows of windows make a matrix that stays in a core's cache and is large enough for a
// fast matmul.
template <class S>
int64_t slice_of(const Windows& v) {
  constexpr int64_t kBytes = 1 << 20, kWindows = 512;
  const int64_t windows = std::max(kWindows, kBytes / (v.size() * int64_t(sizeof(S))));
  return std::clamp<int64_t>(windows / v.columns, 1, std::max<int64_t>(1, v.batch * v.rows));
}

bool overlap(const Windows& v) { return v.stride < std::max(v.kernel_height, v.kernel_width); }

// On no side is there more padding than half a window.
bool pads_half(const Windows& v) {
  return std::max(v.top, v.bottom()) <= v.kernel_height / 2 &&
         std::max(v.left, v.right()) <= v.kernel_width / 2;
}

enum class Result { y, dx, dw };

// Whether Winograd's algorithm is the fastest way, where it can be used. In f32 it always is. With
// bf16 maps it computes in f32 all the same, at 250 to 300 GFLOP/s a core (counted as direct)
// against 230 of AVX512-BF16 and 190 of im2col, but 600 to 1500 of AMX. And w is transformed at
// each call, which few pixels do not pay for; few channels leave it bound by memory; and of dw a
// thread takes many pixels.
template <class S>
bool is_winograd(const Windows& v, int64_t filters, Result result) {
  if (std::is_same_v<S, float>) return true;
  if (has_amx()) return false;
  const int64_t pixels = v.batch * v.height * v.width;
  if (result == Result::dw) return pixels >= 8192;
  return pixels >= 2048 && std::min(v.channels, filters) >= 128;
}

// Whether oneDNN's direct convolution is, of the two other ways. For y it is where windows overlap:
// elsewhere im2col copies nothing twice, and oneDNN's copy of w takes longer. In f32, im2col is as
// fast for dx. With AMX all three are alike, but that more padding has no fast dw; elsewhere
// oneDNN's dw is slower.
template <class S>
bool is_direct(const Windows& v, Result result) {
  const bool bf16_maps = std::is_same_v<S, bf16>;
  if (bf16_maps && !has_bf16_products()) return false;
  if (result == Result::y || (bf16_maps && has_amx()))
    return overlap(v) && (result != Result::dw || pads_half(v));
  return bf16_maps && result == Result::dx;
}

template <class S>
void forward_by_im2col(const Windows& v, int64_t filters, const S* x, const S* w, const S* bias,
                       S* y) {
  const int64_t slice = slice_of<S>(v), rows = v.batch * v.rows;
  if (slice >= rows) {  // threads share the one matmul
    Tensor matrix = empty({rows * v.columns, v.size()}, dtype_of<S>());
    gather(v, x, 0, rows, matrix.data<S>());
    return gemm<S>(rows * v.columns, filters, v.size(), {matrix.data<S>(), v.size()},
                   {w, v.size(), true}, y, false, bias);
  }
  Scratch<S> scratch(slice * v.columns * v.size());
  parallel_for((rows + slice - 1) / slice, 1, [&](int64_t first, int64_t last) {
    S* const matrix = scratch.mine();
    for (int64_t begin = first * slice; begin < std::min(rows, last * slice); begin += slice) {
      const int64_t end = std::min(rows, begin + slice);
      gather(v, x, begin, end, matrix);
      gemm_on_thread<S>((end - begin) * v.columns, filters, v.size(), {matrix, v.size()},
                        {w, v.size(), true}, y + begin * v.columns * filters, false, bias);
    }
  });
}

void forward(Stream&, In x, In w, In b, const Conv2dGeometry& geometry, Out y) {
  const Windows v = windows_of(x, w, y, geometry);
  const int64_t filters = w.dim(0);
  if (y.numel() == 0) return;
  dispatch<float, double, bf16>(x.dtype(), "conv2d", [&]<class S>() {
    const S *const xp = x.data<S>(), *const wp = w.data<S>();
    const S* const bp = b ? b.data<S>() : nullptr;
    S* const yp = y.data<S>();
    if constexpr (!std::is_same_v<S, double>) {
      if (is_winograd<S>(v, filters, Result::y) && winograd(v, filters, xp, wp, bp, yp)) return;
      if (is_direct<S>(v, Result::y)) return convolution(v, filters, xp, wp, bp, yp);
    }
    forward_by_im2col(v, filters, xp, wp, bp, yp);
  });
}

// dw = dy^T times the windows, db = column sums of dy: partial sums over a fixed number of parts of
// the rows of windows.
template <class S>
void backward_weights(const Windows& v, int64_t filters, const S* dy, const S* x, const Grad& dw,
                      const Grad& db) {
  using T = AccType<S>;
  constexpr int64_t kWindows = 96, kMaxParts = 8;
  const int64_t slice = slice_of<S>(v), rows = v.batch * v.rows;
  if (slice >= rows) {  // threads share the one matmul, and there is nothing to add
    if (dw) {
      Tensor matrix = empty({rows * v.columns, v.size()}, dtype_of<S>());
      gather(v, x, 0, rows, matrix.data<S>());
      gemm<S>(filters, v.size(), rows * v.columns, {dy, filters, true},
              {matrix.data<S>(), v.size()}, dw.tensor.data<T>(), dw.accumulate);
    }
    if (db) column_sums(rows * v.columns, filters, dy, db.tensor.data<T>(), db.accumulate);
    return;
  }
  const int parts =
      int(std::clamp<int64_t>(std::min(rows, rows * v.columns / kWindows), 1, kMaxParts));
  PartialGrads<T> dw_sums(dw, parts), db_sums(db, parts);
  Scratch<S> scratch(slice * v.columns * v.size());
  parallel_chunks(parts, 1, [&](int part, int64_t, int64_t) {
    const int64_t first = rows * part / parts, last = rows * (part + 1) / parts;
    S* const matrix = scratch.mine();
    int64_t begin = first;
    do {
      const int64_t end = std::min(last, begin + slice), windows = (end - begin) * v.columns;
      const S* const dy_slice = dy + begin * v.columns * filters;
      if (dw) {
        gather(v, x, begin, end, matrix);
        gemm_on_thread<S>(filters, v.size(), windows, {dy_slice, filters, true}, {matrix, v.size()},
                          dw_sums[part], dw_sums.accumulate(part) || begin > first);
      }
      if (db)
        column_sums(windows, filters, dy_slice, db_sums[part],
                    db_sums.accumulate(part) || begin > first);
      begin = end;
    } while (begin < last);
  });
  dw_sums.finish();
  db_sums.finish();
}

// The inverse of gather() where windows do not overlap: writes all rows of dx that belong to rows
// [begin, end) of windows; pixels in no window are 0.
template <class S>
void ungather(const Windows& v, const S* matrix, int64_t begin, int64_t end, S* dx) {
  const int64_t segment = v.kernel_width * v.channels, row_size = v.width * v.channels;
  parallel_for(end - begin, 1, [&](int64_t first, int64_t last) {
    for (int64_t q = first; q < last; ++q) {
      const int64_t row = (begin + q) % v.rows, start = row * v.stride - v.top;
      S* const image = dx + (begin + q) / v.rows * v.height * row_size;
      const int64_t top = row == 0 ? 0 : start;
      const int64_t bottom = row + 1 == v.rows ? v.height : start + v.stride;
      std::fill(image + top * row_size, image + bottom * row_size, S(0));
      for (int64_t i = top - start; i < std::min(v.kernel_height, v.height - start); ++i) {
        const S* const from = matrix + q * v.columns * v.size() + i * segment;
        S* const to = image + (start + i) * row_size;
        for_windows(v, [&](int64_t c, int64_t at, int64_t a, int64_t b) {
          std::copy(from + c * v.size() + a, from + c * v.size() + b, to + at);
        });
      }
    }
  });
}

// dx where windows do not overlap; else false. The matrix dy W goes back to where im2col copies
// from, and nothing is added.
template <class S>
bool backward_input_apart(const Windows& v, int64_t filters, const S* dy, const S* w, S* dx) {
  if (overlap(v)) return false;
  const int64_t slice = slice_of<S>(v), rows = v.batch * v.rows;
  if (slice >= rows) {  // threads share the one matmul
    Tensor matrix = empty({rows * v.columns, v.size()}, dtype_of<S>());
    gemm<S>(rows * v.columns, v.size(), filters, {dy, filters}, {w, v.size()}, matrix.data<S>());
    ungather(v, matrix.data<S>(), 0, rows, dx);
    return true;
  }
  Scratch<S> scratch(slice * v.columns * v.size());
  parallel_for((rows + slice - 1) / slice, 1, [&](int64_t first, int64_t last) {
    S* const matrix = scratch.mine();
    for (int64_t begin = first * slice; begin < std::min(rows, last * slice); begin += slice) {
      const int64_t end = std::min(rows, begin + slice);
      gemm_on_thread<S>((end - begin) * v.columns, v.size(), filters,
                        {dy + begin * v.columns * filters, filters}, {w, v.size()}, matrix);
      ungather(v, matrix, begin, end, dx);
    }
  });
  return true;
}

// dx: each element of the matrix dy W is added to the pixel whose copy im2col put there. Rows of dx
// are cut into fixed chunks, and the thread that has a chunk takes all windows that reach into it.
template <class S>
void backward_input(const Windows& v, int64_t filters, const S* dy, const S* w, const Grad& grad) {
  using T = AccType<S>;
  constexpr int64_t kGrain = 32;  // rows; windows that reach over the border are done twice
  const int64_t slice = slice_of<S>(v), row_size = v.width * v.channels;
  const int64_t rows = v.batch * v.height;
  const int chunks = chunks_of(rows, kGrain);
  Scratch<T> scratch(slice * v.columns * v.size());
  RowSums<S> sums(std::min(v.height, (rows + chunks - 1) / chunks) * row_size);
  parallel_chunks(rows, kGrain, [&](int, int64_t first, int64_t last) {
    T* const matrix = scratch.mine();
    for (int64_t at = first; at < last;) {
      const int64_t image = at / v.height, top = at % v.height;
      const int64_t bottom = std::min(v.height, top + last - at);
      const int64_t size = (bottom - top) * row_size;
      S* const dx_rows = grad.tensor.data<S>() + at * row_size;
      T* const dx = sums.at(dx_rows);
      if (grad.accumulate) sums.load(dx_rows, size);
      // The first row of windows that ends below `top`, and the first that starts below `bottom`.
      const int64_t above = top + v.top - v.kernel_height;
      const int64_t begin = above < 0 ? 0 : std::min(v.rows, above / v.stride + 1);
      const int64_t end = std::min(v.rows, (bottom - 1 + v.top) / v.stride + 1);
      int64_t cleared = top;
      const auto clear_until = [&](int64_t row) {
        if (!grad.accumulate && row > cleared)
          std::fill(dx + (cleared - top) * row_size, dx + (row - top) * row_size, T(0));
        cleared = std::max(cleared, row);
      };
      for (int64_t row = begin; row < end; row += slice) {
        const int64_t next = std::min(end, row + slice);
        clear_until(std::min(bottom, (next - 1) * v.stride - v.top + v.kernel_height));
        gemm_on_thread<S>((next - row) * v.columns, v.size(), filters,
                          {dy + (image * v.rows + row) * v.columns * filters, filters},
                          {w, v.size()}, matrix);
        scatter(v, matrix, row, next, top, bottom, dx);
      }
      clear_until(bottom);
      sums.store(dx_rows, size);
      at += bottom - top;
    }
  });
}

// Has f(C* to) write the gradient, if it is wanted, and returns whether it did: f returns false
// where it cannot. Where the gradient accumulates, f writes to new memory, which is added: dx in
// bf16 is rounded once more, as where two operations give it.
template <class C, class F>
bool gradient_by(Stream& stream, const Grad& grad, const F& f) {
  if (!grad) return false;
  if (!grad.accumulate) return f(grad.tensor.data<C>());
  Tensor more = empty_like(grad.tensor);
  if (!f(more.data<C>())) return false;
  profile::add_bytes(3.0 * double(more.bytes()));
  kernels::add_into(stream, more, grad.tensor);
  return true;
}

void backward(Stream& stream, In dy, In x, In w, const Conv2dGeometry& geometry, Grad dx, Grad dw,
              Grad db) {
  const Windows v = windows_of(x, w, dy, geometry);
  const int64_t filters = w.dim(0);
  dispatch<float, double, bf16>(x.dtype(), "conv2d", [&]<class S>() {
    const S *const dyp = dy.data<S>(), *const xp = x.data<S>(), *const wp = w.data<S>();
    const auto write_dw = [&]([[maybe_unused]] float* to) {
      if constexpr (!std::is_same_v<S, double>)
        if (is_winograd<S>(v, filters, Result::dw) && winograd_weights(v, filters, dyp, xp, to))
          return true;
      if constexpr (std::is_same_v<S, bf16>)
        if (is_direct<S>(v, Result::dw)) return convolution_weights(v, filters, dyp, xp, to), true;
      return false;
    };
    const auto write_dx = [&](S* to) {
      if constexpr (!std::is_same_v<S, double>)
        if (is_winograd<S>(v, filters, Result::dx) && winograd_input(v, filters, dyp, wp, to))
          return true;
      if constexpr (std::is_same_v<S, bf16>)
        if (is_direct<S>(v, Result::dx)) return convolution_input(v, filters, dyp, wp, to), true;
      return backward_input_apart(v, filters, dyp, wp, to);
    };
    if (dy.numel() > 0) {
      if constexpr (!std::is_same_v<S, double>)
        if (gradient_by<float>(stream, dw, write_dw)) dw = {};
      if (gradient_by<S>(stream, dx, write_dx)) dx = {};
    }
    if (dw || db) backward_weights<S>(v, filters, dyp, xp, dw, db);
    if (dx) backward_input<S>(v, filters, dyp, wp, dx);
  });
}

void choices(Stream&, std::vector<std::string>& lines) {
  const dnnl_version_t& v = *dnnl_version();
  lines = {fmt::format("convolutions: oneDNN {}.{}.{} (Winograd, direct) and own kernels", v.major,
                       v.minor, v.patch)};
}

const Register r0{kernels::conv2d_choices, DeviceType::cpu, choices};
const Register r1{kernels::conv2d_fwd, DeviceType::cpu, forward};
const Register r2{kernels::conv2d_bwd, DeviceType::cpu, backward};

}  // namespace
}  // namespace sg
