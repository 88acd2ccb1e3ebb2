#include "tests/support/naive.h"

#include <cmath>

namespace sg::test::naive {

using autograd::Backward, autograd::record;

namespace {
Tensor make(const Shape& shape) { return zeros(shape, Dtype::f64); }
const double* in(const Tensor& t) { return t.data<double>(); }
double* out(Tensor& t) { return t.data<double>(); }

// Adds v(i) to element i of the gradient of `input`, for callers that visit elements in any order.
template <class F>
void give(Backward& g, int input, const Shape& shape, const F& fill) {
  if (!g.wants(input)) return;
  Tensor d = make(shape);
  fill(out(d));
  g.forward_grad(input, d);
}
}  // namespace

Tensor add(const Tensor& a, const Tensor& b) {
  check_shape("naive::add", "b", b, a.shape());
  Tensor y = make(a.shape());
  for (int64_t i = 0; i < y.numel(); ++i) out(y)[i] = in(a)[i] + in(b)[i];
  record("add", {&y}, {a, b},
         [](Backward& g) { g.forward_grad(0, g.dy()), g.forward_grad(1, g.dy()); });
  return y;
}

Tensor multiply(const Tensor& a, const Tensor& b) {
  check_shape("naive::multiply", "b", b, a.shape());
  Tensor y = make(a.shape());
  for (int64_t i = 0; i < y.numel(); ++i) out(y)[i] = in(a)[i] * in(b)[i];
  record("multiply", {&y}, {a, b}, [=](Backward& g) {
    const auto product = [&](const Tensor& other) {
      return [&](double* d) {
        for (int64_t i = 0; i < a.numel(); ++i) d[i] = in(g.dy())[i] * in(other)[i];
      };
    };
    give(g, 0, a.shape(), product(b));
    give(g, 1, a.shape(), product(a));
  });
  return y;
}

Tensor map(const Tensor& x, const std::function<double(double)>& f,
           const std::function<double(double)>& derivative) {
  Tensor y = make(x.shape());
  for (int64_t i = 0; i < y.numel(); ++i) out(y)[i] = f(in(x)[i]);
  record("map", {&y}, {x}, [=](Backward& g) {
    give(g, 0, x.shape(), [&](double* d) {
      for (int64_t i = 0; i < x.numel(); ++i) d[i] = in(g.dy())[i] * derivative(in(x)[i]);
    });
  });
  return y;
}

Tensor scale(const Tensor& a, double factor) {
  return map(
      a, [=](double v) { return factor * v; }, [=](double) { return factor; });
}

Tensor gelu(const Tensor& x) {
  const auto cdf = [](double v) { return 0.5 * (1 + std::erf(v / std::sqrt(2.0))); };
  return map(
      x, [=](double v) { return v * cdf(v); },
      [=](double v) { return cdf(v) + v * std::exp(-v * v / 2) / std::sqrt(2 * M_PI); });
}

Tensor gather(const Tensor& x, const std::vector<int64_t>& index, Shape shape) {
  check(int64_t(index.size()) == shape.numel(), "naive::gather: {} indices for {}", index.size(),
        shape.str());
  Tensor y = make(shape);
  for (size_t i = 0; i < index.size(); ++i)
    if (index[i] >= 0) out(y)[i] = in(x)[index[i]];
  const Shape x_shape = x.shape();
  record("gather", {&y}, {x}, [=](Backward& g) {
    give(g, 0, x_shape, [&](double* d) {
      for (size_t i = 0; i < index.size(); ++i)
        if (index[i] >= 0) d[index[i]] += in(g.dy())[i];
    });
  });
  return y;
}

Tensor concat(const std::vector<Tensor>& parts, Shape shape) {
  Tensor y = make(shape);
  int64_t at = 0;
  for (const Tensor& p : parts) {
    for (int64_t i = 0; i < p.numel(); ++i) out(y)[at + i] = in(p)[i];
    at += p.numel();
  }
  check(at == y.numel(), "naive::concat: {} elements for {}", at, shape.str());
  record("concat", {&y}, parts, [=](Backward& g) {
    int64_t from = 0;
    for (size_t k = 0; k < parts.size(); ++k) {
      give(g, int(k), parts[k].shape(), [&](double* d) {
        for (int64_t i = 0; i < parts[k].numel(); ++i) d[i] = in(g.dy())[from + i];
      });
      from += parts[k].numel();
    }
  });
  return y;
}

Tensor matmul_nt(const Tensor& a, const Tensor& b) {
  const int64_t groups = a.dim(0), m = a.dim(1), n = b.dim(1), k = a.dim(2);
  check_shape("naive::matmul_nt", "b", b, {groups, n, k});
  Tensor y = make({groups, m, n});
  // visit(i of a, j of b, o of y) for every product.
  const auto each = [=](const auto& visit) {
    for (int64_t g = 0; g < groups; ++g)
      for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < n; ++j)
          for (int64_t p = 0; p < k; ++p)
            visit((g * m + i) * k + p, (g * n + j) * k + p, (g * m + i) * n + j);
  };
  each([&](int64_t i, int64_t j, int64_t o) { out(y)[o] += in(a)[i] * in(b)[j]; });
  record("matmul_nt", {&y}, {a, b}, [=](Backward& g) {
    give(g, 0, a.shape(), [&](double* d) {
      each([&](int64_t i, int64_t j, int64_t o) { d[i] += in(g.dy())[o] * in(b)[j]; });
    });
    give(g, 1, b.shape(), [&](double* d) {
      each([&](int64_t i, int64_t j, int64_t o) { d[j] += in(g.dy())[o] * in(a)[i]; });
    });
  });
  return y;
}

Tensor sum_last(const Tensor& x) {
  const int64_t k = x.dim(-1), rows = x.numel() / k;
  Shape shape;
  for (int i = 0; i + 1 < x.dims(); ++i) shape.push_back(x.dim(i));
  Tensor y = make(shape);
  for (int64_t i = 0; i < rows * k; ++i) out(y)[i / k] += in(x)[i];
  const Shape x_shape = x.shape();
  record("sum_last", {&y}, {x}, [=](Backward& g) {
    give(g, 0, x_shape, [&](double* d) {
      for (int64_t i = 0; i < rows * k; ++i) d[i] = in(g.dy())[i / k];
    });
  });
  return y;
}

Tensor softmax(const Tensor& x, const std::vector<bool>& keep) {
  const int64_t k = x.dim(-1), rows = x.numel() / k;
  const auto kept = [=](int64_t i) { return keep.empty() || keep[size_t(i)]; };
  Tensor y = make(x.shape());
  for (int64_t r = 0; r < rows; ++r) {
    double top = -INFINITY, sum = 0;
    for (int64_t i = r * k; i < (r + 1) * k; ++i)
      if (kept(i)) top = std::max(top, in(x)[i]);
    for (int64_t i = r * k; i < (r + 1) * k; ++i)
      if (kept(i)) sum += out(y)[i] = std::exp(in(x)[i] - top);
    for (int64_t i = r * k; i < (r + 1) * k; ++i)
      if (kept(i)) out(y)[i] /= sum;
  }
  const Tensor p = y.detach();
  record("softmax", {&y}, {x}, [=](Backward& g) {
    give(g, 0, p.shape(), [&](double* d) {
      for (int64_t r = 0; r < rows; ++r) {
        double dot = 0;
        for (int64_t i = r * k; i < (r + 1) * k; ++i) dot += in(p)[i] * in(g.dy())[i];
        for (int64_t i = r * k; i < (r + 1) * k; ++i) d[i] = in(p)[i] * (in(g.dy())[i] - dot);
      }
    });
  });
  return y;
}

Tensor log_softmax(const Tensor& x) {
  return map(
      softmax(x), [](double v) { return std::log(v); }, [](double v) { return 1 / v; });
}

Tensor standardize(const Tensor& x, double eps) {
  const int64_t k = x.dim(-1), rows = x.numel() / k;
  std::vector<int64_t> row(size_t(x.numel()));
  for (size_t i = 0; i < row.size(); ++i) row[i] = int64_t(i) / k;
  const auto mean_of = [&](const Tensor& v) {
    return gather(scale(sum_last(v), 1.0 / double(k)), row, x.shape());
  };
  (void)rows;
  const Tensor centred = add(x, scale(mean_of(x), -1));
  const Tensor rstd = map(
      mean_of(multiply(centred, centred)), [=](double v) { return 1 / std::sqrt(v + eps); },
      [=](double v) { return -0.5 * std::pow(v + eps, -1.5); });
  return multiply(centred, rstd);
}

Tensor affine(const Tensor& x, const Tensor& w, const Tensor& b) {
  const int64_t k = x.dim(-1);
  std::vector<int64_t> column(size_t(x.numel()));
  for (size_t i = 0; i < column.size(); ++i) column[i] = int64_t(i) % k;
  Tensor y = multiply(x, gather(w, column, x.shape()));
  return b ? add(y, gather(b, column, x.shape())) : y;
}

Tensor linear(const Tensor& x, const Tensor& w, const Tensor& b) {
  const int64_t k = w.dim(1), n = w.dim(0), rows = x.numel() / k;
  std::vector<int64_t> same(size_t(x.numel())), weights(size_t(w.numel()));
  for (size_t i = 0; i < same.size(); ++i) same[i] = int64_t(i);
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = int64_t(i);
  const Tensor y = matmul_nt(gather(x, same, {1, rows, k}), gather(w, weights, {1, n, k}));
  std::vector<int64_t> all(size_t(y.numel())), column(size_t(y.numel()));
  for (size_t i = 0; i < all.size(); ++i) all[i] = int64_t(i), column[i] = int64_t(i) % n;
  const Shape shape = x.shape().with_last(n);
  const Tensor flat = gather(y, all, shape);
  return b ? add(flat, gather(b, column, shape)) : flat;
}

Tensor permute(const Tensor& x, const std::vector<int>& dims) {
  Shape shape;
  for (int d : dims) shape.push_back(x.dim(d));
  std::vector<int64_t> strides(dims.size());
  for (size_t i = 0; i < dims.size(); ++i) {
    strides[i] = 1;
    for (int d = dims[i] + 1; d < x.dims(); ++d) strides[i] *= x.dim(d);
  }
  std::vector<int64_t> index(size_t(x.numel()));
  for (size_t i = 0; i < index.size(); ++i) {
    int64_t rest = int64_t(i), from = 0;
    for (int d = shape.size() - 1; d >= 0; --d)
      from += rest % shape[d] * strides[size_t(d)], rest /= shape[d];
    index[i] = from;
  }
  return gather(x, index, shape);
}

Tensor conv2d(const Tensor& x, const Tensor& w, const Tensor& b, int stride, int top, int left,
              int bottom, int right) {
  const int64_t batch = x.dim(0), h = x.dim(1), wd = x.dim(2), cin = x.dim(3);
  const int64_t cout = w.dim(0), kh = w.dim(1), kw = w.dim(2);
  const int64_t oh = (h + top + bottom - kh) / stride + 1;
  const int64_t ow = (wd + left + right - kw) / stride + 1;
  std::vector<int64_t> patch;
  for (int64_t n = 0; n < batch; ++n)
    for (int64_t y = 0; y < oh; ++y)
      for (int64_t xx = 0; xx < ow; ++xx)
        for (int64_t i = 0; i < kh; ++i)
          for (int64_t j = 0; j < kw; ++j)
            for (int64_t c = 0; c < cin; ++c) {
              const int64_t r = y * stride + i - top, q = xx * stride + j - left;
              const bool inside = r >= 0 && r < h && q >= 0 && q < wd;
              patch.push_back(inside ? ((n * h + r) * wd + q) * cin + c : -1);
            }
  const Tensor patches = gather(x, patch, {batch, oh, ow, kh * kw * cin});
  std::vector<int64_t> same(size_t(w.numel()));
  for (size_t i = 0; i < same.size(); ++i) same[i] = int64_t(i);
  return linear(patches, gather(w, same, {cout, kh * kw * cin}), b);
}

Tensor depthwise3x3(const Tensor& x, const Tensor& w, const Tensor& b, int stride) {
  const int64_t batch = x.dim(0), h = x.dim(1), wd = x.dim(2), c = x.dim(3);
  const int64_t oh = (h - 1) / stride + 1, ow = (wd - 1) / stride + 1;
  const Shape taps{batch, oh, ow, c, 9};
  std::vector<int64_t> from, weight, channel;
  for (int64_t i = 0; i < taps.numel(); ++i) {
    const int64_t k = i % 9, ch = i / 9 % c, xx = i / 9 / c % ow, y = i / 9 / c / ow % oh,
                  n = i / 9 / c / ow / oh;
    const int64_t r = y * stride + k / 3 - 1, q = xx * stride + k % 3 - 1;
    const bool inside = r >= 0 && r < h && q >= 0 && q < wd;
    from.push_back(inside ? ((n * h + r) * wd + q) * c + ch : -1);
    weight.push_back(k * c + ch);
    if (k == 0) channel.push_back(ch);
  }
  const Tensor y = sum_last(multiply(gather(x, from, taps), gather(w, weight, taps)));
  return b ? add(y, gather(b, channel, y.shape())) : y;
}

}  // namespace sg::test::naive
