#include "ops/normalize/normalize.h"

#include "core/profile.h"

namespace sg {

Tensor normalize(const Tensor& pixels, const ChannelStats& stats, Dtype dtype) {
  check_dims("normalize", "pixels", pixels, 4);
  check(pixels.dim(3) == 3 && pixels.dtype() == Dtype::u8,
        "normalize: pixels: expected (B, H, W, 3) u8, found {} {}", pixels.shape().str(),
        name_of(pixels.dtype()));
  for (double s : stats.std) check(s > 0, "normalize: std: expected above 0, found {}", s);
  const Tensor y = empty(pixels.shape(), dtype, pixels.device());
  const profile::Scope scope("normalize", 2.0 * double(y.numel()),
                             double(pixels.bytes() + y.bytes()));
  kernels::normalize(pixels.stream(), pixels, stats, y);
  return y;
}

}  // namespace sg
