#include "ops/normalize_images/normalize_images.h"

#include <limits>

#include "core/profile.h"

namespace sg {

Tensor normalize_images(const Tensor& pixels, const ChannelStats& stats, Dtype dtype,
                        const Tensor& changes, const Tensor& valid) {
  check_dims("normalize_images", "pixels", pixels, 4);
  check(pixels.dim(3) == 3 && pixels.dtype() == Dtype::u8,
        "normalize_images: pixels: expected (B, H, W, 3) u8, found {} {}", pixels.shape().str(),
        name_of(pixels.dtype()));
  check(3 * pixels.dim(1) * pixels.dim(2) <= std::numeric_limits<int32_t>::max(),
        "normalize_images: pixels: {}: an image of more than 2^31 numbers", pixels.shape().str());
  for (double s : stats.std) check(s > 0, "normalize_images: std: expected above 0, found {}", s);
  if (changes) check_changes("normalize_images", changes, pixels.dim(0), pixels.device());
  if (valid) {
    check_shape("normalize_images", "valid", valid, {pixels.dim(0), 2});
    check(valid.dtype() == Dtype::i32 && valid.device() == pixels.device(),
          "normalize_images: valid: expected i32 on {}, found {} on {}", str(pixels.device()),
          name_of(valid.dtype()), str(valid.device()));
  }
  Tensor y = empty(pixels.shape(), dtype, pixels.device());
  // An upper bound: only mixed images are read twice.
  const profile::OpScope scope("normalize_images", 2.0 * double(y.numel()),
                               double(pixels.bytes() * (changes ? 2 : 1) + y.bytes()));
  kernels::normalize_images(pixels.stream(), pixels, changes, valid, stats, y);
  return y;
}

}  // namespace sg
