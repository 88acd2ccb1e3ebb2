#include "tools/bench/roofline.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "core/cpu/gemm.h"
#include "core/cpu/parallel.h"
#include "ops/linear/linear.h"

namespace sg::benchmark {
namespace {

// The fastest of several runs, seconds.
double fastest(Device device, const std::function<void()>& work) {
  constexpr int kRuns = 20;
  Backend& b = backend(device.type);
  Stream& stream = current_stream(device);
  double best = INFINITY;
  for (int i = 0; i < kRuns; ++i) {
    const auto begin = b.event(device), end = b.event(device);
    begin->record(stream);
    work();
    end->record(stream), end->synchronize();
    best = std::min(best, end->seconds_since(*begin));
  }
  return best;
}

// Operations a second of a square matmul, n large enough to keep all of the device busy.
double matmul_flops(Device device, Dtype dtype) {
  const autograd::NoGrad no_grad;
  const bool on_cpu = device.type == DeviceType::cpu;
  const int64_t n = on_cpu ? 1024 : 8192;
  const Tensor a = full({n, n}, 0.5, dtype, device), b = full({n, n}, 0.25, dtype, device);
  Tensor y = empty({n, n}, dtype, device);
  return 2.0 * double(n * n * n) / fastest(device, [&] {
           if (!on_cpu) return void(linear(a, b, {}));
           dispatch<float, double, bf16>(dtype, "roofline", [&]<class S>() {
             gemm<S>(n, n, n, {a.data<S>(), n}, {b.data<S>(), n}, y.data<S>());
           });
         });
}

double copied_bytes(Device device) {
  const bool on_cpu = device.type == DeviceType::cpu;
  const Tensor from = zeros({int64_t{1} << (on_cpu ? 26 : 30)}, Dtype::u8, device);
  Tensor to = zeros(from.shape(), Dtype::u8, device);
  return 2.0 * double(from.bytes()) / fastest(device, [&] {
           if (!on_cpu) return to.copy_(from);
           parallel_for(from.numel(), 1 << 20, [&](int64_t begin, int64_t end) {
             std::memcpy(to.data<uint8_t>() + begin, from.data<uint8_t>() + begin,
                         size_t(end - begin));
           });
         });
}

}  // namespace

Roofline measure_roofline(Device device, Dtype dtype) {
  Roofline r{.dtype = dtype, .matmul_flops = matmul_flops(device, dtype)};
  const Dtype acc = acc_dtype(dtype);
  r.flops = acc == dtype ? r.matmul_flops : matmul_flops(device, acc);
  r.bytes = copied_bytes(device);
  Allocator::of(device).release_cached();
  return r;
}

bool is_matmul(const std::string& op) {
  return op.starts_with("linear.") || op.starts_with("conv2d.") || op.starts_with("attention.");
}

Limit limit_of(const Roofline& r, const std::string& op, const profile::Row& row) {
  const double arithmetic = row.flops / (is_matmul(op) ? r.matmul_flops : r.flops);
  const double traffic = row.bytes / r.bytes;
  if (arithmetic < traffic) return {traffic, "bytes"};
  return {arithmetic, std::string(name_of(is_matmul(op) ? r.dtype : acc_dtype(r.dtype)))};
}

}  // namespace sg::benchmark
