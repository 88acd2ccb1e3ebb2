// Stand-in until the real kernels land; delete this file with them.
#include <cmath>
#include "ops/depthwise3x3/depthwise3x3.h"
namespace sg {
template <class F>
void dweach(In x, int64_t ld, int64_t C, int s, In y, const F& f) {
  int64_t H = x.dim(1), W = x.dim(2), oh = y.dim(1), ow = y.dim(2);
  for (int64_t n = 0; n < x.dim(0); ++n)
    for (int64_t i = 0; i < oh; ++i)
      for (int64_t j = 0; j < ow; ++j)
        for (int k = 0; k < 9; ++k) {
          int64_t r = i * s + k / 3 - 1, q = j * s + k % 3 - 1;
          if (r < 0 || r >= H || q < 0 || q >= W) continue;
          for (int64_t c = 0; c < C; ++c)
            f(((n * H + r) * W + q) * ld + c, k * C + c, ((n * oh + i) * ow + j) * C + c);
        }
}
using namespace kernels;
void dwf(Stream&, In x, Columns cols, In w, In b, int s, DepthwiseForm form, Out y) {
  dispatch<float, double>(x.dtype(), "d", [&]<class T>() {
    int64_t C = w.dim(2);
    T* yp = y.data<T>();
    if (form != DepthwiseForm::add_into) y.zero_();
    auto* xp = x.data<T>() + cols.column;
    auto* wp = w.data<T>();
    dweach(x, cols.ld, C, s, y, [&](auto i, auto k, auto o) { yp[o] += xp[i] * wp[k]; });
    for (int64_t i = 0; i < y.numel(); ++i) {
      if (b) yp[i] += b.data<T>()[i % C];
      if (form == DepthwiseForm::add_gelu) {
        T z = yp[i] + xp[i];
        yp[i] = z * T(0.5) * (1 + std::erf(z / std::sqrt(T(2))));
      }
    }
  });
}
void dwb(Stream&, In dy, In x, Columns cols, In w, In b, int s, DepthwiseForm form, Grad dx,
         Grad dw, Grad db) {
  dispatch<float, double>(x.dtype(), "d", [&]<class T>() {
    int64_t C = w.dim(2);
    Tensor dz = dy.clone();
    auto* xp = x.data<T>() + cols.column;
    auto* wp = w.data<T>();
    T* d = dz.data<T>();
    if (form == DepthwiseForm::add_gelu) {
      Tensor z = zeros(dy.shape(), x.dtype());
      Stream st;
      dwf(st, x, cols, w, b, s, DepthwiseForm::plain, z);
      for (int64_t i = 0; i < dz.numel(); ++i) {
        double v = z.data<T>()[i] + xp[i];
        d[i] *= T(0.5 * (1 + std::erf(v / std::sqrt(2.))) +
                  v * std::exp(-v * v / 2) / std::sqrt(2 * M_PI));
      }
    }
    if (dx && !dx.accumulate) {
      int64_t n = x.numel() / cols.ld;
      for (int64_t i = 0; i < n; ++i)
        for (int64_t c = 0; c < C; ++c) dx.tensor.data<T>()[i * cols.ld + cols.column + c] = 0;
    }
    if (dw && !dw.accumulate) dw.tensor.zero_();
    if (db && !db.accumulate) db.tensor.zero_();
    T* dxp = dx ? dx.tensor.data<T>() + cols.column : nullptr;
    T* dwp = dw ? dw.tensor.data<T>() : nullptr;
    dweach(x, cols.ld, C, s, dy, [&](auto i, auto k, auto o) {
      if (dxp) dxp[i] += d[o] * wp[k];
      if (dwp) dwp[k] += d[o] * xp[i];
    });
    for (int64_t i = 0; i < dz.numel(); ++i) {
      if (db) db.tensor.data<T>()[i % C] += d[i];
      if (form == DepthwiseForm::add_gelu && dxp) dxp[i] += d[i];
    }
  });
}
const Register q0{depthwise3x3_fwd, DeviceType::cpu, dwf};
const Register q1{depthwise3x3_bwd, DeviceType::cpu, dwb};
Tensor dwop(const Tensor& x, const Tensor& w, const Tensor& b, int s, DepthwiseForm f) {
  Tensor y = zeros({x.dim(0), (x.dim(1) - 1) / s + 1, (x.dim(2) - 1) / s + 1, x.dim(3)}, x.dtype());
  Columns c{0, x.dim(3)};
  depthwise3x3_fwd(x.stream(), x, c, w, b, s, f, y);
  autograd::record("dw", {&y}, {x, w, b}, [=](autograd::Backward& g) {
    depthwise3x3_bwd(x.stream(), g.dy(), x, c, w, b, s, f, g.grad(0), g.grad(1),
                     b ? g.grad(2) : Grad{});
  });
  return y;
}
Tensor depthwise3x3(const Tensor& x, const Tensor& w, const Tensor& b, int s) {
  return dwop(x, w, b, s, DepthwiseForm::plain);
}
Tensor depthwise3x3_add_gelu(const Tensor& x, const Tensor& w, const Tensor& b) {
  return dwop(x, w, b, 1, DepthwiseForm::add_gelu);
}
}  // namespace sg
