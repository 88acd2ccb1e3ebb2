#include "tests/sgformer/literal_layers.h"

#include <cmath>
#include <numeric>

#include "tests/support/naive.h"

namespace sg::test {

using namespace naive;

Tensor reshape(const Tensor& x, Shape shape) {
  Index same(size_t(x.numel()));
  std::iota(same.begin(), same.end(), 0);
  return gather(x, same, shape);
}

Tensor relu(const Tensor& x) {
  return map(
      x, [](double v) { return std::max(v, 0.0); }, [](double v) { return v > 0 ? 1.0 : 0.0; });
}

Tensor lin(const LiteralWeights& w, const std::string& name, const Tensor& x) {
  return linear(x, w(name + ".weight"), w(name + ".bias"));
}

Tensor conv(const LiteralWeights& w, const std::string& name, const Tensor& x) {
  const Tensor k = w(name + ".weight");
  const std::string bias = w.prefix + name + ".bias";
  const int pad = int(k.dim(2)) / 2;
  return conv2d(x, permute(k, {0, 2, 3, 1}), w.leaves.contains(bias) ? w.leaves.at(bias) : Tensor(),
                1, pad, pad, pad, pad);
}

Tensor bilinear(int64_t in, int64_t out) {
  Tensor m = zeros({1, out, in}, Dtype::f64);
  for (int64_t i = 0; i < out; ++i) {
    const double at = std::max(0.0, (double(i) + 0.5) * double(in) / double(out) - 0.5);
    const auto first = int64_t(std::floor(at));
    double* row = m.data<double>() + i * in;
    row[first] += 1 - (at - double(first));
    row[std::min(first + 1, in - 1)] += at - double(first);
  }
  return m;
}

Tensor nearest(int64_t in, int64_t out) {
  Tensor m = zeros({1, out, in}, Dtype::f64);
  for (int64_t i = 0; i < out; ++i) m.data<double>()[i * in + i * in / out] = 1;
  return m;
}

Tensor pooled(int64_t in, int64_t out) {
  Tensor m = zeros({1, out, in}, Dtype::f64);
  for (int64_t i = 0; i < out; ++i) {
    const int64_t begin = i * in / out, end = ((i + 1) * in + out - 1) / out;
    for (int64_t k = begin; k < end; ++k) m.data<double>()[i * in + k] = 1 / double(end - begin);
  }
  return m;
}

Tensor resize(Rows rows, const Tensor& x, int64_t height, int64_t width) {
  const int64_t b = x.dim(0), h = x.dim(1), w = x.dim(2), c = x.dim(3);
  const Tensor columns = reshape(permute(x, {0, 2, 3, 1}), {1, b * w * c, h});
  const Tensor tall = matmul_nt(rows(h, height), columns);  // (height, B, w, C)
  const Tensor across =
      reshape(permute(reshape(tall, {height, b, w, c}), {0, 1, 3, 2}), {1, height * b * c, w});
  const Tensor both = matmul_nt(rows(w, width), across);  // (width, height, B, C)
  return permute(reshape(both, {width, height, b, c}), {2, 1, 0, 3});
}

Tensor weighted(const Tensor& x, const std::vector<std::vector<Term>>& terms, Shape shape) {
  const int64_t c = x.dim(-1);
  Tensor y = zeros(shape, Dtype::f64);
  for (size_t o = 0; o < terms.size(); ++o)
    for (const auto& [pixel, weight] : terms[o])
      for (int64_t i = 0; i < c; ++i)
        y.data<double>()[int64_t(o) * c + i] += weight * x.data<double>()[pixel * c + i];
  const Shape x_shape = x.shape();
  autograd::record("weighted", {&y}, {x}, [=](autograd::Backward& g) {
    Tensor d = zeros(x_shape, Dtype::f64);
    for (size_t o = 0; o < terms.size(); ++o)
      for (const auto& [pixel, weight] : terms[o])
        for (int64_t i = 0; i < c; ++i)
          d.data<double>()[pixel * c + i] += weight * g.dy().data<double>()[int64_t(o) * c + i];
    g.forward_grad(0, d);
  });
  return y;
}

std::vector<Tensor> literal_fpn(const LiteralWeights& neck, const std::vector<Tensor>& maps) {
  std::vector<Tensor> laterals, pyramid;
  for (size_t i = 0; i < maps.size(); ++i)
    laterals.push_back(conv(neck, fmt::format("lateral_convs.{}.conv", i), maps[i]));
  for (size_t i = maps.size() - 1; i > 0; --i)
    laterals[i - 1] = add(laterals[i - 1], resize(nearest, laterals[i], laterals[i - 1].dim(1),
                                                  laterals[i - 1].dim(2)));
  for (size_t i = 0; i < maps.size(); ++i)
    pyramid.push_back(conv(neck, fmt::format("fpn_convs.{}.conv", i), laterals[i]));
  return pyramid;
}

}  // namespace sg::test
