#include "ops/nearest_resize/nearest_resize.h"

#include "core/profile.h"
#include "ops/drop_path/drop_path.h"

namespace sg {

Tensor nearest_resize(const Tensor& x, int64_t height, int64_t width, const Tensor& base) {
  constexpr int64_t kMaxSide = 1 << 20;  // float32 tells more positions apart
  check_dims("nearest_resize", "x", x, 4);
  for (const auto& [h, w] : {std::pair{height, width}, {x.dim(1), x.dim(2)}})
    check(h >= 1 && w >= 1 && h <= kMaxSide && w <= kMaxSide,
          "nearest_resize: expected sides of 1 to {}, found {} x {}", kMaxSide, h, w);
  const Shape shape{x.dim(0), height, width, x.dim(3)};
  if (base) {
    check_shape("nearest_resize", "base", base, shape);
    check_like("nearest_resize", "base", base, x);
  }
  if (x.shape() == shape) return base ? drop_path_add(x, base, {}) : x;

  Tensor y = empty(shape, x.dtype(), x.device());
  const double bytes = double(x.bytes() + y.bytes());
  {
    const profile::OpScope scope("nearest_resize.fwd", base ? double(y.numel()) : 0,
                                 bytes + (base ? double(y.bytes()) : 0));
    kernels::nearest_resize_fwd(x.stream(), x, base, y);
  }
  const double flops = double(y.numel());
  autograd::record("nearest_resize", {&y}, {x, base}, [=](autograd::Backward& g) {
    g.forward_grad(1, g.dy());
    const Grad dx = g.grad(0);
    if (!dx) return;
    const profile::OpScope scope("nearest_resize.bwd", flops, bytes);
    kernels::nearest_resize_bwd(g.dy().stream(), g.dy(), dx);
  });
  return y;
}

}  // namespace sg
