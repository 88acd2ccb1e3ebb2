#include "ops/concat/concat.h"

#include "core/profile.h"
#include "ops/slice/slice.h"

namespace sg {
namespace {

Shape with_dim(const Shape& shape, int dimension, int64_t size) {
  Shape s;
  for (int i = 0; i < shape.size(); ++i) s.push_back(i == dimension ? size : shape[i]);
  return s;
}

}  // namespace

Tensor concat(const std::vector<Tensor>& parts, int dimension) {
  check(!parts.empty() && parts[0].defined(), "concat: parts: expected at least one tensor");
  const Tensor& first = parts[0];
  const int d = dimension < 0 ? dimension + first.dims() : dimension;
  check(0 <= d && d < first.dims(), "concat: dimension: expected one of {}, found {}",
        first.shape().str(), dimension);
  int64_t size = 0, rows = 1, inner = 1;
  for (const Tensor& p : parts) {
    check_dims("concat", "parts", p, first.dims());
    check_shape("concat", "parts", p, with_dim(first.shape(), d, p.dim(d)));
    check_like("concat", "parts", p, first);
    size += p.dim(d);
  }
  for (int i = 0; i < d; ++i) rows *= first.dim(i);
  for (int i = d + 1; i < first.dims(); ++i) inner *= first.dim(i);
  Tensor y = empty(with_dim(first.shape(), d, size), first.dtype(), first.device());
  const double bytes = 2.0 * double(y.bytes());
  // Columns of the result where each part begins; one more for the end.
  std::vector<int64_t> begins{0};
  for (const Tensor& p : parts) begins.push_back(begins.back() + p.dim(d) * inner);
  {
    const profile::OpScope scope("concat.fwd", 0, bytes);
    for (size_t i = 0; i < parts.size(); ++i) {
      const int64_t columns = begins[i + 1] - begins[i];
      kernels::copy_columns(y.stream(), parts[i],
                            {rows, columns, 0, columns, begins[i], begins.back()}, {y, false});
    }
  }
  autograd::record("concat", {&y}, parts, [=](autograd::Backward& g) {
    const profile::OpScope scope("concat.bwd", 0, bytes);
    for (size_t i = 0; i + 1 < begins.size(); ++i) {
      const int64_t columns = begins[i + 1] - begins[i];
      if (const Grad dx = g.grad(int(i)))
        kernels::copy_columns(g.dy().stream(), g.dy(),
                              {rows, columns, begins[i], begins.back(), 0, columns}, dx);
    }
  });
  return y;
}

}  // namespace sg
