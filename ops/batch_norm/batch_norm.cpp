#include "ops/batch_norm/batch_norm.h"

#include "core/profile.h"

namespace sg {
namespace {

// (P, ...) of `mine` of every part, in order.
Tensor gather_parts(const Tensor& mine, BatchParts* parts) {
  Shape shape{parts ? parts->count() : 1};
  for (int i = 0; i < mine.dims(); ++i) shape.push_back(mine.dim(i));
  if (!parts) return mine.view(shape);
  Tensor all = empty(shape, mine.dtype(), mine.device());
  parts->all_gather(mine, all);
  return all;
}

}  // namespace

Tensor batch_norm(const Tensor& x, const Tensor& w, const Tensor& b, Tensor running_mean,
                  Tensor running_var, const BatchNormSettings& settings) {
  const Activation act = settings.act;
  check(act != Activation::gelu, "batch_norm: an activation of none or relu, found gelu");
  check(x.dims() >= 2, "batch_norm: x: expected 2 dimensions or more, found {}", x.shape().str());
  const int64_t c = x.dim(-1), rows = c ? x.numel() / c : 0;
  for (const auto& [name, t] : {std::pair<const char*, const Tensor&>{"w", w},
                                {"b", b},
                                {"running_mean", running_mean},
                                {"running_var", running_var}}) {
    check_shape("batch_norm", name, t, {c});
    check_acc_dtype("batch_norm", name, t, x);
  }
  autograd::refuse_grad("batch_norm: running statistics", {running_mean, running_var});
  const bool alone = !settings.parts || settings.parts->count() == 1;
  check(!settings.training || !alone || rows >= 2,
        "batch_norm: x: {} has {} value(s) a channel; the variance of a batch needs two or more",
        x.shape().str(), rows);

  const std::vector<Tensor> inputs{x, w, b};
  const bool training = settings.training;
  BatchParts* const parts = settings.parts;
  Tensor y = empty_like(x), stats = empty({2 * c + 1}, acc_dtype(x.dtype()), x.device());
  {
    const profile::OpScope scope("batch_norm.fwd", (training ? 9.0 : 4.0) * double(x.numel()),
                                 (training ? 3.0 : 2.0) * double(x.bytes()));
    Tensor all;
    if (training) {
      Tensor part = empty_like(stats);
      kernels::batch_norm_part(x.stream(), x, part);
      all = gather_parts(part, parts);
    }
    kernels::batch_norm_stats(x.stream(), all, settings, running_mean, running_var, stats);
    kernels::batch_norm_fwd(x.stream(), x, w, b, stats, act, y);
  }
  autograd::record("batch_norm", {&y}, inputs, [=](autograd::Backward& g) {
    const bool sum = training || g.wants(1) || g.wants(2);
    const profile::OpScope scope("batch_norm.bwd", (sum ? 16.0 : 8.0) * double(x.numel()),
                                 (sum ? 5.0 : 3.0) * double(x.bytes()));
    Stream& stream = x.stream();
    Tensor sums;
    if (sum) {
      sums = empty({2, c}, stats.dtype(), x.device());
      kernels::batch_norm_sums(stream, g.dy(), x, w, b, stats, act, sums, g.grad(1), g.grad(2));
    }
    const Grad dx = g.grad(0);
    if (!dx) return;
    kernels::batch_norm_dx(stream, g.dy(), x, w, b, stats,
                           training ? gather_parts(sums, parts) : Tensor(), act, dx);
  });
  return y;
}

}  // namespace sg
