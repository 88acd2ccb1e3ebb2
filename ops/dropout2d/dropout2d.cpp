#include "ops/dropout2d/dropout2d.h"

#include "core/profile.h"

namespace sg {

Tensor dropout2d(const Tensor& x, const Tensor& keep) {
  check_dims("dropout2d", "x", x, 4);
  check_shape("dropout2d", "keep", keep, {x.dim(0), x.dim(3)});
  check_acc_dtype("dropout2d", "keep", keep, x);
  autograd::refuse_grad("dropout2d: keep", {keep});
  Tensor y = empty_like(x);
  const double ops = double(x.numel()), bytes = 2.0 * double(x.bytes());
  {
    const profile::OpScope scope("dropout2d.fwd", ops, bytes);
    kernels::dropout2d(x.stream(), x, keep, {y, false});
  }
  autograd::record("dropout2d", {&y}, {x}, [=](autograd::Backward& g) {
    const profile::OpScope scope("dropout2d.bwd", ops, bytes);
    kernels::dropout2d(g.dy().stream(), g.dy(), keep, g.grad(0));
  });
  return y;
}

void draw_dropout2d(double rate, uint64_t seed, uint64_t step, uint32_t layer, int64_t first_sample,
                    Out keep) {
  check(rate >= 0 && rate < 1, "dropout2d: rate: expected [0, 1), found {}", rate);
  // Layers take the high bits of the step's word: a run has fewer than 2^40 steps.
  check(step >> 40 == 0 && layer < (1u << 16), "dropout2d: step {}, layer {} out of range", step,
        layer);
  check_dims("draw_dropout2d", "keep", keep, 2);
  dispatch<float, double>(keep.dtype(), "dropout2d", [&]<class T>() {
    T* to = keep.data<T>();
    for (int64_t i = 0; i < keep.dim(0); ++i) {
      Random random(seed, Purpose::dropout, uint64_t(layer) << 40 | step,
                    uint64_t(first_sample + i));
      for (int64_t c = 0; c < keep.dim(1); ++c)
        *to++ = random.bernoulli(rate) ? T(0) : T(1 / (1 - rate));
    }
  });
}

}  // namespace sg
