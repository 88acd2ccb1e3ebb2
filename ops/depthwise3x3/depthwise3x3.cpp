#include "ops/depthwise3x3/depthwise3x3.h"

#include "core/profile.h"

namespace sg {
namespace {

using kernels::DepthwiseForm;

Tensor apply(const char* name, const Tensor& x, const Tensor& w, const Tensor& b, int stride,
             DepthwiseForm form) {
  check_dims(name, "x", x, 4);
  const int64_t h = x.dim(1), width = x.dim(2), c = x.dim(3);
  check(h > 0 && width > 0, "{}: x: the map {} has no pixels", name, x.shape().str());
  check(stride == 1 || stride == 2, "{}: stride: expected 1 or 2, found {}", name, stride);
  check_shape(name, "w", w, {3, 3, c});
  check_acc_dtype(name, "w", w, x);
  if (b) {
    check_shape(name, "b", b, {c});
    check_acc_dtype(name, "b", b, x);
  }

  const std::vector<Tensor> inputs{x, w, b};
  const kernels::Columns all{0, c};
  Tensor y = empty({x.dim(0), (h + stride - 1) / stride, (width + stride - 1) / stride, c},
                   x.dtype(), x.device());
  const double macs = 9.0 * double(y.numel()), bytes = double(x.bytes() + y.bytes());
  {
    const profile::OpScope scope("depthwise3x3.fwd", profile::multiply_adds(macs), bytes);
    kernels::depthwise3x3_fwd(x.stream(), x, all, w, b, stride, form, y);
  }
  autograd::record(name, {&y}, inputs, [=](autograd::Backward& g) {
    const bool recomputes = form == DepthwiseForm::add_gelu;
    const profile::OpScope scope("depthwise3x3.bwd",
                                 profile::multiply_adds(macs * (recomputes ? 3 : 2)),
                                 bytes + double(x.bytes()));
    Tensor dx_sums = g.column_sums(0);
    kernels::depthwise3x3_bwd(x.stream(), g.dy(), x, all, w, b, stride, form, g.grad(0), dx_sums,
                              g.grad(1), g.grad(2));
  });
  return y;
}

}  // namespace

Tensor depthwise3x3(const Tensor& x, const Tensor& w, const Tensor& b, int stride) {
  return apply("depthwise3x3", x, w, b, stride, DepthwiseForm::plain);
}

Tensor depthwise3x3_add_gelu(const Tensor& x, const Tensor& w, const Tensor& b) {
  return apply("depthwise3x3_add_gelu", x, w, b, 1, DepthwiseForm::add_gelu);
}

}  // namespace sg
