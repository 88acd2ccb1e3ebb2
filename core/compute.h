// Where a program computes, and in which precision.
#pragma once
#include <string>

#include "core/device.h"
#include "core/dtype.h"

namespace sg {

struct Compute {
  Device device;
  Dtype dtype = Dtype::f32;  // of activations and matmuls; f32 or, on cuda, bf16
  std::string reason;        // for the CPU, where "auto" found no GPU: why; else empty
};

constexpr const char* kDeviceHelp =
    "auto: the GPU where a usable one is, else the CPU; or cpu, cuda, cuda:N";
constexpr const char* kDtypeHelp =
    "of activations: f32, bf16 (cuda; weights, sums and statistics stay f32), or auto: bf16 on "
    "cuda, f32 on cpu";

// From --device: a device that can be used; dtype stays as it is. "auto" is the first usable GPU,
// else the CPU. Throws ExitCode::usage where the build or the machine does not have what is asked
// for, and where it is the CPU although SG_REQUIRE_CUDA is set.
Compute parse_usable_device(const std::string& device);

// From --device and --dtype. Throws as above, and ExitCode::usage where the device does not have
// the dtype.
Compute parse_compute(const std::string& device, const std::string& dtype);

// "computing on cuda:0: NVIDIA H200, 139.8 GiB", "computing on cpu: no NVIDIA driver is installed"
std::string describe(const Compute& compute);

}  // namespace sg
