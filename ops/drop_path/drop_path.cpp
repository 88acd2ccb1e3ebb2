#include "ops/drop_path/drop_path.h"

#include "core/profile.h"

namespace sg {

Tensor drop_path_add(const Tensor& x, const Tensor& branch, const Tensor& keep) {
  check(x.defined() && x.dims() >= 1, "drop_path_add: x: expected at least one dimension");
  check_shape("drop_path_add", "branch", branch, x.shape());
  check_like("drop_path_add", "branch", branch, x);
  if (keep) {
    check_shape("drop_path_add", "keep", keep, {x.dim(0)});
    check_acc_dtype("drop_path_add", "keep", keep, x);
    autograd::refuse_grad("drop_path_add: keep", {keep});
  }
  Tensor y = empty_like(x);
  const double ops = 2.0 * double(x.numel()), bytes = double(x.bytes());
  {
    const profile::OpScope scope("drop_path.fwd", ops, 3 * bytes);
    kernels::drop_path_fwd(x.stream(), x, branch, keep, y);
  }
  autograd::record("drop_path_add", {&y}, {x, branch}, [=](autograd::Backward& g) {
    g.forward_grad(0, g.dy());
    if (!keep) return g.forward_grad(1, g.dy());
    if (!g.wants(1)) return;
    const profile::OpScope scope("drop_path.bwd", ops / 2, 2 * bytes);
    kernels::drop_path_bwd(g.dy().stream(), g.dy(), keep, g.grad(1));
  });
  return y;
}

void draw_drop_path(double rate, uint64_t seed, uint64_t step, uint32_t layer, int64_t first_sample,
                    Out keep) {
  check(rate >= 0 && rate < 1, "drop_path: rate: expected [0, 1), found {}", rate);
  // Layers take the high bits of the step's word: a run has fewer than 2^40 steps.
  check(step >> 40 == 0 && layer < (1u << 16), "drop_path: step {}, layer {} out of range", step,
        layer);
  dispatch<float, double>(keep.dtype(), "drop_path", [&]<class T>() {
    for (int64_t i = 0; i < keep.numel(); ++i) {
      Random random(seed, Purpose::drop_path, uint64_t(layer) << 40 | step,
                    uint64_t(first_sample + i));
      keep.data<T>()[i] = random.bernoulli(rate) ? T(0) : T(1 / (1 - rate));
    }
  });
}

}  // namespace sg
