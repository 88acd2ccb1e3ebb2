#include "ops/group_norm/group_norm.h"

#include "core/profile.h"

namespace sg {

Tensor group_norm(const Tensor& x, const Tensor& w, const Tensor& b, double eps, Activation act) {
  check(act != Activation::relu, "group_norm: an activation of none or gelu, found relu");
  check_dims("group_norm", "x", x, 4);
  check_shape("group_norm", "w", w, {x.dim(3)});
  check_shape("group_norm", "b", b, {x.dim(3)});
  check_acc_dtype("group_norm", "w", w, x);
  check_acc_dtype("group_norm", "b", b, x);

  const std::vector<Tensor> inputs{x, w, b};
  Tensor y = empty_like(x), mean, rstd;
  if (autograd::recording(inputs)) {
    mean = empty({x.dim(0)}, acc_dtype(x.dtype()), x.device());
    rstd = empty_like(mean);
  }
  {
    const profile::OpScope scope("group_norm.fwd", 8.0 * double(x.numel()),
                                 3.0 * double(x.bytes()));
    kernels::group_norm_fwd(x.stream(), x, w, b, eps, act, y, mean, rstd);
  }
  autograd::record("group_norm", {&y}, inputs, [=](autograd::Backward& g) {
    const profile::OpScope scope("group_norm.bwd", 14.0 * double(x.numel()),
                                 5.0 * double(x.bytes()));
    kernels::group_norm_bwd(x.stream(), g.dy(), x, w, b, mean, rstd, act, g.grad(0), g.grad(1),
                            g.grad(2));
  });
  return y;
}

}  // namespace sg
