#include "ops/bicubic_resize/bicubic_resize.h"

#include "core/profile.h"

namespace sg {

Tensor bicubic_resize(const Tensor& x, int64_t height, int64_t width) {
  check_dims("bicubic_resize", "x", x, 3);
  check(height >= 1 && width >= 1,
        "bicubic_resize: expected a size of at least 1 x 1, found {} x {}", height, width);
  if (x.dim(0) == height && x.dim(1) == width) return x;
  check(x.dim(0) >= 1 && x.dim(1) >= 1, "bicubic_resize: x: {} has no rows or columns",
        x.shape().str());

  Tensor y = empty({height, width, x.dim(2)}, x.dtype(), x.device());
  const double flops = 32.0 * double(y.numel()), bytes = double(x.bytes() + y.bytes());
  {
    const profile::OpScope scope("bicubic_resize.fwd", flops, bytes);
    kernels::bicubic_resize_fwd(x.stream(), x, y);
  }
  autograd::record("bicubic_resize", {&y}, {x}, [=](autograd::Backward& g) {
    const profile::OpScope scope("bicubic_resize.bwd", flops, bytes);
    kernels::bicubic_resize_bwd(g.dy().stream(), g.dy(), g.grad(0));
  });
  return y;
}

}  // namespace sg
