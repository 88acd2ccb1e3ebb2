#include "autograd/gradcheck.h"

#include <cmath>

#include "autograd/tape.h"
#include "core/rng.h"

namespace sg::autograd {
namespace {

constexpr int kDirections = 3, kElements = 6;

Tensor random_like(const Tensor& t, uint64_t stream) {
  Random random(0, Purpose::test, stream);
  Tensor r = empty_like(t);
  for (double& v : r.span<double>()) v = random.uniform(-1, 1);
  return r;
}

double dot(const Tensor& a, const Tensor& b) {
  double sum = 0;
  for (int64_t i = 0; i < a.numel(); ++i) sum += a.data<double>()[i] * b.data<double>()[i];
  return sum;
}

}  // namespace

GradcheckResult gradcheck(const Differentiable& f, const std::vector<Tensor>& inputs,
                          const std::vector<bool>& wanted, double step) {
  std::vector<Tensor> leaves, upstream;
  const auto is_wanted = [&](size_t i) { return wanted.empty() || wanted[i]; };
  for (size_t i = 0; i < inputs.size(); ++i)
    leaves.push_back(is_wanted(i) ? leaf(inputs[i]) : inputs[i]);
  const std::vector<Tensor> outputs = f(leaves);
  std::vector<Tensor> on_tape, gradients;
  for (const Tensor& y : outputs) {
    upstream.push_back(requires_grad(y) ? random_like(y, 1000 + upstream.size()) : Tensor());
    if (requires_grad(y)) on_tape.push_back(y), gradients.push_back(upstream.back());
  }
  backward(on_tape, gradients);

  const auto value = [&](const std::vector<Tensor>& x) {
    const NoGrad no_grad;
    const std::vector<Tensor> y = f(x);
    double sum = 0;
    for (size_t k = 0; k < y.size(); ++k)
      if (upstream[k]) sum += dot(y[k], upstream[k]);
    return sum;
  };
  GradcheckResult worst;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!is_wanted(i)) continue;
    const Tensor g = grad_of(leaves[i]);
    check(g.defined(), "gradcheck: no gradient reached input {}", i);
    Random random(1, Purpose::test, i);
    for (int probe = 0; probe < kDirections + kElements; ++probe) {
      Tensor v = zeros(inputs[i].shape(), Dtype::f64);
      if (probe < kDirections)
        v = random_like(inputs[i], uint64_t(probe) + 10 * i);
      else
        v.data<double>()[random.integer(0, v.numel() - 1)] = 1;
      const auto at = [&](double h) {
        std::vector<Tensor> x = inputs;
        x[i] = inputs[i].clone();
        for (int64_t k = 0; k < v.numel(); ++k) x[i].data<double>()[k] += h * v.data<double>()[k];
        return value(x);
      };
      const double numeric =
          (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step);
      const double scale = std::sqrt(dot(g, g) * dot(v, v)) + 1e-12;
      const double error = std::abs(numeric - dot(g, v)) / scale;
      if (!(error <= worst.error))
        worst = {error, fmt::format("input {}, {} {}", i,
                                    probe < kDirections ? "direction" : "element", probe)};
    }
  }
  return worst;
}

}  // namespace sg::autograd
