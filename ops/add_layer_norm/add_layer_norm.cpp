#include "ops/add_layer_norm/add_layer_norm.h"

#include "core/profile.h"
#include "ops/drop_path/drop_path.h"

namespace sg {

AddLayerNorm add_layer_norm(const Tensor& x, const Tensor& branch, const Tensor& keep,
                            const Tensor& w, const Tensor& b, double eps) {
  check(x.defined() && x.dims() >= 1, "add_layer_norm: x: expected at least one dimension");
  check_shape("add_layer_norm", "branch", branch, x.shape());
  check_like("add_layer_norm", "branch", branch, x);
  if (keep) {
    check_shape("add_layer_norm", "keep", keep, {x.dim(0)});
    check_acc_dtype("add_layer_norm", "keep", keep, x);
    autograd::refuse_grad("add_layer_norm: keep", {keep});
  }
  const int64_t c = x.dim(-1), rows = c ? x.numel() / c : 0;
  check_shape("add_layer_norm", "w", w, {c});
  check_shape("add_layer_norm", "b", b, {c});
  check_acc_dtype("add_layer_norm", "w", w, x);
  check_acc_dtype("add_layer_norm", "b", b, x);

  const std::vector<Tensor> inputs{x, branch, w, b};
  Tensor y = empty_like(x), n = empty_like(x), mean, rstd;
  if (autograd::recording(inputs)) {
    mean = empty({rows}, acc_dtype(x.dtype()), x.device());
    rstd = empty_like(mean);
  }
  const double numel = double(x.numel()), bytes = double(x.bytes());
  {
    const profile::OpScope scope("add_layer_norm.fwd", 10 * numel, 4 * bytes);
    kernels::add_layer_norm_fwd(x.stream(), x, branch, keep, w, b, eps, y, n, mean, rstd);
  }
  autograd::record("add_layer_norm", {&y, &n}, inputs, [=, y = y.detach()](autograd::Backward& g) {
    if (!g.dy(1)) {  // the norm is not used
      g.forward_grad(0, g.dy(0));
      if (!keep) return g.forward_grad(1, g.dy(0));
      if (g.wants(1)) kernels::drop_path_bwd(y.stream(), g.dy(0), keep, g.grad(1));
      return;
    }
    Tensor dx = empty_like(y), branch_sums = g.column_sums(1);
    {
      const profile::OpScope scope("add_layer_norm.bwd", 16 * numel, (keep ? 5 : 4) * bytes);
      kernels::add_layer_norm_bwd(y.stream(), g.dy(0), g.dy(1), y, keep, w, b, mean, rstd, dx,
                                  keep ? g.grad(1) : Grad(), branch_sums, g.grad(2), g.grad(3));
    }
    g.forward_grad(0, dx);
    if (!keep) g.forward_grad(1, dx);
  });
  return {y, n};
}

}  // namespace sg
