#include "core/compute.h"

#include "core/backend.h"

namespace sg {

Device parse_usable_device(const std::string& device) {
  const Device d = parse_device(device);
  if (d.type == DeviceType::cpu && cuda_required())
    fail(ExitCode::usage,
         "--device: SG_REQUIRE_CUDA is set, and this would compute on the cpu; use --device cuda, "
         "or unset SG_REQUIRE_CUDA");
  backend(d.type).require(d);
  return d;
}

Compute parse_compute(const std::string& device, const std::string& dtype) {
  Compute c{parse_usable_device(device)};
  const bool cuda = c.device.type == DeviceType::cuda;
  if (dtype == "auto")
    c.dtype = cuda ? Dtype::bf16 : Dtype::f32;
  else
    c.dtype = parse_dtype(dtype);
  if (c.dtype != Dtype::f32 && !(cuda && c.dtype == Dtype::bf16))
    fail(ExitCode::usage, "--dtype: {} is not implemented on {}; use {}", dtype, str(c.device),
         cuda ? "f32 or bf16" : "f32");
  return c;
}

}  // namespace sg
