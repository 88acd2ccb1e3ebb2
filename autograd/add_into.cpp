#include "autograd/add_into.h"

#include "core/profile.h"

namespace sg {

void add_into(const Tensor& x, Out y) {
  const profile::OpScope scope("add_into", double(y.numel()), 3.0 * double(y.bytes()));
  kernels::add_into(x.stream(), x, y);
}

}  // namespace sg
