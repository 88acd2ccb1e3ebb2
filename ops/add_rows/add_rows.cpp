#include "ops/add_rows/add_rows.h"

#include "core/profile.h"

namespace sg {

Tensor add_rows(const Tensor& x, const Tensor& table) {
  check_dims("add_rows", "x", x, 4);
  check_shape("add_rows", "table", table, {x.dim(1), x.dim(2), x.dim(3)});
  check_wide("add_rows", "table", table, x);
  Tensor y = empty_like(x);
  {
    const profile::Scope scope("add_rows.fwd", double(x.numel()), 2.0 * double(x.bytes()));
    kernels::add_rows_fwd(x.stream(), x, table, y);
  }
  const double ops = double(x.numel()), bytes = double(x.bytes());
  autograd::record("add_rows", {&y}, {x, table}, [=](autograd::Backward& g) {
    g.pass(0, g.dy());
    if (!g.wants(1)) return;
    const profile::Scope scope("add_rows.bwd", ops, bytes);
    kernels::add_rows_bwd(g.dy().stream(), g.dy(), g.grad(1));
  });
  return y;
}

}  // namespace sg
