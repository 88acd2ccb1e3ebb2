#include "ops/mean_pool/mean_pool.h"

#include "core/profile.h"

namespace sg {

Tensor mean_pool(const Tensor& x) {
  check_dims("mean_pool", "x", x, 4);
  check(x.dim(1) * x.dim(2) > 0, "mean_pool: x: the map {} has no tokens", x.shape().str());
  Tensor y = empty({x.dim(0), x.dim(3)}, x.dtype(), x.device());
  const double ops = double(x.numel()), bytes = double(x.bytes());
  {
    const profile::OpScope scope("mean_pool.fwd", ops, bytes);
    kernels::mean_pool_fwd(x.stream(), x, y);
  }
  autograd::record("mean_pool", {&y}, {x}, [=](autograd::Backward& g) {
    const profile::OpScope scope("mean_pool.bwd", ops, bytes);
    kernels::mean_pool_bwd(g.dy().stream(), g.dy(), g.grad(0));
  });
  return y;
}

}  // namespace sg
