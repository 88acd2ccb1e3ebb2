#include "core/cpu/add_into.h"

#include "autograd/add_into.h"
#include "core/cpu/parallel.h"

namespace sg {
namespace {

void add(Stream&, In x, Out y) {
  dispatch<float, double, bf16>(y.dtype(), "add_into", [&]<class S>() {
    const S* const from = x.data<S>();
    S* const to = y.data<S>();
    parallel_for(y.numel(), 1 << 14, [&](int64_t begin, int64_t end) {
      add_into(from + begin, to + begin, end - begin);
    });
  });
}
const Register r{kernels::add_into, DeviceType::cpu, add};

}  // namespace
}  // namespace sg
