#include "ops/aggregate/aggregate.h"

#include "core/profile.h"

namespace sg {
namespace {

// Returns the number of aggregated tokens.
int64_t check_regions(const std::vector<Region>& regions, int64_t virtual_tokens, int64_t n) {
  check(regions.size() <= size_t(kMaxRegions), "aggregate: {} regions, expected at most {}",
        regions.size(), kMaxRegions);
  int64_t tokens = 0, ranks = 0;
  for (size_t i = 0; i < regions.size(); ++i) {
    const auto& [count, r] = regions[i];
    check(count >= 0 && r >= 1, "aggregate: region {}: {} chunks of {} ranks", i, count, r);
    check(ranks > 0 || count == 0 || (0 <= virtual_tokens && virtual_tokens < r),
          "aggregate: virtual_tokens: expected 0 to {}, so that each chunk has a real token, found "
          "{}",
          r - 1, virtual_tokens);
    tokens += count;
    ranks += count * r;
  }
  check(ranks == virtual_tokens + n,
        "aggregate: the regions hold {} ranks, expected {} virtual + {} real tokens", ranks,
        virtual_tokens, n);
  return tokens;
}

}  // namespace

Tensor aggregate(const Tensor& x, const Tensor& order, const std::vector<Region>& regions,
                 const std::vector<Tensor>& w, const std::vector<Tensor>& b,
                 int64_t virtual_tokens) {
  check_dims("aggregate", "x", x, 4);
  const int64_t batch = x.dim(0), n = x.dim(1) * x.dim(2), c = x.dim(3);
  check_shape("aggregate", "order", order, {batch, n});
  check(order.dtype() == Dtype::i32 && order.device() == x.device(),
        "aggregate: order: expected i32 on {}, found {} on {}", str(x.device()),
        name_of(order.dtype()), str(order.device()));
  check(w.size() == regions.size() && b.size() == regions.size(),
        "aggregate: {} regions but {} weights and {} biases", regions.size(), w.size(), b.size());
  for (size_t i = 0; i < regions.size(); ++i) {
    check_shape("aggregate", fmt::format("w[{}]", i), w[i], {regions[i].r});
    check_shape("aggregate", fmt::format("b[{}]", i), b[i], {1});
    check_acc_dtype("aggregate", fmt::format("w[{}]", i), w[i], x);
    check_acc_dtype("aggregate", fmt::format("b[{}]", i), b[i], x);
  }
  const int64_t tokens = check_regions(regions, virtual_tokens, n);

  Tensor y = empty({batch, 1, tokens, c}, x.dtype(), x.device());
  const double bytes = double(x.bytes() + y.bytes() + order.bytes());
  {
    const profile::OpScope scope("aggregate.fwd", profile::multiply_adds(double(x.numel())), bytes);
    kernels::aggregate_fwd(x.stream(), x, order, regions, w, b, virtual_tokens, y);
  }
  std::vector<Tensor> inputs{x};
  inputs.insert(inputs.end(), w.begin(), w.end());
  inputs.insert(inputs.end(), b.begin(), b.end());
  autograd::record("aggregate", {&y}, inputs, [=](autograd::Backward& g) {
    const profile::OpScope scope("aggregate.bwd", 3.0 * double(x.numel()),
                                 bytes + double(x.bytes()));
    const int count = int(regions.size());
    std::vector<Grad> dw, db;
    for (int i = 0; i < count; ++i)
      dw.push_back(g.grad(1 + i)), db.push_back(g.grad(1 + count + i));
    kernels::aggregate_bwd(x.stream(), g.dy(), x, order, regions, w, virtual_tokens, g.grad(0), dw,
                           db);
  });
  return y;
}

}  // namespace sg
