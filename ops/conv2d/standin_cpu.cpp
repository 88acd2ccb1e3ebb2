// Stand-in until the real kernels land; delete this file with them.
#include <cmath>
#include "ops/conv2d/conv2d.h"
namespace sg {
template <class F>
void each(In x, In w, const Conv2dGeometry& g, In y, const F& f) {
  int64_t H = x.dim(1), W = x.dim(2), C = x.dim(3), O = w.dim(0), kh = w.dim(1), kw = w.dim(2),
          oh = y.dim(1), ow = y.dim(2);
  for (int64_t n = 0; n < x.dim(0); ++n)
    for (int64_t i = 0; i < oh; ++i)
      for (int64_t j = 0; j < ow; ++j)
        for (int64_t o = 0; o < O; ++o)
          for (int64_t a = 0; a < kh; ++a)
            for (int64_t b = 0; b < kw; ++b) {
              int64_t r = i * g.stride + a - g.top, q = j * g.stride + b - g.left;
              if (r < 0 || r >= H || q < 0 || q >= W) continue;
              for (int64_t c = 0; c < C; ++c)
                f(((n * H + r) * W + q) * C + c, ((o * kh + a) * kw + b) * C + c,
                  ((n * oh + i) * ow + j) * O + o, o);
            }
}
Tensor conv2d(const Tensor& x, const Tensor& w, const Tensor& b, const Conv2dGeometry& g) {
  Tensor y = zeros({x.dim(0), (x.dim(1) + g.top + g.bottom - w.dim(1)) / g.stride + 1,
                    (x.dim(2) + g.left + g.right - w.dim(2)) / g.stride + 1, w.dim(0)},
                   x.dtype());
  dispatch<float, double>(x.dtype(), "c", [&]<class T>() {
    auto* xp = x.data<T>();
    auto* wp = w.data<T>();
    auto* yp = y.data<T>();
    each(x, w, g, y, [&](auto i, auto k, auto o, auto) { yp[o] += xp[i] * wp[k]; });
    if (b)
      for (int64_t i = 0; i < y.numel(); ++i) yp[i] += b.data<T>()[i % w.dim(0)];
  });
  autograd::record("conv", {&y}, {x, w, b}, [=](autograd::Backward& bw) {
    auto dy = bw.dy();
    Tensor dx = bw.fresh_grad(0), dw = bw.fresh_grad(1), db = bw.fresh_grad(2);
    dispatch<float, double>(x.dtype(), "c", [&]<class T>() {
      auto* d = dy.data<T>();
      if (dx) dx.zero_();
      if (dw) dw.zero_();
      if (db) db.zero_();
      T* dxp = dx ? dx.data<T>() : nullptr;
      T* dwp = dw.data<T>();
      auto* xp = x.data<T>();
      auto* wp = w.data<T>();
      each(x, w, g, dy, [&](auto i, auto k, auto o, auto) {
        if (dxp) dxp[i] += d[o] * wp[k];
        dwp[k] += d[o] * xp[i];
      });
      if (db)
        for (int64_t i = 0; i < dy.numel(); ++i) db.data<T>()[i % w.dim(0)] += d[i];
    });
  });
  return y;
}
}  // namespace sg
