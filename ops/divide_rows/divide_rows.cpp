#include "ops/divide_rows/divide_rows.h"

#include "core/profile.h"

namespace sg {

void divide_rows(Tensor& x, const Tensor& divisors) {
  check_dims("divide_rows", "x", x, 2);
  check(!x.meta(), "divide_rows: x: is on the tape, and would be changed");
  check_shape("divide_rows", "divisors", divisors, {x.dim(0)});
  check_like("divide_rows", "divisors", divisors, x);
  const profile::OpScope scope("divide_rows", double(x.numel()), 2.0 * double(x.bytes()));
  kernels::divide_rows(x.stream(), x, divisors);
}

}  // namespace sg
