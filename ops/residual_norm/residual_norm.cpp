#include "ops/residual_norm/residual_norm.h"

#include "core/profile.h"
#include "ops/drop_path/drop_path.h"

namespace sg {

ResidualNorm residual_norm(const Tensor& x, const Tensor& branch, const Tensor& keep,
                           const Tensor& w, const Tensor& b, double eps) {
  check(x.defined() && x.dims() >= 1, "residual_norm: x: expected at least one dimension");
  check_shape("residual_norm", "branch", branch, x.shape());
  check_like("residual_norm", "branch", branch, x);
  if (keep) {
    check_shape("residual_norm", "keep", keep, {x.dim(0)});
    check_wide("residual_norm", "keep", keep, x);
    autograd::refuse_grad("residual_norm: keep", {keep});
  }
  const int64_t c = x.dim(-1), rows = c ? x.numel() / c : 0;
  check_shape("residual_norm", "w", w, {c});
  check_shape("residual_norm", "b", b, {c});
  check_wide("residual_norm", "w", w, x);
  check_wide("residual_norm", "b", b, x);

  const std::vector<Tensor> inputs{x, branch, w, b};
  Tensor y = empty_like(x), n = empty_like(x), mean, rstd;
  if (autograd::recording(inputs)) {
    mean = empty({rows}, wide(x.dtype()), x.device());
    rstd = empty_like(mean);
  }
  const double numel = double(x.numel()), bytes = double(x.bytes());
  {
    const profile::Scope scope("residual_norm.fwd", 10 * numel, 4 * bytes);
    kernels::residual_norm_fwd(x.stream(), x, branch, keep, w, b, eps, y, n, mean, rstd);
  }
  autograd::record("residual_norm", {&y, &n}, inputs, [=, y = y.detach()](autograd::Backward& g) {
    if (!g.dy(1)) {  // the norm is not used
      g.pass(0, g.dy(0));
      if (!keep) return g.pass(1, g.dy(0));
      if (g.wants(1)) kernels::drop_path_bwd(y.stream(), g.dy(0), keep, g.grad(1));
      return;
    }
    const Tensor dx = empty_like(y), branch_sums = g.column_sums(1);
    {
      const profile::Scope scope("residual_norm.bwd", 16 * numel, (keep ? 5 : 4) * bytes);
      kernels::residual_norm_bwd(y.stream(), g.dy(0), g.dy(1), y, keep, w, b, mean, rstd, dx,
                                 keep ? g.grad(1) : Grad(), branch_sums, g.grad(2), g.grad(3));
    }
    g.pass(0, dx);
    if (!keep) g.pass(1, dx);
  });
  return {y, n};
}

}  // namespace sg
