#include "ops/layer_norm/layer_norm.h"

#include "core/profile.h"

namespace sg {

Tensor layer_norm(const Tensor& x, const Tensor& w, const Tensor& b, double eps, Activation act) {
  check(act != Activation::relu, "layer_norm: an activation of none or gelu, found relu");
  check(x.defined() && x.dims() >= 1, "layer_norm: x: expected at least one dimension");
  const int64_t c = x.dim(-1), rows = c ? x.numel() / c : 0;
  check_shape("layer_norm", "w", w, {c});
  check_shape("layer_norm", "b", b, {c});
  check_acc_dtype("layer_norm", "w", w, x);
  check_acc_dtype("layer_norm", "b", b, x);

  const std::vector<Tensor> inputs{x, w, b};
  Tensor y = empty_like(x), mean, rstd;
  if (autograd::recording(inputs)) {
    mean = empty({rows}, acc_dtype(x.dtype()), x.device());
    rstd = empty_like(mean);
  }
  {
    const profile::OpScope scope("layer_norm.fwd", 8.0 * double(x.numel()),
                                 2.0 * double(x.bytes()));
    kernels::layer_norm_fwd(x.stream(), x, w, b, eps, act, y, mean, rstd);
  }
  autograd::record("layer_norm", {&y}, inputs, [=](autograd::Backward& g) {
    const profile::OpScope scope("layer_norm.bwd", 14.0 * double(x.numel()),
                                 3.0 * double(x.bytes()));
    kernels::layer_norm_bwd(x.stream(), g.dy(), x, w, b, mean, rstd, act, g.grad(0), g.grad(1),
                            g.grad(2));
  });
  return y;
}

}  // namespace sg
