#include "ops/add_pos_embed/add_pos_embed.h"

#include "core/profile.h"

namespace sg {

Tensor add_pos_embed(const Tensor& x, const Tensor& table) {
  check_dims("add_pos_embed", "x", x, 4);
  check_shape("add_pos_embed", "table", table, {x.dim(1), x.dim(2), x.dim(3)});
  check_acc_dtype("add_pos_embed", "table", table, x);
  Tensor y = empty_like(x);
  {
    const profile::OpScope scope("add_pos_embed.fwd", double(x.numel()), 2.0 * double(x.bytes()));
    kernels::add_pos_embed_fwd(x.stream(), x, table, y);
  }
  const double ops = double(x.numel()), bytes = double(x.bytes());
  autograd::record("add_pos_embed", {&y}, {x, table}, [=](autograd::Backward& g) {
    g.forward_grad(0, g.dy());
    if (!g.wants(1)) return;
    const profile::OpScope scope("add_pos_embed.bwd", ops, bytes);
    kernels::add_pos_embed_bwd(g.dy().stream(), g.dy(), g.grad(1));
  });
  return y;
}

}  // namespace sg
