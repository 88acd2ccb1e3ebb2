#include "ops/linear/linear.h"

#include "core/profile.h"
#include "ops/operand.h"

namespace sg {

Tensor linear(const Tensor& x, const Tensor& w, const Tensor& b) {
  check(x.defined() && x.dims() >= 1, "linear: x: expected at least one dimension");
  check_dims("linear", "w", w, 2);
  const int64_t n = w.dim(0), k = w.dim(1);
  check(n > 0 && k > 0, "linear: w: expected rows and columns, found {}", w.shape().str());
  check_shape("linear", "x", x, x.shape().with_last(k));
  check_operand("linear", "w", w, x);
  if (b) {
    check_shape("linear", "b", b, {n});
    check_operand("linear", "b", b, x);
  }

  Tensor y = empty(x.shape().with_last(n), x.dtype(), x.device());
  const double macs = double(x.numel()) * double(n);
  const double bytes = double(x.bytes() + w.bytes() + y.bytes());
  {
    const profile::OpScope scope("linear.fwd", profile::multiply_adds(macs), bytes);
    kernels::linear_fwd(x.stream(), x, as_operand(w, x), as_operand(b, x), y);
  }
  autograd::record("linear", {&y}, {x, w, b}, [=](autograd::Backward& g) {
    const int products = int(g.wants(0)) + int(g.wants(1));
    const profile::OpScope scope("linear.bwd", profile::multiply_adds(products * macs),
                                 products * bytes);
    const Tensor& sums = g.dy_column_sums();
    if (sums) g.forward_grad(2, sums);
    kernels::linear_bwd(x.stream(), g.dy(), x, as_operand(w, x), g.grad(0), g.grad(1),
                        sums ? Grad() : g.grad(2));
  });
  if (autograd::requires_grad(b)) autograd::ask_for_column_sums(y);
  return y;
}

}  // namespace sg
