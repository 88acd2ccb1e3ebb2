// Forward in float32 is oneDNN's convolution. All else copies windows into the rows of a matrix, a
// slice at a time, and is a matrix product: measured twice as fast as oneDNN's gradient of the
// weights, and as fast as its gradient of the input.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/conv2d/conv2d_cpu.cpp"
#include <hwy/foreach_target.h>

#include "core/cpu/column_sums.h"
#include "core/cpu/convolution.h"
#include "core/cpu/gemm.h"
#include "core/cpu/parallel.h"
#include "core/cpu/simd-inl.h"
#include "core/cpu/simd_register.h"
#include "ops/conv2d/conv2d.h"

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
          std::copy(from + at, from + at + (b - a), row + a);
          std::fill(row + b, row + segment, T(0));
        });
      }
  });
}

// The transpose: adds the matrix to the windows in dx. Slices come in order; a row of dx that no
// earlier slice has reached is cleared first, unless dx is to be added to.
template <class T>
void scatter(const Windows& v, const T* matrix, int64_t begin, int64_t end, bool accumulate,
             T* dx) {
  const int64_t segment = v.kernel_width * v.channels, width = v.width * v.channels;
  for (int64_t q = begin; q < end;) {
    const int64_t image = q / v.rows, row0 = q % v.rows;
    const int64_t row1 = std::min(v.rows, row0 + end - q);
    const auto start_of = [&](int64_t row) { return row * v.stride - v.top; };
    const int64_t reached =
        row0 == 0 ? 0 : std::min(v.height, start_of(row0 - 1) + v.kernel_height);
    const int64_t from = row0 == 0 ? 0 : std::clamp<int64_t>(start_of(row0), 0, reached);
    const int64_t to =
        row1 == v.rows ? v.height : std::min(v.height, start_of(row1 - 1) + v.kernel_height);
    const T* const rows = matrix + (q - begin) * v.columns * v.size();
    parallel_for(to - from, 1, [&](int64_t first, int64_t last) HWY_ATTR {
      for (int64_t r = from + first; r < from + last; ++r) {
        T* const dx_row = dx + (image * v.height + r) * width;
        if (!accumulate && r >= reached) std::fill(dx_row, dx_row + width, T(0));
        for (int64_t i = 0; i < v.kernel_height; ++i) {
          const int64_t start = r - i + v.top, row = start / v.stride;
          if (start < 0 || start % v.stride != 0 || row < row0 || row >= row1) continue;
          const T* const part = rows + (row - row0) * v.columns * v.size() + i * segment;
          for_windows(v, [&](int64_t c, int64_t at, int64_t a, int64_t b) HWY_ATTR {
            const T* const in = part + c * v.size() + a;
            for_lanes<T>(b - a, [&](auto d, int64_t k) HWY_ATTR {
              const auto sum = hn::Add(hn::LoadU(d, dx_row + at + k), hn::LoadU(d, in + k));
              hn::StoreU(sum, d, dx_row + at + k);
            });
          });
        }
      }
    });
    q += row1 - row0;
  }
}

// f(matrix, begin, end) over slices of rows of windows, whose matrix stays in cache.
template <class T, class F>
void for_slices(const Windows& v, const F& f) {
  constexpr int64_t kBytes = 1 << 20;  // of matrix for a thread
  const int64_t row_size = v.columns * v.size(), rows = v.batch * v.rows;
  const int64_t step = std::clamp<int64_t>(num_threads() * kBytes / (row_size * int64_t(sizeof(T))),
                                           1, std::max<int64_t>(rows, 1));
  const Tensor matrix = empty({step, row_size}, dtype_of<T>());
  for (int64_t begin = 0; begin < rows; begin += step)
    f(matrix.data<T>(), begin, std::min(rows, begin + step));
}

void forward(Stream&, In x, In w, In b, const Conv2dGeometry& geometry, Out y) {
  const Windows v = windows_of(x, w, y, geometry);
  const int64_t filters = w.dim(0);
  if (y.numel() == 0) return;
  if (x.dtype() == Dtype::f32)
    return convolution(v, filters, x.data<float>(), w.data<float>(), b ? b.data<float>() : nullptr,
                       y.data<float>());
  dispatch<double>(x.dtype(), "conv2d", [&]<class T>() {
    for_slices<T>(v, [&](T* matrix, int64_t begin, int64_t end) {
      gather(v, x.data<T>(), begin, end, matrix);
      gemm<T>((end - begin) * v.columns, filters, v.size(), {matrix, v.size()},
              {w.data<T>(), v.size(), true}, y.data<T>() + begin * v.columns * filters, false,
              b ? b.data<T>() : nullptr);
    });
  });
}

void backward(Stream&, In dy, In x, In w, const Conv2dGeometry& geometry, Grad dx, Grad dw,
              Grad db) {
  dispatch<float, double>(x.dtype(), "conv2d", [&]<class T>() {
    const Windows v = windows_of(x, w, dy, geometry);
    const int64_t filters = w.dim(0);
    const auto dy_at = [&](int64_t row) { return dy.data<T>() + row * v.columns * filters; };
    if (db)
      column_sums(dy.numel() / filters, filters, dy.data<T>(), db.tensor.data<T>(), db.accumulate);
    if (dw && !dw.accumulate) dw.tensor.zero_();
    for_slices<T>(v, [&](T* matrix, int64_t begin, int64_t end) {
      const int64_t rows = (end - begin) * v.columns;
      if (dw) {
        gather(v, x.data<T>(), begin, end, matrix);
        gemm<T>(filters, v.size(), rows, {dy_at(begin), filters, true}, {matrix, v.size()},
                dw.tensor.data<T>(), true);
      }
      if (dx) {
        gemm<T>(rows, v.size(), filters, {dy_at(begin), filters}, {w.data<T>(), v.size()}, matrix);
        scatter(v, matrix, begin, end, dx.accumulate, dx.tensor.data<T>());
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
SG_REGISTER_SIMD(kernels::conv2d_fwd, forward);
SG_REGISTER_SIMD(kernels::conv2d_bwd, backward);
}  // namespace
}  // namespace sg
#endif
