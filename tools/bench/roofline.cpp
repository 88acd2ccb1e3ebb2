#include "tools/bench/roofline.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "core/cpu/gemm.h"
#include "core/cpu/parallel.h"
#include "core/tensor.h"

namespace sg::benchmark {
namespace {

// The fastest of several runs, seconds.
template <class F>
double fastest(int runs, const F& f) {
  double best = 1e9;
  for (int i = 0; i < runs; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    f();
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return best;
}

}  // namespace

Roofline measure_roofline() {
  Roofline c;
  {
    const int64_t n = 1024;
    const Tensor a = full({n, n}, 0.5), b = full({n, n}, 0.25);
    Tensor y = empty({n, n});
    const double s = fastest(20, [&] {
      gemm<float>(n, n, n, {a.data<float>(), n}, {b.data<float>(), n}, y.data<float>());
    });
    c.flops = 2.0 * double(n * n * n) / s;
  }
  {
    const Tensor from = full({int64_t{64} << 20}, 1, Dtype::u8);
    Tensor to = full(from.shape(), 0, Dtype::u8);
    const double s = fastest(10, [&] {
      parallel_for(from.numel(), 1 << 20, [&](int64_t begin, int64_t end) {
        std::memcpy(to.data<uint8_t>() + begin, from.data<uint8_t>() + begin, size_t(end - begin));
      });
    });
    c.bytes = 2.0 * double(from.bytes()) / s;
  }
  Allocator::of({}).release_cached();
  return c;
}

}  // namespace sg::benchmark
