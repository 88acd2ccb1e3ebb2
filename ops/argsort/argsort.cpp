#include "ops/argsort/argsort.h"

#include <limits>

#include "core/profile.h"

namespace sg {

Tensor argsort(const Tensor& significance) {
  check_dims("argsort", "significance", significance, 3);
  autograd::refuse_grad("argsort", {significance});
  const int64_t n = significance.dim(1) * significance.dim(2);
  check(n <= std::numeric_limits<int32_t>::max(),
        "argsort: significance: {} has more tokens an image than an i32 can number",
        significance.shape().str());
  Tensor order = empty({significance.dim(0), n}, Dtype::i32, significance.device());
  const profile::OpScope scope("argsort", 0, double(significance.bytes() + order.bytes()));
  kernels::argsort(significance.stream(), significance, order);
  return order;
}

}  // namespace sg
