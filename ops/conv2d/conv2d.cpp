#include "ops/conv2d/conv2d.h"

#include <utility>

#include "core/profile.h"
#include "ops/operand.h"

namespace sg {

Tensor conv2d(const Tensor& x, const Tensor& w, const Tensor& b, const Conv2dGeometry& geometry) {
  const Conv2dGeometry& g = geometry;
  check_dims("conv2d", "x", x, 4);
  check_dims("conv2d", "w", w, 4);
  const int64_t filters = w.dim(0), kh = w.dim(1), kw = w.dim(2), channels = w.dim(3);
  check(w.numel() > 0, "conv2d: w: expected no empty dimension, found {}", w.shape().str());
  check_shape("conv2d", "x", x, x.shape().with_last(channels));
  check_operand("conv2d", "w", w, x);
  if (b) {
    check_shape("conv2d", "b", b, {filters});
    check_operand("conv2d", "b", b, x);
  }
  check(g.stride >= 1, "conv2d: stride: expected at least 1, found {}", g.stride);
  // A window wholly outside the map would be a mistake of the caller.
  for (const auto& [padding, kernel] :
       {std::pair{g.top, kh}, {g.bottom, kh}, {g.left, kw}, {g.right, kw}})
    check(0 <= padding && padding < kernel,
          "conv2d: padding: expected less than the kernel's {}, found {}", kernel, padding);
  const int64_t height = x.dim(1) + g.top + g.bottom, width = x.dim(2) + g.left + g.right;
  check(x.dim(1) > 0 && x.dim(2) > 0 && height >= kh && width >= kw,
        "conv2d: a kernel of {} x {} does not fit a map of {} x {}, padded to {} x {}", kh, kw,
        x.dim(1), x.dim(2), height, width);

  Tensor y = empty({x.dim(0), (height - kh) / g.stride + 1, (width - kw) / g.stride + 1, filters},
                   x.dtype(), x.device());
  const double macs = double(y.numel()) * double(kh * kw * channels);
  const double bytes = double(x.bytes() + w.bytes() + y.bytes());
  {
    const profile::OpScope scope("conv2d.fwd", profile::multiply_adds(macs), bytes);
    kernels::conv2d_fwd(x.stream(), x, as_operand(w, x), as_operand(b, x), g, y);
  }
  autograd::record("conv2d", {&y}, {x, w, b}, [=](autograd::Backward& back) {
    const int products = int(back.wants(0)) + int(back.wants(1));
    const profile::OpScope scope("conv2d.bwd", profile::multiply_adds(products * macs),
                                 products * bytes);
    kernels::conv2d_bwd(x.stream(), back.dy(), x, as_operand(w, x), geometry, back.grad(0),
                        back.grad(1), back.grad(2));
  });
  return y;
}

std::vector<std::string> conv2d_choices(Device device) {
  std::vector<std::string> lines;
  kernels::conv2d_choices(current_stream(device), lines);
  return lines;
}

}  // namespace sg
