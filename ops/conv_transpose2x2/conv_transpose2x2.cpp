#include "ops/conv_transpose2x2/conv_transpose2x2.h"

#include "core/profile.h"
#include "ops/linear/linear.h"
#include "ops/operand.h"

namespace sg {
namespace {

// The pixels (B, H, W, 4 C) at their places in (B, 2H, 2W, C), plus the bias.
Tensor spread(const Tensor& pixels, const Tensor& b) {
  const int64_t c = pixels.dim(3) / 4;
  Tensor y = empty({pixels.dim(0), 2 * pixels.dim(1), 2 * pixels.dim(2), c}, pixels.dtype(),
                   pixels.device());
  const double n = double(y.numel()), bytes = double(y.bytes());
  {
    const profile::OpScope scope("conv_transpose2x2.fwd", n, 2 * bytes);
    kernels::spread_pixels(pixels.stream(), pixels, as_operand(b, pixels), y);
  }
  autograd::record("conv_transpose2x2", {&y}, {pixels, b}, [=](autograd::Backward& g) {
    const profile::OpScope scope("conv_transpose2x2.bwd", n, 2 * bytes);
    kernels::gather_pixels(g.dy().stream(), g.dy(), g.grad(0), g.grad(1));
  });
  return y;
}

}  // namespace

Tensor conv_transpose2x2(const Tensor& x, const Tensor& w, const Tensor& b) {
  constexpr const char* op = "conv_transpose2x2";
  check_dims(op, "x", x, 4);
  check_dims(op, "b", b, 1);
  check_shape(op, "w", w, {4 * b.dim(0), x.dim(3)});
  check_operand(op, "b", b, x);
  return spread(linear(x, w, {}), b);
}

}  // namespace sg
