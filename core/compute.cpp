#include "core/compute.h"

#include "core/backend.h"

namespace sg {

Compute parse_compute(const std::string& device, const std::string& dtype) {
  Compute c{parse_device(device)};
  const bool cuda = c.device.type == DeviceType::cuda;
  if (dtype == "auto")
    c.dtype = cuda ? Dtype::bf16 : Dtype::f32;
  else
    c.dtype = parse_dtype(dtype);
  if (c.dtype != Dtype::f32 && !(cuda && c.dtype == Dtype::bf16))
    fail(ExitCode::usage, "--dtype: {} is not implemented on {}; use {}", dtype, str(c.device),
         cuda ? "f32 or bf16" : "f32");
  backend(c.device.type).require(c.device);
  return c;
}

}  // namespace sg
