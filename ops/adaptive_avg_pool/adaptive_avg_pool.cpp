#include "ops/adaptive_avg_pool/adaptive_avg_pool.h"

#include "core/profile.h"

namespace sg {

Tensor adaptive_avg_pool(const Tensor& x, int64_t side) {
  check_dims("adaptive_avg_pool", "x", x, 4);
  check(x.dim(1) > 0 && x.dim(2) > 0, "adaptive_avg_pool: x: the map {} has no pixels",
        x.shape().str());
  check(side >= 1, "adaptive_avg_pool: side: expected at least 1, found {}", side);
  Tensor y = empty({x.dim(0), side, side, x.dim(3)}, x.dtype(), x.device());
  const double ops = double(x.numel()), bytes = double(x.bytes() + y.bytes());
  {
    const profile::OpScope scope("adaptive_avg_pool.fwd", ops, bytes);
    kernels::adaptive_avg_pool_fwd(x.stream(), x, y);
  }
  autograd::record("adaptive_avg_pool", {&y}, {x}, [=](autograd::Backward& g) {
    const profile::OpScope scope("adaptive_avg_pool.bwd", ops, bytes);
    kernels::adaptive_avg_pool_bwd(g.dy().stream(), g.dy(), g.grad(0));
  });
  return y;
}

}  // namespace sg
