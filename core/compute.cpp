#include "core/compute.h"

#include "core/backend.h"
#include "core/cpu/bf16_products.h"
#include "core/cpu/cores.h"

namespace sg {
namespace {

// The first GPU that can be used, else the CPU and why GPU 0 cannot.
Compute choose_device() {
  const int devices = has_backend(DeviceType::cuda) ? backend(DeviceType::cuda).device_count() : 0;
  for (int i = 0; i < devices; ++i)
    if (const Device device{DeviceType::cuda, i}; !obstacle(device)) return {device};
  const auto found = obstacle({DeviceType::cuda, 0});
  check(found.has_value(), "device auto: there is no GPU, and yet cuda:0 can be used");
  return {.reason = found->reason};
}

}  // namespace

Compute parse_usable_device(const std::string& device) {
  const Compute c = device == "auto" ? choose_device() : Compute{parse_device(device)};
  if (c.device.type == DeviceType::cpu && cuda_required())
    fail(ExitCode::usage,
         "--device: SG_REQUIRE_CUDA is set, and this would compute on the cpu{}; use --device "
         "cuda, or unset SG_REQUIRE_CUDA",
         c.reason.empty() ? "" : fmt::format(" ({})", c.reason));
  require(c.device);
  return c;
}

Compute parse_compute(const std::string& device, const std::string& dtype) {
  Compute c = parse_usable_device(device);
  const bool cuda = c.device.type == DeviceType::cuda;
  if (dtype == "auto")
    c.dtype = cuda ? Dtype::bf16 : Dtype::f32;
  else
    c.dtype = parse_dtype(dtype);
  if (c.dtype != Dtype::f32 && c.dtype != Dtype::bf16)
    fail(ExitCode::usage, "--dtype: {} is not implemented; use f32 or bf16", dtype);
  if (c.dtype == Dtype::bf16 && !cuda && !has_bf16_products())
    fail(ExitCode::usage,
         "--dtype: this CPU does not multiply bf16 (AVX512-BF16 or AMX), and would be several "
         "times slower than with f32; use f32");
  return c;
}

std::string describe(const Compute& c) {
  const std::string limit = c.device.type == DeviceType::cpu ? limit_of_threads() : "";
  return fmt::format("computing on {}: {}{}{}", str(c.device),
                     c.reason.empty() ? backend(c.device.type).describe(c.device) : c.reason,
                     limit.empty() ? "" : "; ", limit);
}

}  // namespace sg
