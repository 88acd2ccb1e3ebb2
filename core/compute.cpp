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

Compute parse_compute(const std::string& device, const std::string& dtype,
                      Bf16Emulation emulation) {
  Compute c = parse_usable_device(device);
  const bool cuda = c.device.type == DeviceType::cuda;
  c.is_auto_dtype = dtype == "auto";
  if (c.is_auto_dtype)
    c.dtype = cuda ? Dtype::bf16 : Dtype::f32;
  else if (dtype == name_of(Dtype::f32) || dtype == name_of(Dtype::bf16))
    c.dtype = parse_dtype(dtype);
  else
    fail(ExitCode::usage, "--dtype: expected auto, f32 or bf16, found '{}'", dtype);
  if (c.dtype == Dtype::bf16 && !cuda && !has_bf16_products() &&
      emulation != Bf16Emulation::requested)
    fail(ExitCode::usage,
         "--dtype bf16: this CPU does not multiply bf16, which takes AVX512-BF16 or AMX; it has "
         "{}; use f32{}",
         cpu_instructions(),
         emulation == Bf16Emulation::never
             ? ""
             : ", or --emulate-bf16 for the numbers of bf16 by slower conversions");
  return c;
}

std::string describe_dtype(const Compute& c) {
  const std::string name(name_of(c.dtype));
  if (c.dtype != Dtype::bf16 || c.device.type != DeviceType::cpu) return name;
  return name + " by " + (has_bf16_products() ? cpu_instructions() : "conversion to f32");
}

std::string describe(const Compute& c) {
  const bool cpu = c.device.type == DeviceType::cpu;
  const std::string limit = cpu ? limit_of_threads() : "";
  return fmt::format(
      "computing on {}: {}{}{}; {}{}", str(c.device),
      c.reason.empty() ? backend(c.device.type).describe(c.device) : c.reason,
      limit.empty() ? "" : "; ", limit, describe_dtype(c),
      cpu && c.is_auto_dtype && has_bf16_products() ? " (--dtype bf16 is faster on this CPU)" : "");
}

}  // namespace sg
