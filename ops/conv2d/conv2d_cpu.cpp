// In float32, 3x3 windows of many channels go by Winograd's algorithm, and forward, where windows
// overlap, is oneDNN's convolution. All else copies windows into
// the rows of a matrix, a slice at a time, and is a matmul: measured twice as fast as
// oneDNN's gradient of the weights, and as fast as its gradient of the input.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/conv2d/conv2d_cpu.cpp"
#include <hwy/foreach_target.h>

#include "core/cpu/column_sums.h"
#include "core/cpu/convolution.h"
#include "core/cpu/gemm.h"
#include "core/cpu/parallel.h"
#include "core/cpu/scratch.h"
#include "core/cpu/simd-inl.h"
#include "core/cpu/simd_register.h"
#include "core/cpu/winograd.h"
#include "ops/conv2d/conv2d.h"
#include "ops/reduce_cpu.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
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

// One row of the kernel over one row of windows: f(c, at, begin, end) for each window c, whose
// elements [begin, end) of this row lie inside the image, from element `at` of the image's row on.
template <class F>
HWY_INLINE void for_windows(const Windows& v, const F& f) {
  for (int64_t c = 0; c < v.columns; ++c) {
    const int64_t left = c * v.stride - v.left;
    const int64_t begin = std::max<int64_t>(0, -left);
    const int64_t end = std::min(v.kernel_width, v.width - left);
    f(c, (left + begin) * v.channels, begin * v.channels, end * v.channels);
  }
}

// Rows [begin, end) of windows, counted through the batch, to rows of a matrix.
template <class T>
void gather(const Windows& v, const T* x, int64_t begin, int64_t end, T* matrix) {
  const int64_t segment = v.kernel_width * v.channels;
  parallel_for(end - begin, 1, [&](int64_t first, int64_t last) HWY_ATTR {
    for (int64_t q = first; q < last; ++q)
      for (int64_t i = 0; i < v.kernel_height; ++i) {
        const int64_t image = (begin + q) / v.rows;
        const int64_t r = (begin + q) % v.rows * v.stride - v.top + i;
        const bool inside = 0 <= r && r < v.height;
        const T* from = x + (inside ? (image * v.height + r) * v.width * v.channels : 0);
        T* const to = matrix + q * v.columns * v.size() + i * segment;
        for_windows(v, [&](int64_t c, int64_t at, int64_t a, int64_t b) HWY_ATTR {
          T* const row = to + c * v.size();
          if (!inside) a = b = segment;
          std::fill(row, row + a, T(0));
          for_lanes<T>(b - a, [&](auto d, int64_t k) HWY_ATTR {
            hn::StoreU(hn::LoadU(d, from + at + k), d, row + a + k);
          });
          std::fill(row + b, row + segment, T(0));
        });
      }
  });
}

// The transpose: adds the matrix of an image's rows [begin, end) of windows to rows [top, bottom)
// of its dx.
template <class T>
void scatter(const Windows& v, const T* matrix, int64_t begin, int64_t end, int64_t top,
             int64_t bottom, T* dx) {
  const int64_t segment = v.kernel_width * v.channels;
  for (int64_t row = begin; row < end; ++row)
    for (int64_t i = 0; i < v.kernel_height; ++i) {
      const int64_t r = row * v.stride - v.top + i;
      if (r < top || r >= bottom) continue;
      T* const to = dx + r * v.width * v.channels;
      const T* const from = matrix + (row - begin) * v.columns * v.size() + i * segment;
      for_windows(v, [&](int64_t c, int64_t at, int64_t a, int64_t b) HWY_ATTR {
        const T* const in = from + c * v.size() + a;
        for_lanes<T>(b - a, [&](auto d, int64_t k) HWY_ATTR {
          hn::StoreU(hn::Add(hn::LoadU(d, to + at + k), hn::LoadU(d, in + k)), d, to + at + k);
        });
      });
    }
}

// Rows of windows whose matrix stays in a core's cache but is large enough for a product.
template <class T>
int64_t slice_of(const Windows& v) {
  constexpr int64_t kBytes = 1 << 20, kWindows = 512;
  const int64_t windows = std::max(kWindows, kBytes / (v.size() * int64_t(sizeof(T))));
  return std::clamp<int64_t>(windows / v.columns, 1, std::max<int64_t>(1, v.batch * v.rows));
}

void forward(Stream&, In x, In w, In b, const Conv2dGeometry& geometry, Out y) {
  const Windows v = windows_of(x, w, y, geometry);
  const int64_t filters = w.dim(0);
  if (y.numel() == 0) return;
  // Where windows do not overlap, the copy is cheap and the product the faster of the two.
  const bool overlap = geometry.stride < std::max(v.kernel_height, v.kernel_width);
  if (x.dtype() == Dtype::f32 && overlap) {
    const float *const xp = x.data<float>(), *const wp = w.data<float>();
    const float* const bp = b ? b.data<float>() : nullptr;
    if (!winograd(v, filters, xp, wp, bp, y.data<float>()))
      convolution(v, filters, xp, wp, bp, y.data<float>());
    return;
  }
  dispatch<float, double>(x.dtype(), "conv2d", [&]<class T>() {
    const int64_t slice = slice_of<T>(v), rows = v.batch * v.rows;
    Scratch<T> scratch(slice * v.columns * v.size());
    parallel_for((rows + slice - 1) / slice, 1, [&](int64_t first, int64_t last) HWY_ATTR {
      T* const matrix = scratch.mine();
      for (int64_t begin = first * slice; begin < std::min(rows, last * slice); begin += slice) {
        const int64_t end = std::min(rows, begin + slice), windows = (end - begin) * v.columns;
        T* const to = y.data<T>() + begin * v.columns * filters;
        gather(v, x.data<T>(), begin, end, matrix);
        gemm_on_thread<T>(windows, filters, v.size(), {matrix, v.size()},
                          {w.data<T>(), v.size(), true}, to);
        for (int64_t i = 0; b && i < windows; ++i)
          for_lanes<T>(filters, [&](auto d, int64_t k) HWY_ATTR {
            T* const at = to + i * filters + k;
            hn::StoreU(hn::Add(hn::LoadU(d, at), hn::LoadU(d, b.data<T>() + k)), d, at);
          });
      }
    });
  });
}

// dw = dy^T times the windows, db = column sums of dy: summed over set parts of the rows of
// windows.
template <class T>
void backward_weights(const Windows& v, int64_t filters, const T* dy, const T* x, const Grad& dw,
                      const Grad& db) {
  constexpr int64_t kWindows = 96, kMostParts = 8;
  const int64_t slice = slice_of<T>(v), rows = v.batch * v.rows;
  const int parts =
      int(std::clamp<int64_t>(std::min(rows, rows * v.columns / kWindows), 1, kMostParts));
  Parts<T> dw_parts(dw, parts), db_parts(db, parts);
  Scratch<T> scratch(slice * v.columns * v.size());
  parallel_chunks(parts, 1, [&](int part, int64_t, int64_t) {
    const int64_t first = rows * part / parts, last = rows * (part + 1) / parts;
    T* const matrix = scratch.mine();
    int64_t begin = first;
    do {
      const int64_t end = std::min(last, begin + slice), windows = (end - begin) * v.columns;
      const T* const dy_slice = dy + begin * v.columns * filters;
      if (dw) {
        gather(v, x, begin, end, matrix);
        gemm_on_thread<T>(filters, v.size(), windows, {dy_slice, filters, true}, {matrix, v.size()},
                          dw_parts[part], dw_parts.begun(part) || begin > first);
      }
      if (db)
        column_sums(windows, filters, dy_slice, db_parts[part],
                    db_parts.begun(part) || begin > first);
      begin = end;
    } while (begin < last);
  });
  dw_parts.finish();
  db_parts.finish();
}

// The matrix dy W, scattered: set parts of the rows of dx, each by one thread, which takes all
// windows that reach them.
template <class T>
void backward_input(const Windows& v, int64_t filters, const T* dy, const T* w, const Grad& grad) {
  constexpr int64_t kGrain = 32;  // rows; windows that reach over the border are done twice
  const int64_t slice = slice_of<T>(v), row_size = v.width * v.channels;
  Scratch<T> scratch(slice * v.columns * v.size());
  parallel_chunks(v.batch * v.height, kGrain, [&](int, int64_t first, int64_t last) {
    T* const matrix = scratch.mine();
    for (int64_t at = first; at < last;) {
      const int64_t image = at / v.height, top = at % v.height;
      const int64_t bottom = std::min(v.height, top + last - at);
      T* const dx = grad.tensor.data<T>() + image * v.height * row_size;
      // The first row of windows that ends below `top`, and the first that starts below `bottom`.
      const int64_t above = top + v.top - v.kernel_height;
      const int64_t begin = above < 0 ? 0 : std::min(v.rows, above / v.stride + 1);
      const int64_t end = std::min(v.rows, (bottom - 1 + v.top) / v.stride + 1);
      int64_t cleared = top;
      const auto clear_until = [&](int64_t row) {
        if (!grad.accumulate && row > cleared)
          std::fill(dx + cleared * row_size, dx + row * row_size, T(0));
        cleared = std::max(cleared, row);
      };
      for (int64_t row = begin; row < end; row += slice) {
        const int64_t next = std::min(end, row + slice);
        clear_until(std::min(bottom, (next - 1) * v.stride - v.top + v.kernel_height));
        gemm_on_thread<T>((next - row) * v.columns, v.size(), filters,
                          {dy + (image * v.rows + row) * v.columns * filters, filters},
                          {w, v.size()}, matrix);
        scatter(v, matrix, row, next, top, bottom, dx);
      }
      clear_until(bottom);
      at += bottom - top;
    }
  });
}

// The gradient, if wanted, by f(float* to), which overwrites or, where it cannot, returns false.
template <class F>
bool gradient_by(const Grad& grad, const F& f) {
  if (!grad) return false;
  if (!grad.accumulate) return f(grad.tensor.data<float>());
  Tensor more = empty_like(grad.tensor);
  if (!f(more.data<float>())) return false;
  sum_chunks(more.data<float>(), 1, 0, grad);
  return true;
}

void backward(Stream&, In dy, In x, In w, const Conv2dGeometry& geometry, Grad dx, Grad dw,
              Grad db) {
  const Windows v = windows_of(x, w, dy, geometry);
  const int64_t filters = w.dim(0);
  if (x.dtype() == Dtype::f32 && dy.numel() > 0) {
    const float *const dyp = dy.data<float>(), *const xp = x.data<float>();
    const float* const wp = w.data<float>();
    if (gradient_by(dw, [&](float* to) { return winograd_weights(v, filters, dyp, xp, to); }))
      dw = {};
    if (gradient_by(dx, [&](float* to) { return winograd_input(v, filters, dyp, wp, to); }))
      dx = {};
  }
  dispatch<float, double>(x.dtype(), "conv2d", [&]<class T>() {
    if (dw || db) backward_weights(v, filters, dy.data<T>(), x.data<T>(), dw, db);
    if (dx) backward_input(v, filters, dy.data<T>(), w.data<T>(), dx);
  });
}

}  // namespace
}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sg {
namespace {
SG_REGISTER_SIMD(kernels::conv2d_fwd, forward);
SG_REGISTER_SIMD(kernels::conv2d_bwd, backward);
}  // namespace
}  // namespace sg
#endif
