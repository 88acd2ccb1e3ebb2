#include "ops/relu/relu.h"

#include "core/profile.h"

namespace sg {

Tensor relu(const Tensor& x) {
  check(x.defined(), "relu: x: missing");
  Tensor y = empty_like(x);
  const double n = double(x.numel()), bytes = double(x.bytes());
  {
    const profile::OpScope scope("relu.fwd", n, 2 * bytes);
    kernels::relu_fwd(x.stream(), x, y);
  }
  autograd::record("relu", {&y}, {x}, [=, y = y.detach()](autograd::Backward& g) {
    const profile::OpScope scope("relu.bwd", n, 3 * bytes);
    kernels::relu_bwd(g.dy().stream(), g.dy(), y, g.grad(0));
  });
  return y;
}

}  // namespace sg
