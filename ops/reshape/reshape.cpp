#include "ops/reshape/reshape.h"

namespace sg {

Tensor reshape(const Tensor& x, const Shape& shape) {
  check(x.defined(), "reshape: x: missing");
  check(shape.numel() == x.numel(), "reshape: x: {} has {} elements, {} has {}", x.shape().str(),
        x.numel(), shape.str(), shape.numel());
  Tensor y = x.detach().view(shape);
  autograd::record("reshape", {&y}, {x}, [before = x.shape()](autograd::Backward& g) {
    g.forward_grad(0, g.dy().view(before));
  });
  return y;
}

}  // namespace sg
