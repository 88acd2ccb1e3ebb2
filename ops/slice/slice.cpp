#include "ops/slice/slice.h"

#include "core/profile.h"

namespace sg {

Tensor slice(const Tensor& x, int dimension, int64_t begin, int64_t end) {
  check(x.defined(), "slice: x: missing");
  const int d = dimension < 0 ? dimension + x.dims() : dimension;
  check(0 <= d && d < x.dims(), "slice: dimension: expected one of {}, found {}", x.shape().str(),
        dimension);
  check(0 <= begin && begin <= end && end <= x.dim(d),
        "slice: [{}, {}) of dimension {} of {} does not exist", begin, end, dimension,
        x.shape().str());
  Shape shape;
  int64_t rows = 1, inner = 1;
  for (int i = 0; i < x.dims(); ++i) {
    shape.push_back(i == d ? end - begin : x.dim(i));
    if (i != d) (i < d ? rows : inner) *= x.dim(i);
  }
  const int64_t columns = (end - begin) * inner;
  const ColumnRange taken{rows, columns, begin * inner, x.dim(d) * inner, 0, columns};
  Tensor y = empty(shape, x.dtype(), x.device());
  const double bytes = 2.0 * double(y.bytes());
  {
    const profile::OpScope scope("slice.fwd", 0, bytes);
    kernels::copy_columns(x.stream(), x, taken, {y, false});
  }
  const ColumnRange back{rows, columns, 0, columns, taken.from_begin, taken.from_stride};
  autograd::record("slice", {&y}, {x}, [=](autograd::Backward& g) {
    const Grad dx = g.grad(0);
    const profile::OpScope scope("slice.bwd", 0, bytes + double(dx.tensor.bytes()));
    if (!dx.accumulate) dx.tensor.zero_();
    kernels::copy_columns(g.dy().stream(), g.dy(), back, dx);
  });
  return y;
}

void add_window(Tensor& map, const Tensor& window, int64_t top, int64_t left) {
  check_dims("add_window", "map", map, 3);
  check_dims("add_window", "window", window, 3);
  check_like("add_window", "window", window, map);
  const int64_t h = window.dim(0), w = window.dim(1), c = window.dim(2);
  check(c == map.dim(2) && top >= 0 && left >= 0 && top + h <= map.dim(0) && left + w <= map.dim(1),
        "add_window: a window {} at ({}, {}) does not lie in a map {}", window.shape().str(), top,
        left, map.shape().str());
  autograd::refuse_grad("add_window", {map, window});
  const profile::OpScope scope("add_window", double(window.numel()), 3.0 * double(window.bytes()));
  const int64_t begin = (top * map.dim(1) + left) * c;
  kernels::copy_columns(map.stream(), window, {h, w * c, 0, w * c, begin, map.dim(1) * c},
                        {map, true});
}

}  // namespace sg
