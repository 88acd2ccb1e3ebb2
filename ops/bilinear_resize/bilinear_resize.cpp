#include "ops/bilinear_resize/bilinear_resize.h"

#include "core/profile.h"
#include "ops/bilinear_resize/axis.h"
#include "ops/drop_path/drop_path.h"
#include "ops/slice/slice.h"

namespace sg {
namespace {

constexpr double kFlops = 8;  // of an element of the result: four multiply-adds

void check_map(const char* op, const Tensor& x, int64_t height, int64_t width) {
  check_dims(op, "x", x, 4);
  for (const auto& [h, w] : {std::pair{height, width}, {x.dim(1), x.dim(2)}})
    check(h >= 1 && w >= 1 && h <= kMaxResizeSide && w <= kMaxResizeSide,
          "{}: expected sides of 1 to {}, found {} x {}", op, kMaxResizeSide, h, w);
}

bool same_size(const Tensor& a, const Tensor& b) {
  return a.dim(1) == b.dim(1) && a.dim(2) == b.dim(2);
}

int64_t pixels_of(const Tensor& x) { return x.dim(0) * x.dim(1) * x.dim(2); }

// x as channels [begin, begin + C) of y, and the gradient of that.
void forward_part(const Tensor& x, int64_t begin, Tensor& y) {
  const int64_t c = x.dim(3);
  if (same_size(x, y))
    kernels::copy_columns(y.stream(), x, {pixels_of(x), c, 0, c, begin, y.dim(3)}, {y, false});
  else
    kernels::bilinear_resize_fwd(y.stream(), x, {}, begin, y);
}
void backward_part(const Tensor& dy, int64_t begin, const Grad& dx) {
  const int64_t c = dx.tensor.dim(3);
  if (same_size(dx.tensor, dy))
    kernels::copy_columns(dy.stream(), dy, {pixels_of(dy), c, begin, dy.dim(3), 0, c}, dx);
  else
    kernels::bilinear_resize_bwd(dy.stream(), dy, begin, dx);
}

}  // namespace

Tensor bilinear_resize(const Tensor& x, int64_t height, int64_t width, const Tensor& base) {
  check_map("bilinear_resize", x, height, width);
  const Shape shape{x.dim(0), height, width, x.dim(3)};
  if (base) {
    check_shape("bilinear_resize", "base", base, shape);
    check_like("bilinear_resize", "base", base, x);
  }
  if (x.shape() == shape) return base ? drop_path_add(x, base, {}) : x;

  Tensor y = empty(shape, x.dtype(), x.device());
  const double flops = kFlops * double(y.numel()), bytes = double(x.bytes() + y.bytes());
  {
    const profile::OpScope scope("bilinear_resize.fwd", flops,
                                 bytes + (base ? double(y.bytes()) : 0));
    kernels::bilinear_resize_fwd(x.stream(), x, base, 0, y);
  }
  autograd::record("bilinear_resize", {&y}, {x, base}, [=](autograd::Backward& g) {
    g.forward_grad(1, g.dy());
    const Grad dx = g.grad(0);
    if (!dx) return;
    const profile::OpScope scope("bilinear_resize.bwd", flops, bytes);
    kernels::bilinear_resize_bwd(g.dy().stream(), g.dy(), 0, dx);
  });
  return y;
}

Tensor bilinear_resize_concat(const std::vector<Tensor>& maps, int64_t height, int64_t width) {
  constexpr const char* op = "bilinear_resize_concat";
  check(!maps.empty(), "{}: maps: expected at least one", op);
  std::vector<int64_t> begins;  // channels of the result where each map begins
  int64_t channels = 0, resized = 0;
  double read = 0;
  for (const Tensor& x : maps) {
    check_map(op, x, height, width);
    check(x.dim(0) == maps[0].dim(0), "{}: maps: expected a batch of {} as the first, found {}", op,
          maps[0].dim(0), x.shape().str());
    check_like(op, "maps", x, maps[0]);
    begins.push_back(channels);
    channels += x.dim(3);
    if (x.dim(1) != height || x.dim(2) != width) resized += x.dim(3);
    read += double(x.bytes());
  }
  Tensor y = empty({maps[0].dim(0), height, width, channels}, maps[0].dtype(), maps[0].device());
  const double flops = kFlops * double(pixels_of(y) * resized), bytes = read + double(y.bytes());
  {
    const profile::OpScope scope("bilinear_resize_concat.fwd", flops, bytes);
    for (size_t i = 0; i < maps.size(); ++i) forward_part(maps[i], begins[i], y);
  }
  autograd::record(op, {&y}, maps, [=](autograd::Backward& g) {
    const profile::OpScope scope("bilinear_resize_concat.bwd", flops, bytes);
    for (size_t i = 0; i < begins.size(); ++i)
      if (const Grad dx = g.grad(int(i))) backward_part(g.dy(), begins[i], dx);
  });
  return y;
}

}  // namespace sg
