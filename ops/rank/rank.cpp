#include "ops/rank/rank.h"

#include <limits>

#include "core/profile.h"

namespace sg {

Tensor rank_ascending(const Tensor& significance) {
  check_dims("rank", "significance", significance, 3);
  autograd::refuse_grad("rank", {significance});
  const int64_t n = significance.dim(1) * significance.dim(2);
  check(n <= std::numeric_limits<int32_t>::max(),
        "rank: significance: {} has more tokens an image than an i32 can number",
        significance.shape().str());
  const Tensor order = empty({significance.dim(0), n}, Dtype::i32, significance.device());
  const profile::Scope scope("rank", 0, double(significance.bytes() + order.bytes()));
  kernels::rank_ascending(significance.stream(), significance, order);
  return order;
}

}  // namespace sg
